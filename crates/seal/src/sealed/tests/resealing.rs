//! Replacing seals: each step, each crash and each race.

use super::*;
use crate::Seal;

#[tokio::test]
async fn a_seal_is_replaced_in_two_steps_and_values_stay_as_they_are() {
    let (store, sealed) = new_store(&seals([1])).await;
    create(&sealed, "key", b"value").await;
    let stored = store.stored(&name("key")).await;
    assert_eq!(checks(&sealed), [seen(1)]);
    assert_eq!(sealed.reseal(&seals([1])).await.unwrap(), Resealed::Unchanged);
    assert_eq!(sealed.reseal(&seals([1, 2])).await.unwrap(), Resealed::Unchanged);

    assert_eq!(sealed.reseal(&seals([2, 1])).await.unwrap(), Resealed::Added);
    assert_eq!(checks(&sealed), [seen(1), seen(2)]);
    assert_eq!(sealed.reseal(&seals([2, 1])).await.unwrap(), Resealed::Unchanged);
    assert!(opens(&store, &seals([1])).await);
    assert!(opens(&store, &seals([2])).await);

    assert_eq!(sealed.reseal(&seals([2])).await.unwrap(), Resealed::Dropped);
    assert_eq!(checks(&sealed), [seen(2)]);
    assert_eq!(sealed.reseal(&seals([2])).await.unwrap(), Resealed::Unchanged);
    assert!(!opens(&store, &seals([1])).await);
    assert!(opens(&store, &seals([2])).await);

    assert_eq!(store.stored(&name("key")).await, stored);
    assert_holds(&sealed, "key", b"value").await;
    let header = Header::parse(&store.header().unwrap().header).unwrap();
    assert_eq!((header.generation(), header.created()), (3, now()));
}

#[tokio::test]
async fn a_new_seal_listed_alone_is_added_before_the_old_one_goes() {
    let (store, sealed) = new_store(&seals([1])).await;
    assert_eq!(sealed.reseal(&seals([2])).await.unwrap(), Resealed::Added);
    assert_eq!(checks(&sealed), [(seal(1).id().check_text(), None), seen(2)]);
    assert!(opens(&store, &seals([1])).await && opens(&store, &seals([2])).await);
    assert_eq!(sealed.reseal(&seals([2])).await.unwrap(), Resealed::Dropped);
    assert!(!opens(&store, &seals([1])).await && opens(&store, &seals([2])).await);
}

#[tokio::test]
async fn an_end_at_any_step_of_resealing_leaves_the_old_or_the_new_header() {
    for first in [seals([2, 1]), seals([2])] {
        for stop in every_stop(4) {
            let (store, sealed) = new_store(&seals([1])).await;
            if first.len() == 1 {
                sealed.reseal(&seals([2, 1])).await.unwrap();
            }
            let before = store.header().unwrap();
            let call = store.calls.load(Ordering::Relaxed) + stop.call;
            store.stop_at(Stop { call, ..stop });
            let ended = {
                let resealing = pin!(sealed.reseal(&first));
                match resealing.poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(result) => Some(result),
                    Poll::Pending => None,
                }
            };
            let after = store.header().unwrap();
            match (stop.call, stop.when) {
                // Loading, and replacing before it has happened.
                (0, _) | (1, When::Before) => {
                    assert!(!matches!(ended, Some(Ok(_))), "{stop:?}");
                    assert_eq!(after, before, "{stop:?}");
                }
                (1, When::After) => {
                    assert!(!matches!(ended, Some(Ok(_))), "{stop:?}");
                    assert_ne!(after, before, "{stop:?}");
                }
                _ => assert!(matches!(ended, Some(Ok(_))), "there is no such step: {stop:?}"),
            }
            // The seals of before the list was changed, or those of after; the new one if nothing failed.
            assert!(
                opens(&store, &seals([1])).await || opens(&store, &seals([2])).await,
                "{stop:?}"
            );
            assert!(opens(&store, &seals([2, 1])).await, "{stop:?}");

            // The next process carries it through.
            let next = Sealed::open(store.after_a_crash(), &seals([2, 1])).await.unwrap();
            while next.reseal(&seals([2])).await.unwrap() != Resealed::Unchanged {}
            assert!(opens(next.store(), &seals([2])).await);
            assert!(!opens(next.store(), &seals([1])).await);
        }
    }
}

#[tokio::test]
async fn an_end_at_any_step_of_making_a_store_leaves_none_or_a_whole_one() {
    for stop in every_stop(3) {
        let store = TestStore::new();
        store.stop_at(stop);
        let ended = {
            let making = pin!(Sealed::initialise(Arc::clone(&store), &SEALS, now()));
            match making.poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(result) => Some(result.is_ok()),
                Poll::Pending => None,
            }
        };
        match store.header() {
            None => assert_ne!(ended, Some(true), "{stop:?}"),
            Some(_) => assert!(opens(&store, &SEALS).await, "{stop:?}"),
        }
    }
}

fn every_stop(calls: usize) -> Vec<Stop> {
    let mut stops = Vec::new();
    for call in 0..calls {
        for when in [When::Before, When::After] {
            for how in [How::Fails, How::Hangs] {
                stops.push(Stop { call, when, how });
            }
        }
    }
    stops
}

#[tokio::test]
async fn of_two_that_add_the_same_seal_one_does() {
    let (store, one) = new_store(&seals([1])).await;
    let two = Sealed::open(Arc::clone(&store), &seals([1])).await.unwrap();
    let list = seals([2, 1]);
    store.gather(2);
    let results = tokio::join!(one.reseal(&list), two.reseal(&list));
    let results = [results.0.unwrap(), results.1.unwrap()];
    assert!(results.contains(&Resealed::Added) && results.contains(&Resealed::Unchanged));
    let header = Header::parse(&store.header().unwrap().header).unwrap();
    assert_eq!((header.generation(), header.wrappings().len()), (2, 2));
    for sealed in [&one, &two] {
        assert_eq!(checks(sealed), [seen(1), seen(2)]);
    }
    assert!(opens(&store, &seals([1])).await && opens(&store, &seals([2])).await);
}

/// The one that lost must not take the next step, which it would if it began anew: that step would drop the old seal.
#[tokio::test]
async fn whoever_loses_a_race_to_add_does_not_drop() {
    let (store, one) = new_store(&seals([1])).await;
    let two = Sealed::open(Arc::clone(&store), &seals([1])).await.unwrap();
    let list = seals([2]);
    store.gather(2);
    let (first, second) = tokio::join!(one.reseal(&list), two.reseal(&list));
    let results = [first.unwrap(), second.unwrap()];
    assert!(results.contains(&Resealed::Added) && results.contains(&Resealed::Unchanged));
    assert!(opens(&store, &seals([1])).await && opens(&store, &seals([2])).await);
}

#[tokio::test]
async fn two_that_add_different_seals_both_do() {
    let (store, one) = new_store(&seals([1])).await;
    let two = Sealed::open(Arc::clone(&store), &seals([1])).await.unwrap();
    store.gather(2);
    let (list_1, list_2) = (seals([2, 1]), seals([3, 1]));
    let results = tokio::join!(one.reseal(&list_1), two.reseal(&list_2));
    assert_eq!(
        (results.0.unwrap(), results.1.unwrap()),
        (Resealed::Added, Resealed::Added)
    );
    for n in [1, 2, 3] {
        assert!(opens(&store, &seals([n])).await, "seal {n}");
    }
}

/// Always has been changed by somebody else since it was read.
#[derive(Debug)]
struct Contended(Arc<TestStore>);

#[async_trait]
impl HeaderStore for Contended {
    async fn load_header(&self) -> Result<Option<HeaderRecord>, StoreError> {
        self.0.load_header().await
    }

    async fn replace_header(&self, _: Option<&HeaderRecord>, _: &HeaderRecord) -> Result<(), StoreError> {
        Err(StoreError::Exists)
    }
}

#[async_trait]
impl KeyStore for Contended {
    async fn create(&self, name: &EntryName, value: &SecretBytes) -> Result<(), StoreError> {
        self.0.create(name, value).await
    }

    async fn get(&self, name: &EntryName) -> Result<Entry, StoreError> {
        self.0.get(name).await
    }

    async fn delete(&self, name: &EntryName) -> Result<(), StoreError> {
        self.0.delete(name).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&EntryName>,
        n: NonZeroUsize,
    ) -> Result<Page, StoreError> {
        self.0.list(prefix, after, n).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.0.ping().await
    }

    async fn close(&self) {
        self.0.close().await;
    }
}

impl fmt::Display for Contended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[tokio::test]
async fn a_race_that_is_always_lost_ends() {
    let (store, _) = new_store(&seals([1])).await;
    let before = store.header();
    let contended = Arc::new(Contended(Arc::clone(&store)));
    let sealed = Sealed::open(contended, &seals([1])).await.unwrap();
    let error = sealed.reseal(&seals([2, 1])).await.unwrap_err();
    assert!(matches!(error, OpenError::Raced { .. }), "{error}");
    assert_eq!(store.header(), before);
}

#[tokio::test]
async fn reads_and_writes_go_on_while_the_store_is_resealed() {
    let (store, sealed) = new_store(&seals([1])).await;
    create(&sealed, "before", b"1").await;
    let call = store.calls.load(Ordering::Relaxed) + 1;
    store.stop_at(Stop {
        call,
        when: When::After,
        how: How::Hangs,
    });
    let list = seals([2, 1]);
    let mut resealing = pin!(sealed.reseal(&list));
    let mut context = Context::from_waker(Waker::noop());
    assert!(resealing.as_mut().poll(&mut context).is_pending());

    assert_holds(&sealed, "before", b"1").await;
    create(&sealed, "meanwhile", b"2").await;
    assert_holds(&sealed, "meanwhile", b"2").await;
    assert_eq!(checks(&sealed), [seen(1)]);

    let again = Sealed::open(store.after_a_crash(), &seals([2])).await.unwrap();
    for key in ["before", "meanwhile"] {
        let stored = store.stored(&name(key)).await;
        again.store().overwrite(&name(key), &stored).await;
        again.get(&name(key)).await.unwrap();
    }
}

#[tokio::test]
async fn a_seal_that_cannot_be_used_is_passed_over_if_another_can() {
    let (store, sealed) = new_store(&seals([1])).await;
    sealed.reseal(&seals([2, 1])).await.unwrap();
    let bad = |fault| {
        Arc::new(BadSeal {
            id: seal(2).id(),
            fault,
        }) as Arc<dyn Seal>
    };
    let list = vec![bad(Fault::Unavailable), seal(1)];
    assert!(Sealed::open(Arc::clone(&store), &list).await.is_ok());

    let error = Sealed::open(Arc::clone(&store), &vec![bad(Fault::Unavailable)])
        .await
        .unwrap_err();
    assert_eq!(
        chain(&error),
        format!(
            "Test: memory: the wrapping by {} (bad seal) does not give the root key: the seal cannot be used now: as the test wants it",
            seal(2).id()
        )
    );
    let error = Sealed::open(Arc::clone(&store), &vec![bad(Fault::WrongKey)])
        .await
        .unwrap_err();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
}

#[tokio::test]
async fn a_seal_that_does_not_give_back_what_it_wrapped_never_becomes_the_only_one() {
    let (store, sealed) = new_store(&seals([1])).await;
    let before = store.header();
    for fault in [Fault::Unavailable, Fault::WrongKey, Fault::HugeBlob] {
        let list = vec![
            Arc::new(BadSeal {
                id: seal(2).id(),
                fault,
            }) as Arc<dyn Seal>,
            seal(1),
        ];
        let error = sealed.reseal(&list).await.unwrap_err();
        assert!(matches!(error, OpenError::Wrap { .. }), "{error}");
        assert_eq!(store.header(), before);
        let new = Sealed::initialise(TestStore::new(), &list, now()).await;
        assert!(matches!(new, Err(OpenError::Wrap { .. })), "{new:?}");
    }

    // It was good once, and then is to be the only one that is kept.
    sealed.reseal(&seals([2, 1])).await.unwrap();
    let before = store.header();
    for fault in [Fault::Unavailable, Fault::WrongKey] {
        let list = vec![Arc::new(BadSeal {
            id: seal(2).id(),
            fault,
        }) as Arc<dyn Seal>];
        let error = sealed.reseal(&list).await.unwrap_err();
        assert!(matches!(error, OpenError::Unwrap { .. }), "{error}");
        assert_eq!(store.header(), before);
    }
}

#[tokio::test]
async fn a_header_holds_sixteen_wrappings_and_no_more() {
    let (store, sealed) = new_store(&seals([1])).await;
    for n in 2..=16 {
        // Those of before are not listed any more, but what is missing is added first.
        assert_eq!(sealed.reseal(&seals([n, 1])).await.unwrap(), Resealed::Added);
    }
    let before = store.header();
    let error = sealed.reseal(&seals([17, 1])).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "Test: memory has 16 wrappings already: drop some first, by listing one of its seals, and not the new one"
    );
    assert_eq!(store.header(), before);
    assert_eq!(sealed.reseal(&seals([5, 6])).await.unwrap(), Resealed::Dropped);
    assert_eq!(checks(&sealed), [seen(5), seen(6)]);
    assert_eq!(sealed.reseal(&seals([17, 5])).await.unwrap(), Resealed::Added);
}

#[tokio::test]
async fn a_header_that_counts_no_further_is_not_replaced() {
    let inputs = Inputs::read(&of_document());
    let (mut header, _) = inputs.record(1);
    header.generation = u64::MAX;
    let record = inputs.key.seal_header(&mut header).unwrap();
    let store = TestStore::with_header(record.clone());
    let list: Seals = vec![Arc::clone(&inputs.seals[0]) as Arc<dyn Seal>];
    let sealed = Sealed::open(Arc::clone(&store), &list).await.unwrap();
    let error = sealed.reseal(&seals([2])).await.unwrap_err();
    assert!(matches!(error, OpenError::Write { .. }), "{error}");
    assert_eq!(store.header(), Some(record));
}
