//! Promises about operations that their caller gives up.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use kes_crypto::SecretBytes;

use super::{Subject, assert_absent, assert_holds, create, delete, limit, name};
use crate::StoreError;

/// How many polls an operation may take before its cancellation is no longer examined.
const POLLS: usize = 24;

/// A create that is dropped at any of its awaits has stored the whole value or nothing.
pub async fn a_cancelled_create_happens_whole_or_not_at_all(store: Subject) {
    for polls in 1..POLLS {
        let text = format!("dropped-{polls}");
        let dropped = SecretBytes::copy_of(b"the value of a create that was dropped");
        let ended = dropped_after(polls, store.create(&name(&text), &dropped)).await;

        // The create may still be under way; then it and this one race, and one of them wins as in any race.
        let value = match store
            .create(&name(&text), &SecretBytes::copy_of(b"another"))
            .await
        {
            Ok(()) => b"another".as_slice(),
            Err(StoreError::Exists) => dropped.expose_secret(),
            Err(error) => panic!("creating after a dropped create: {error:?}"),
        };
        assert_holds(&store, &text, value).await;
        if ended {
            break;
        }
    }
}

/// A delete that is dropped at any of its awaits leaves the whole value or nothing.
pub async fn a_cancelled_delete_happens_whole_or_not_at_all(store: Subject) {
    for polls in 1..POLLS {
        let text = format!("dropped-{polls}");
        create(&store, &text, b"value").await;
        let ended = dropped_after(polls, store.delete(&name(&text))).await;
        match store.get(&name(&text)).await {
            Ok(entry) => assert_eq!(entry.value.expose_secret(), b"value"),
            Err(StoreError::NotFound) => {}
            Err(error) => panic!("reading after a dropped delete: {error:?}"),
        }
        delete(&store, &text).await;
        assert_absent(&store, &text).await;
        if ended {
            break;
        }
    }
}

/// A get, a listing or a ping that is dropped leaves the store as it was and able to answer.
pub async fn a_cancelled_read_changes_nothing(store: Subject) {
    create(&store, "name", b"value").await;
    for polls in 1..POLLS {
        let got = dropped_after(polls, store.get(&name("name"))).await;
        let listed = dropped_after(polls, store.list("", None, limit(5))).await;
        let pinged = dropped_after(polls, store.ping()).await;
        assert_holds(&store, "name", b"value").await;
        if got && listed && pinged {
            break;
        }
    }
    let page = store.list("", None, limit(5)).await.unwrap();
    assert_eq!((page.names, page.next), (vec![name("name")], None));
}

/// Polls `operation` so many times, as it asks for it, then drops it. Whether it ended before.
async fn dropped_after<T>(polls: usize, operation: impl Future<Output = T>) -> bool {
    let mut operation = pin!(operation);
    let mut left = polls;
    poll_fn(|context| {
        left -= 1;
        match operation.as_mut().poll(context) {
            Poll::Ready(_) => Poll::Ready(true),
            Poll::Pending if left == 0 => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}
