//! Promises about listings.

use std::num::NonZeroUsize;
use std::sync::Arc;

use super::{Subject, create, delete, limit, name, plenty};
use crate::{EntryName, Page};

/// Nothing is there at first, and nothing is left when everything was deleted.
pub async fn an_empty_store_lists_nothing(store: Subject) {
    assert_eq!(page(&store, "", None, plenty()).await, Page::default());
    create(&store, "name", b"value").await;
    delete(&store, "name").await;
    assert_eq!(page(&store, "", None, plenty()).await, Page::default());
    assert_eq!(page(&store, "", Some("name"), limit(1)).await, Page::default());
}

/// `-` before digits before upper case before `_` before lower case, and a name before those it begins.
pub async fn names_are_listed_in_byte_order(store: Subject) {
    let ordered = [
        "0", "00", "10", "9z", "A1", "Z", "__", "_b", "x", "x-1", "x0", "xY", "x_1", "xz",
    ];
    // Neither sorted nor reversed, so that an order of creation cannot pass for the right one.
    for i in 0..ordered.len() {
        create(&store, ordered[i * 5 % ordered.len()], b"value").await;
    }
    assert_eq!(texts(&page(&store, "", None, plenty()).await), ordered);
    assert_eq!(walk(&store, "", limit(1)).await, ordered);
    assert_eq!(
        walk(&store, "x", limit(2)).await,
        ["x", "x-1", "x0", "xY", "x_1", "xz"]
    );
}

/// Names that start with the prefix, the prefix itself among them, and no others.
pub async fn a_prefix_selects_names(store: Subject) {
    for text in ["zapp", "app", "app-2", "apple", "ap", "b-app", "app-1"] {
        create(&store, text, b"value").await;
    }
    for (prefix, expected) in [
        ("app", &["app", "app-1", "app-2", "apple"][..]),
        ("app-", &["app-1", "app-2"]),
        ("app-1", &["app-1"]),
        ("apple", &["apple"]),
        ("z", &["zapp"]),
        ("", &["ap", "app", "app-1", "app-2", "apple", "b-app", "zapp"]),
    ] {
        let page = page(&store, prefix, None, plenty()).await;
        assert_eq!(texts(&page), expected, "names that start with {prefix:?}");
        assert_eq!(page.next, None);
        for size in 1..=8 {
            assert_eq!(
                walk(&store, prefix, limit(size)).await,
                expected,
                "{prefix:?} by {size}"
            );
        }
    }
}

/// A prefix is not a pattern and not a path: what no name starts with lists nothing and is no error.
pub async fn a_prefix_that_no_name_has_lists_nothing(store: Subject) {
    create(&store, "name", b"value").await;
    create(&store, "x__", b"value").await;
    let too_long = "n".repeat(300);
    for prefix in [
        "b", "names", "-", "*", "na*", "n?me", ".", "..", "/", "../", "a/", "%", "_%", "name\0", " ",
        "\u{fc}", "'", &too_long,
    ] {
        assert_eq!(
            page(&store, prefix, None, plenty()).await,
            Page::default(),
            "prefix {prefix:?}"
        );
    }
}

/// A position is any name, there or not: the page starts with the first match after it.
pub async fn a_page_starts_after_a_position(store: Subject) {
    for text in ["b", "m-1", "m-3", "m-5", "y"] {
        create(&store, text, b"value").await;
    }
    for (prefix, after, expected) in [
        ("", "b", &["m-1", "m-3", "m-5", "y"][..]),
        ("", "a", &["b", "m-1", "m-3", "m-5", "y"]),
        ("", "c", &["m-1", "m-3", "m-5", "y"]),
        ("", "m-2", &["m-3", "m-5", "y"]),
        ("", "y", &[]),
        ("", "zz", &[]),
        ("m-", "m-1", &["m-3", "m-5"]),
        ("m-", "m-2", &["m-3", "m-5"]),
        ("m-", "m", &["m-1", "m-3", "m-5"]),
        ("m-", "a", &["m-1", "m-3", "m-5"]),
        ("m-", "m-5", &[]),
        ("m-", "x", &[]),
    ] {
        let whole = page(&store, prefix, Some(after), plenty()).await;
        assert_eq!(texts(&whole), expected, "{prefix:?} after {after}");
        assert_eq!(whole.next, None);
        let one = page(&store, prefix, Some(after), limit(1)).await;
        assert_eq!(
            texts(&one),
            expected[..expected.len().min(1)],
            "{prefix:?} after {after}, one"
        );
        assert_eq!(
            one.next.is_some(),
            expected.len() > 1,
            "{prefix:?} after {after}, one"
        );
    }

    // A listing goes on when the name that it had come to is deleted meanwhile.
    let first = page(&store, "m-", None, limit(2)).await;
    assert_eq!(texts(&first), ["m-1", "m-3"]);
    delete(&store, "m-3").await;
    let second = page(&store, "m-", first.next.as_ref().map(EntryName::as_str), limit(2)).await;
    assert_eq!(texts(&second), ["m-5"]);
    assert_eq!(second.next, None);
}

/// `limit` names where there are as many, never more; a last page that is full names no next one.
pub async fn a_page_has_exactly_as_many_names_as_asked_for(store: Subject) {
    const NAMES: usize = 12;
    for i in 0..NAMES {
        create(&store, &format!("n-{i:02}"), b"value").await;
    }
    create(&store, "before", b"value").await;
    create(&store, "other", b"value").await;
    for size in 1..NAMES + 2 {
        let page = page(&store, "n-", None, limit(size)).await;
        assert_eq!(page.names.len(), size.min(NAMES), "a page of {size}");
        let next = page.next.as_ref();
        assert_eq!(
            next,
            if size < NAMES { page.names.last() } else { None },
            "a page of {size}"
        );
    }
}

/// By following `next`, every name comes once.
pub async fn thousands_of_names_are_each_listed_once(store: Subject) {
    const NAMES: usize = 2500;
    const AT_ONCE: usize = 50;
    let names: Arc<Vec<_>> = Arc::new((0..NAMES).map(|i| format!("key-{i:04}")).collect());
    let creators: Vec<_> = (0..AT_ONCE)
        .map(|first| {
            let (store, names) = (Arc::clone(&store), Arc::clone(&names));
            tokio::spawn(async move {
                for text in names.iter().skip(first).step_by(AT_ONCE) {
                    create(&store, text, b"value").await;
                }
            })
        })
        .collect();
    for creator in creators {
        creator.await.unwrap();
    }
    for size in [250, 999, 1250, NAMES, NAMES + 1] {
        assert_eq!(walk(&store, "", limit(size)).await, *names, "pages of {size}");
    }
    assert_eq!(walk(&store, "key-1", limit(300)).await, names[1000..2000]);
}

/// While others come and go, a listing has each name that stays exactly once, in order.
pub async fn changes_do_not_disturb_the_names_that_stay(store: Subject) {
    const STAYING: usize = 60;
    let staying: Vec<_> = (0..STAYING).map(|i| format!("n-{i:03}-s")).collect();
    for text in &staying {
        create(&store, text, b"value").await;
    }
    let changes = tokio::spawn({
        let store = Arc::clone(&store);
        async move {
            for i in 0..2 * STAYING {
                let passing = format!("n-{:03}-p", i * 7 % STAYING);
                create(&store, &passing, b"value").await;
                tokio::task::yield_now().await;
                delete(&store, &passing).await;
            }
        }
    });
    loop {
        let last_time = changes.is_finished();
        let mut found = walk(&store, "n-", limit(7)).await;
        found.retain(|text| text.ends_with("-s"));
        assert_eq!(found, staying);
        if last_time {
            break;
        }
        tokio::task::yield_now().await;
    }
    changes.await.unwrap();
    assert_eq!(walk(&store, "", limit(7)).await, staying);
}

async fn page(store: &Subject, prefix: &str, after: Option<&str>, limit: NonZeroUsize) -> Page {
    match store.list(prefix, after.map(name).as_ref(), limit).await {
        Ok(page) => page,
        Err(error) => panic!("listing {prefix:?} after {after:?}: {error:?}"),
    }
}

fn texts(page: &Page) -> Vec<&str> {
    page.names.iter().map(EntryName::as_str).collect()
}

/// All names by following `next`; checks on the way that each page is in order, starts where it should and is full.
async fn walk(store: &Subject, prefix: &str, limit: NonZeroUsize) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut after = None;
    loop {
        let page = page(store, prefix, after.as_deref(), limit).await;
        assert!(
            page.names.len() <= limit.get(),
            "{} names, {limit} asked for",
            page.names.len()
        );
        for name in &page.names {
            assert!(
                name.as_str().starts_with(prefix),
                "{name} does not start with {prefix:?}"
            );
            let last = found.last().or(after.as_ref());
            assert!(
                last.is_none_or(|last| last.as_str() < name.as_str()),
                "{name} after {last:?}"
            );
            found.push(name.as_str().to_owned());
        }
        let Some(next) = page.next else { return found };
        assert_eq!(
            page.names.len(),
            limit.get(),
            "only the last page may have fewer names"
        );
        assert_eq!(
            Some(&next),
            page.names.last(),
            "the next page starts after the last name"
        );
        after = Some(next.as_str().to_owned());
    }
}
