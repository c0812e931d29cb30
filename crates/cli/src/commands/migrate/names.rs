//! The names of the keys that are to be copied, page by page.

use std::num::NonZeroUsize;
use std::sync::Arc;

use kes_keystore::{EntryName, KeyStore, Page, StoreError};
use tokio::task::JoinSet;

use super::pattern::Pattern;

/// The matching names of a key store in their order. The next page is fetched while one is worked through, so never more
/// than two of them are in memory.
#[derive(Debug)]
pub(super) struct Names {
    store: Arc<dyn KeyStore>,
    pattern: Pattern,
    page: std::vec::IntoIter<EntryName>,
    /// The next page, if there is one. A task, since a listing that takes long must not begin anew whenever whoever waits
    /// for it looks at something else.
    next: JoinSet<Result<Page, StoreError>>,
}

impl Names {
    /// To be called within a runtime.
    pub(super) fn new(store: Arc<dyn KeyStore>, pattern: Pattern) -> Self {
        let mut names = Self {
            store,
            pattern,
            page: Vec::new().into_iter(),
            next: JoinSet::new(),
        };
        names.fetch(None);
        names
    }

    fn fetch(&mut self, after: Option<EntryName>) {
        let (store, prefix) = (Arc::clone(&self.store), self.pattern.prefix().to_owned());
        self.next
            .spawn(async move { store.list(&prefix, after.as_ref(), PAGE).await });
    }

    /// The next matching name. Can be given up and asked again: no name is lost.
    pub(super) async fn next(&mut self) -> Result<Option<EntryName>, StoreError> {
        loop {
            if let Some(name) = self.page.find(|name| self.pattern.matches(name.as_str())) {
                return Ok(Some(name));
            }
            let page = match self.next.join_next().await {
                None => return Ok(None),
                Some(Ok(page)) => page?,
                Some(Err(died)) => {
                    return Err(StoreError::Backend {
                        store: self.store.to_string(),
                        source: died.into(),
                    });
                }
            };
            self.page = page.names.into_iter();
            if page.next.is_some() {
                self.fetch(page.next);
            }
        }
    }

    /// How many there are.
    pub(super) async fn count(mut self) -> Result<u64, StoreError> {
        let mut count = 0;
        while self.next().await?.is_some() {
            count += 1;
        }
        Ok(count)
    }
}

/// A folder is read whole for each page of it, so a page is large: 20,000 names take about two megabytes.
const PAGE: NonZeroUsize = NonZeroUsize::new(20_000).unwrap();

#[cfg(test)]
mod tests {
    use kes_testkit::FaultyStore;

    use super::*;

    #[tokio::test]
    async fn all_matching_names_come_once_and_in_order() {
        let store = FaultyStore::new();
        for number in 0..100 {
            store.put(&format!("key-{number:03}"), b"value");
            store.put(&format!("other-{number:03}"), b"value");
        }
        for page in [1, 7, 100, 1000] {
            store.set_page_size(page);
            let pattern = Pattern::parse(Some("key-??[02468]")).unwrap();
            let mut names = Names::new(Arc::new(store.clone()), pattern.clone());
            let mut seen = Vec::new();
            while let Some(name) = names.next().await.unwrap() {
                seen.push(name.to_string());
            }
            let want: Vec<_> = (0..100)
                .step_by(2)
                .map(|number| format!("key-{number:03}"))
                .collect();
            assert_eq!(seen, want, "{page}");
            let count = Names::new(Arc::new(store.clone()), pattern)
                .count()
                .await
                .unwrap();
            assert_eq!(count, 50);
        }
    }
}
