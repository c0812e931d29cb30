//! Promises about single entries.

use std::sync::Arc;

use kes_crypto::SecretBytes;
use tokio::sync::Barrier;

use super::{Subject, assert_absent, assert_holds, create, delete, name};
use crate::StoreError;

/// What `create` stored is what `get` answers, for each name its own.
pub async fn a_created_entry_is_read_back(store: Subject) {
    create(&store, "first", b"value of the first").await;
    create(&store, "second", b"value of the second").await;
    assert_holds(&store, "first", b"value of the first").await;
    assert_holds(&store, "second", b"value of the second").await;
    assert_holds(&store, "first", b"value of the first").await;
}

/// Values are opaque: nothing is trimmed, re-encoded or cut at a zero byte.
pub async fn values_of_any_bytes_come_back_as_they_were(store: Subject) {
    let every_byte: Vec<u8> = (0..=u8::MAX).collect();
    let values: [(&str, &[u8]); 7] = [
        ("one-byte", b"x"),
        ("trailing-newline", b"{\"bytes\":\"AAAA\"}\n"),
        ("surrounding-blanks", b" \t\r\n value \r\n\n "),
        ("json", br#"{"quoted":"\"","slash":"a/b\\c"}"#),
        ("text", "schl\u{fc}ssel \u{1f511}".as_bytes()),
        ("zero-bytes", b"\0\0before\0after\0"),
        ("every-byte", &every_byte),
    ];
    for (text, value) in values {
        create(&store, text, value).await;
    }
    for (text, value) in values {
        assert_holds(&store, text, value).await;
    }
}

/// 64 KiB, which is far more than any key record and the most that some services hold.
pub async fn a_large_value_comes_back_whole(store: Subject) {
    let value: Vec<u8> = (0..64 * 1024_u32)
        .map(|i| b'!' + u8::try_from(i % 89).unwrap())
        .collect();
    create(&store, "large", &value).await;
    assert_holds(&store, "large", &value).await;
}

/// The shortest and the longest names, and those of unusual characters, are different entries.
pub async fn names_at_the_edges_of_the_rule_are_stored(store: Subject) {
    let (longest, neighbour) = ("n".repeat(80), format!("{}m", "n".repeat(79)));
    let names = [
        "0",
        "x",
        "__",
        "_-___---_",
        "a--b",
        "a_-b",
        "key-abc123",
        "NUL",
        "con",
        &longest,
        &neighbour,
    ];
    for text in names {
        create(&store, text, text.as_bytes()).await;
    }
    for text in names {
        assert_holds(&store, text, text.as_bytes()).await;
        delete(&store, text).await;
        assert_absent(&store, text).await;
    }
}

/// A taken name is [`StoreError::Exists`], also for the same value, and what is stored stays.
pub async fn creating_a_taken_name_changes_nothing(store: Subject) {
    create(&store, "taken", b"the first value").await;
    for value in ["another value", "the first value", "x"] {
        let again = store
            .create(&name("taken"), &SecretBytes::copy_of(value.as_bytes()))
            .await;
        assert!(
            matches!(again, Err(StoreError::Exists)),
            "creating a taken name: {again:?}"
        );
        assert_holds(&store, "taken", b"the first value").await;
    }
}

/// Of fifty who create one name at once, one succeeds, the others learn that it exists, and its value is what is stored.
pub async fn a_race_to_create_has_one_winner(store: Subject) {
    const RACERS: usize = 50;
    for round in 0..4 {
        let contested = format!("contested-{round}");
        let start = Arc::new(Barrier::new(RACERS));
        let racers: Vec<_> = (0..RACERS)
            .map(|racer| {
                let (store, start, contested) = (Arc::clone(&store), Arc::clone(&start), name(&contested));
                tokio::spawn(async move {
                    let value = format!("value of racer {racer}");
                    start.wait().await;
                    (
                        store
                            .create(&contested, &SecretBytes::copy_of(value.as_bytes()))
                            .await,
                        value,
                    )
                })
            })
            .collect();

        let mut winner = None;
        for racer in racers {
            match racer.await.unwrap() {
                (Ok(()), value) => {
                    assert_eq!(
                        winner.replace(value),
                        None,
                        "two creates of {contested} succeeded"
                    );
                }
                (Err(StoreError::Exists), _) => {}
                (Err(error), _) => panic!("creating {contested} in a race: {error:?}"),
            }
        }
        assert_holds(
            &store,
            &contested,
            winner.expect("one create has to succeed").as_bytes(),
        )
        .await;
    }
}

/// `get` of what was never there is [`StoreError::NotFound`], also when a longer or a shorter name is there.
pub async fn an_absent_name_is_not_found(store: Subject) {
    assert_absent(&store, "absent").await;
    create(&store, "present", b"value").await;
    for text in ["presen", "present-2", "resent", "absent"] {
        assert_absent(&store, text).await;
    }
}

/// A deleted name does not resolve, and can be created with a new value.
pub async fn a_deleted_name_is_gone_and_free_again(store: Subject) {
    create(&store, "other", b"stays").await;
    for value in ["first", "second", "third"] {
        create(&store, "name", value.as_bytes()).await;
        let deleted = store.delete(&name("name")).await;
        assert!(deleted.is_ok(), "deleting what is there: {deleted:?}");
        assert_absent(&store, "name").await;
    }
    create(&store, "name", b"last").await;
    assert_holds(&store, "name", b"last").await;
    assert_holds(&store, "other", b"stays").await;
}

/// Deleting what is not there succeeds or is [`StoreError::NotFound`], and deletes nothing else.
pub async fn deleting_an_absent_name_harms_nothing(store: Subject) {
    create(&store, "absent-not", b"value").await;
    delete(&store, "absent").await;
    delete(&store, "absent").await;
    assert_holds(&store, "absent-not", b"value").await;
    create(&store, "absent", b"value").await;
    assert_holds(&store, "absent", b"value").await;
}

/// A store that works answers a ping, before and after use; `close` comes to an end.
pub async fn an_answer_to_a_ping_and_an_end(store: Subject) {
    let ping = store.ping().await;
    assert!(ping.is_ok(), "{store} does not answer: {ping:?}");
    create(&store, "name", b"value").await;
    let ping = store.ping().await;
    assert!(ping.is_ok(), "{store} does not answer: {ping:?}");
    assert_ne!(store.to_string(), "", "a store says where it is");
    store.close().await;
}
