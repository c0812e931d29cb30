//! Lists of many pages, on the fake.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use kes_keystore::{EntryName, KeyStore as _, Patience, StoreError};
use kes_keystore_aws::{AwsStore, Config};
use kes_types::ManualClock;
use serde_json::{Value, json};

use crate::fake::{Fake, not_found, refusal, success};
use crate::rig::{SHORT, name};

#[tokio::test]
async fn more_than_ten_thousand_names_are_each_listed_once() {
    const NAMES: usize = 10_250;
    // Not sorted, a hundred a page, and with the last of each page again on the next one.
    let listed = |asked: &crate::fake::Asked| {
        assert_eq!(asked.body["MaxResults"], 100);
        let start: usize = asked.body["NextToken"]
            .as_str()
            .map_or(0, |token| token.parse().unwrap());
        let end = (start + 100).min(NAMES);
        let secrets: Vec<Value> = (start.saturating_sub(1)..end)
            .map(|i| json!({ "Name": format!("key-{:05}", i * 7919 % NAMES), "ARN": "arn:aws:x" }))
            .chain([
                json!({ "Name": format!("deleted-{start}"), "DeletedDate": 1_700_000_000 }),
                json!({ "Name": format!("folder/{start}") }),
                json!({ "ARN": "arn:aws:without-a-name" }),
            ])
            .collect();
        let mut page = json!({ "SecretList": secrets });
        if end < NAMES {
            page["NextToken"] = json!(end.to_string());
        }
        success(page)
    };
    let fake = Fake::start(move |asked| match asked.operation.as_str() {
        "ListSecrets" => listed(asked),
        "DeleteSecret" => success(json!({ "Name": "other" })),
        _ => not_found(),
    })
    .await;
    // As long as a slow machine takes for so many.
    let patience = Patience {
        operation: Duration::from_secs(60),
        ..SHORT
    };
    let config = Config {
        patience,
        ..fake.config()
    };
    let clock = Arc::new(ManualClock::default());
    let store = AwsStore::connect(config, Arc::clone(&clock) as _).await.unwrap();
    let expected: Vec<EntryName> = (0..NAMES).map(|i| name(&format!("key-{i:05}"))).collect();
    let once = NAMES.div_ceil(100);
    let nothing = async || ();
    let later = async || clock.advance(Duration::from_secs(10));
    let changed = async || store.delete(&name("other")).await.unwrap();
    let whole = list_all(&store, nothing).await;
    assert!(whole == expected, "{} names", whole.len());
    assert_eq!(
        fake.asked().len(),
        once,
        "pages that follow are read with the first"
    );

    // Each page is read anew where the earlier reading is old, or this process has changed something.
    let aged = list_all(&store, later).await;
    assert!(aged == expected, "{} names", aged.len());
    assert_eq!(fake.asked().len(), 4 * once);
    let changing = list_all(&store, changed).await;
    assert!(changing == expected, "{} names", changing.len());
    assert_eq!(fake.asked().len(), 7 * once + 2);
}

/// Lists every name, with something that happens between two pages.
async fn list_all(store: &AwsStore, mut between: impl AsyncFnMut()) -> Vec<EntryName> {
    let mut found: Vec<EntryName> = Vec::new();
    let mut after = None;
    loop {
        let limit = NonZeroUsize::new(4000).unwrap();
        let page = store.list("", after.as_ref(), limit).await.unwrap();
        found.extend(page.names);
        after = page.next;
        if after.is_none() {
            return found;
        }
        between().await;
    }
}

#[tokio::test]
async fn a_list_without_an_end_is_an_error() {
    let fake = Fake::start(|_| success(json!({ "SecretList": [], "NextToken": "again" }))).await;
    let listed = fake.connect().await.list("", None, NonZeroUsize::MIN).await;
    assert!(matches!(listed, Err(StoreError::Backend { .. })), "{listed:?}");
    assert_eq!(fake.asked().len(), 2);
}

#[tokio::test]
async fn a_page_of_a_list_that_fails_is_asked_for_again_and_not_all_of_it() {
    let mut asked = 0;
    let fake = Fake::start(move |question| {
        asked += 1;
        match (asked, question.body["NextToken"].as_str()) {
            (1, None) => success(json!({ "SecretList": [{ "Name": "a" }], "NextToken": "t" })),
            (2, Some("t")) => refusal("ThrottlingException", "Rate exceeded"),
            (3, Some("t")) => success(json!({ "SecretList": [{ "Name": "b" }] })),
            other => panic!("{other:?}"),
        }
    })
    .await;
    let page = fake
        .connect()
        .await
        .list("", None, NonZeroUsize::MAX)
        .await
        .unwrap();
    assert_eq!(page.names, [name("a"), name("b")]);
}
