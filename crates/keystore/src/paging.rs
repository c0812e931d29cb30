//! Sorts, filters and pages for services that can only list everything, in any order and perhaps with repetitions.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;

use crate::{EntryName, Page};

/// Picks one page out of names that come in any order, holding no more than that page in memory.
#[derive(Debug)]
pub struct Pager<'a> {
    prefix: &'a str,
    after: Option<&'a str>,
    limit: NonZeroUsize,
    /// The smallest names so far: at most one more than the limit, which tells whether there is a next page.
    smallest: BTreeSet<EntryName>,
}

impl<'a> Pager<'a> {
    /// A pager for the page that [`crate::KeyStore::list`] is asked for with these arguments.
    #[must_use]
    pub fn new(prefix: &'a str, after: Option<&'a EntryName>, limit: NonZeroUsize) -> Self {
        Self {
            prefix,
            after: after.map(EntryName::as_str),
            limit,
            smallest: BTreeSet::new(),
        }
    }

    /// Whether `text` could be on the page, so that a caller can skip what costs it a look at the entry.
    #[must_use]
    pub fn wants(&self, text: &str) -> bool {
        text.starts_with(self.prefix)
            && self.after.is_none_or(|after| text > after)
            && (self.smallest.len() <= self.limit.get()
                || self.smallest.last().is_some_and(|last| text < last.as_str()))
    }

    /// Takes note of a name that the service listed. What could not be the name of a key is left out.
    pub fn offer(&mut self, text: &str) {
        if !self.wants(text) {
            return;
        }
        match EntryName::parse(text) {
            Ok(name) => {
                self.smallest.insert(name);
                if self.smallest.len() > self.limit.get().saturating_add(1) {
                    self.smallest.pop_last();
                }
            }
            Err(error) => tracing::debug!(%error, "a foreign entry in the key store is not listed"),
        }
    }

    /// The page.
    #[must_use]
    pub fn finish(mut self) -> Page {
        let more = self.smallest.len() > self.limit.get();
        if more {
            self.smallest.pop_last();
        }
        let next = if more { self.smallest.last().cloned() } else { None };
        Page {
            names: self.smallest.into_iter().collect(),
            next,
        }
    }
}

/// The page of `names` that [`crate::KeyStore::list`] is asked for with these arguments.
pub fn page<I>(names: I, prefix: &str, after: Option<&EntryName>, limit: NonZeroUsize) -> Page
where
    I: IntoIterator<Item: AsRef<str>>,
{
    let mut pager = Pager::new(prefix, after, limit);
    for name in names {
        pager.offer(name.as_ref());
    }
    pager.finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limit(n: usize) -> NonZeroUsize {
        NonZeroUsize::new(n).unwrap()
    }

    fn texts(page: &Page) -> Vec<&str> {
        page.names.iter().map(EntryName::as_str).collect()
    }

    #[test]
    fn a_page_is_sorted_by_bytes_and_has_no_repetitions() {
        let page = page(["b", "a", "_x", "B", "0", "a", "b"], "", None, limit(10));
        assert_eq!(texts(&page), ["0", "B", "_x", "a", "b"]);
        assert_eq!(page.next, None);
    }

    #[test]
    fn foreign_entries_are_left_out() {
        let listed = [".tmp-1", "a/b", "sub/", "", "ok", "_", "-a", "naïve", "x.y"];
        assert_eq!(texts(&page(listed, "", None, limit(10))), ["ok"]);
    }

    #[test]
    fn a_repetition_does_not_make_a_next_page() {
        assert_eq!(page(["a", "b", "b", "a"], "", None, limit(2)).next, None);
    }

    #[test]
    fn a_prefix_with_as_many_names_as_the_limit_gives_no_more_than_the_limit() {
        for (count, expected) in [(1, 1), (2, 1), (3, 1), (4, 1)] {
            let names = (0..count).map(|i| format!("my-{i}"));
            let page = page(names.chain(["other".to_owned()]), "my-", None, limit(1));
            assert_eq!(page.names.len(), expected);
            assert_eq!(page.next.is_some(), count > 1);
        }
    }

    proptest! {
        #[test]
        fn pages_put_together_are_the_whole_sorted_list(
            names in proptest::collection::vec("[ab_A0-]{1,3}|[.]x", 0..40),
            prefix in "[ab]{0,1}",
            size in 1_usize..8,
        ) {
            let mut expected: Vec<_> =
                names.iter().filter(|name| name.starts_with(&prefix) && EntryName::parse(name).is_ok()).cloned().collect();
            expected.sort_unstable();
            expected.dedup();

            let mut found = Vec::new();
            let mut after = None;
            loop {
                let page = page(&names, &prefix, after.as_ref(), limit(size));
                prop_assert!(page.names.len() <= size);
                found.extend(page.names.iter().map(|name| name.as_str().to_owned()));
                match page.next {
                    Some(next) => {
                        prop_assert_eq!(page.names.len(), size);
                        prop_assert_eq!(Some(&next), page.names.last());
                        after = Some(next);
                    }
                    None => break,
                }
            }
            prop_assert_eq!(found, expected);
        }
    }
}
