//! The names that the service has listed a moment ago. It lists in an order of its own, so that every page takes all of its
//! names; the pages that follow the first are cut from what the first has read.

use std::num::NonZeroUsize;
use std::time::Duration;

use kes_keystore::{EntryName, Page};
use kes_types::Monotonic;

/// The latest listing, while it is good for further pages.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    held: Option<Held>,
    /// How often this process has changed what there is to list.
    changes: u64,
}

#[derive(Debug)]
struct Held {
    prefix: String,
    /// The names are those after this one.
    after: Option<EntryName>,
    /// In byte order.
    names: Vec<EntryName>,
    /// Whether there are no others behind them.
    is_all: bool,
    read: Monotonic,
}

impl Listing {
    /// What [`Listing::keep`] wants to know of the moment before names are read.
    pub(crate) const fn changes(&self) -> u64 {
        self.changes
    }

    /// Something is created or deleted: what was read before does not tell of it.
    pub(crate) fn change(&mut self) {
        self.changes += 1;
        self.held = None;
    }

    /// The page after `after`, if it is part of what was read a moment ago.
    pub(crate) fn page(
        &mut self,
        prefix: &str,
        after: &EntryName,
        limit: NonZeroUsize,
        now: Monotonic,
    ) -> Option<Page> {
        let held = self.held.take_if(|held| now.since(held.read) >= GOOD_FOR);
        drop(held);
        let held = self.held.as_ref()?;
        if held.prefix != prefix || held.after.as_ref().is_some_and(|first| after < first) {
            return None;
        }
        let names = held
            .names
            .get(held.names.partition_point(|name| name <= after)..)?;
        if names.len() <= limit.get() && !held.is_all {
            return None;
        }
        Some(first_of(names, limit, held.is_all))
    }

    /// Makes the first page of `read`, which was asked for with `prefix` and `after`, and keeps the rest for those that
    /// follow, unless there were changes meanwhile.
    pub(crate) fn keep(
        &mut self,
        prefix: &str,
        after: Option<&EntryName>,
        read: Page,
        limit: NonZeroUsize,
        (now, changes): (Monotonic, u64),
    ) -> Page {
        let is_all = read.next.is_none();
        if read.names.len() <= limit.get() {
            return read;
        }
        let page = first_of(&read.names, limit, is_all);
        if changes == self.changes {
            self.held = Some(Held {
                prefix: prefix.to_owned(),
                after: after.cloned(),
                names: read.names,
                is_all,
                read: now,
            });
        }
        page
    }
}

/// A page of the first of `names`, of which there are more than `limit` unless they are all.
fn first_of(names: &[EntryName], limit: NonZeroUsize, is_all: bool) -> Page {
    let page: Vec<EntryName> = names.iter().take(limit.get()).cloned().collect();
    let more = !is_all || names.len() > limit.get();
    Page {
        next: page.last().filter(|_| more).cloned(),
        names: page,
    }
}

/// How many names are read ahead at most. Even the longest take no more than a few megabytes.
pub(crate) const READ_AHEAD: NonZeroUsize = NonZeroUsize::new(50_000).expect("not zero");

/// For how long further pages are those of an earlier reading.
const GOOD_FOR: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: usize) -> EntryName {
        EntryName::parse(&format!("key-{number:02}")).unwrap()
    }

    fn names(numbers: std::ops::Range<usize>) -> Vec<EntryName> {
        numbers.map(name).collect()
    }

    fn limit(names: usize) -> NonZeroUsize {
        NonZeroUsize::new(names).unwrap()
    }

    fn at(seconds: u64) -> Monotonic {
        Monotonic(Duration::from_secs(seconds))
    }

    /// A listing of these, of which there may be more, that began after the first.
    fn listing(numbers: std::ops::Range<usize>, is_all: bool) -> Listing {
        let mut listing = Listing::default();
        let read = Page {
            next: name(numbers.end).into(),
            names: names(numbers.start + 1..numbers.end),
        };
        let read = Page {
            next: read.next.filter(|_| !is_all),
            ..read
        };
        let first = listing.keep("key", Some(&name(numbers.start)), read, limit(1), (at(0), 0));
        assert_eq!(first.names, [name(numbers.start + 1)]);
        assert_eq!(first.next, Some(name(numbers.start + 1)));
        listing
    }

    #[test]
    fn following_pages_come_from_what_was_read() {
        let mut listing = listing(0..10, true);
        let mut page = |after, most| listing.page("key", &name(after), limit(most), at(9)).unwrap();
        assert_eq!((page(1, 3).names, page(1, 3).next), (names(2..5), Some(name(4))));
        assert_eq!((page(6, 3).names, page(6, 3).next), (names(7..10), None));
        assert_eq!((page(8, 3).names, page(8, 3).next), (names(9..10), None));
        assert_eq!((page(9, 3).names, page(9, 3).next), (vec![], None));
        let unlisted = EntryName::parse("key-055").unwrap();
        let next = listing.page("key", &unlisted, limit(1), at(9)).unwrap();
        assert_eq!(next.names, [name(6)], "a name that is gone is a position too");
    }

    #[test]
    fn what_was_not_read_is_not_told() {
        let mut all = listing(5..10, true);
        assert_eq!(
            all.page("key", &name(4), limit(1), at(9)),
            None,
            "names before the first"
        );
        assert_eq!(all.page("ke", &name(6), limit(1), at(9)), None, "another prefix");
        let mut part = listing(5..10, false);
        assert_eq!(
            part.page("key", &name(6), limit(3), at(9)),
            None,
            "perhaps not the last page"
        );
        let page = part.page("key", &name(6), limit(2), at(9)).unwrap();
        assert_eq!((page.names, page.next), (names(7..9), Some(name(8))));
    }

    #[test]
    fn it_is_good_for_a_moment_and_until_this_process_changes_something() {
        let mut old = listing(0..10, true);
        assert_eq!(old.page("key", &name(1), limit(1), at(10)), None);
        assert!(old.held.is_none(), "and is not kept for longer");

        let mut changed = listing(0..10, true);
        changed.change();
        assert_eq!(changed.page("key", &name(1), limit(1), at(0)), None);
        // What was begun before a change may not tell of it.
        let read = Page {
            names: names(0..3),
            next: None,
        };
        changed.keep("key", None, read, limit(1), (at(0), 0));
        assert_eq!(changed.page("key", &name(0), limit(1), at(0)), None);
    }
}
