//! What this process remembers of names: a bounded number of the latest.

use std::collections::{HashMap, VecDeque};

use kes_keystore::EntryName;

/// A value a name, for the names that were noted last.
#[derive(Debug)]
pub(crate) struct Remembered<V> {
    values: HashMap<EntryName, V>,
    /// In the order in which they came. A name may be in it that is forgotten already, or twice.
    order: VecDeque<EntryName>,
    most: usize,
}

impl<V> Remembered<V> {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            values: HashMap::new(),
            order: VecDeque::new(),
            most,
        }
    }

    /// Notes `value` and gives what was noted before.
    pub(crate) fn note(&mut self, name: &EntryName, value: V) -> Option<V> {
        let before = self.values.insert(name.clone(), value);
        if before.is_none() {
            self.order.push_back(name.clone());
            if self.order.len() > self.most
                && let Some(oldest) = self.order.pop_front()
            {
                self.values.remove(&oldest);
            }
        }
        before
    }

    pub(crate) fn get(&self, name: &EntryName) -> Option<&V> {
        self.values.get(name)
    }

    pub(crate) fn forget(&mut self, name: &EntryName) {
        self.values.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> EntryName {
        EntryName::parse(text).unwrap()
    }

    #[test]
    fn the_latest_are_remembered_and_no_more() {
        let mut remembered = Remembered::new(3);
        for (i, text) in ["a", "b", "c", "d"].into_iter().enumerate() {
            assert_eq!(remembered.note(&name(text), i), None);
        }
        assert_eq!(remembered.note(&name("d"), 9), Some(3));
        let values: Vec<_> = ["a", "b", "c", "d"]
            .map(|text| remembered.get(&name(text)).copied())
            .to_vec();
        assert_eq!(values, [None, Some(1), Some(2), Some(9)]);
    }

    #[test]
    fn forgetting_and_noting_again_does_not_grow() {
        let mut remembered = Remembered::new(3);
        for i in 0..1000 {
            remembered.note(&name("a"), i);
            remembered.forget(&name("a"));
        }
        assert_eq!(remembered.get(&name("a")), None);
        assert!(remembered.order.len() <= 3 && remembered.values.is_empty());
    }
}
