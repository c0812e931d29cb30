use std::collections::VecDeque;

use kes_testkit::until;
use kes_types::ManualClock;
use tokio::sync::Semaphore;

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

/// Gives out credentials when it is allowed to.
#[derive(Debug)]
struct Provider {
    given: Mutex<VecDeque<Result<SdkCredentials, String>>>,
    asked: watch::Sender<usize>,
    turns: Semaphore,
}

impl ProvideCredentials for Provider {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            self.asked.send_modify(|asked| *asked += 1);
            self.turns.acquire().await.unwrap().forget();
            let next = self.given.lock().unwrap().pop_front();
            next.expect("nobody asks for more")
                .map_err(CredentialsError::provider_error)
        })
    }
}

struct Rig {
    clock: Arc<ManualClock>,
    provider: Arc<Provider>,
    source: CredentialSource,
}

impl Rig {
    /// A source that is given these in turn, each as soon as it asks.
    fn new(given: impl FnOnce(&ManualClock) -> Vec<Result<SdkCredentials, String>>) -> Self {
        let rig = Self::slow(given);
        rig.provider.turns.add_permits(100);
        rig
    }

    /// The same, with a permit needed for each.
    fn slow(given: impl FnOnce(&ManualClock) -> Vec<Result<SdkCredentials, String>>) -> Self {
        let clock = Arc::new(ManualClock::default());
        let provider = Arc::new(Provider {
            given: Mutex::new(given(&clock).into()),
            asked: watch::Sender::new(0),
            turns: Semaphore::new(0),
        });
        let shared = SharedCredentialsProvider::new(Shared(Arc::clone(&provider)));
        let source = CredentialSource::new(shared, Arc::clone(&clock) as _, &Patience::default());
        Self {
            clock,
            provider,
            source,
        }
    }

    async fn key(&self) -> String {
        let current = self.source.current().await.unwrap();
        current.credentials.access_key_id().to_owned()
    }

    fn asked(&self) -> usize {
        *self.provider.asked.borrow()
    }

    async fn until_key(&self, expected: &str) {
        until(expected, async || self.key().await == expected).await;
    }

    async fn until_idle(&self) {
        until("the load ends", async || !self.source.0.state().is_loading()).await;
    }
}

#[derive(Debug)]
struct Shared(Arc<Provider>);

impl ProvideCredentials for Shared {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        self.0.provide_credentials()
    }
}

fn lasting(key: &str) -> Result<SdkCredentials, String> {
    Ok(SdkCredentials::new(key, "secret", None, None, "test"))
}

/// Credentials that end so long after the clock's beginning.
fn ending(key: &str, clock: &ManualClock, after: Duration) -> Result<SdkCredentials, String> {
    let end = SystemTime::from(clock.now()) + after;
    Ok(SdkCredentials::new(key, "secret", None, Some(end), "test"))
}

fn failing() -> Result<SdkCredentials, String> {
    Err("nobody gives out credentials".to_owned())
}

#[tokio::test]
async fn credentials_that_last_are_loaded_once() {
    let rig = Rig::new(|_| vec![lasting("one")]);
    for _ in 0..3 {
        assert_eq!(rig.key().await, "one");
        rig.clock.advance(1000 * MINUTE);
    }
    assert_eq!(rig.asked(), 1);
}

#[tokio::test]
async fn credentials_that_end_are_renewed_five_minutes_before_and_nobody_waits() {
    let rig = Rig::slow(|clock| {
        vec![
            ending("one", clock, 60 * MINUTE),
            ending("two", clock, 120 * MINUTE),
        ]
    });
    rig.provider.turns.add_permits(1);
    assert_eq!(rig.key().await, "one");
    rig.clock.advance(55 * MINUTE - Duration::from_secs(1));
    assert_eq!(rig.key().await, "one");
    assert_eq!(rig.asked(), 1);
    rig.clock.advance(Duration::from_secs(1));
    for _ in 0..3 {
        assert_eq!(rig.key().await, "one");
    }
    rig.provider.turns.add_permits(1);
    rig.until_key("two").await;
    assert_eq!(rig.asked(), 2);
}

#[tokio::test]
async fn short_lived_credentials_are_renewed_half_way() {
    let rig = Rig::new(|clock| {
        vec![
            ending("one", clock, 4 * MINUTE),
            ending("two", clock, 60 * MINUTE),
        ]
    });
    assert_eq!(rig.key().await, "one");
    rig.clock.advance(2 * MINUTE - Duration::from_secs(1));
    assert_eq!(rig.key().await, "one");
    assert_eq!(rig.asked(), 1);
    rig.clock.advance(Duration::from_secs(1));
    rig.until_key("two").await;
}

#[tokio::test]
async fn a_renewal_that_fails_fails_nobody_while_the_old_credentials_are_valid() {
    let rig = Rig::new(|clock| {
        vec![
            ending("one", clock, 60 * MINUTE),
            failing(),
            failing(),
            failing(),
            ending("two", clock, 180 * MINUTE),
        ]
    });
    assert_eq!(rig.key().await, "one");
    rig.clock.advance(55 * MINUTE);
    assert_eq!(rig.key().await, "one");
    rig.until_idle().await;
    // Not again and again.
    for _ in 0..10 {
        assert_eq!(rig.key().await, "one");
    }
    rig.until_idle().await;
    assert_eq!(rig.asked(), 2);
    rig.clock.advance(BETWEEN_TRIES);
    assert_eq!(rig.key().await, "one");
    rig.until_idle().await;
    assert_eq!(rig.asked(), 3);

    // When they have ended there is an error, at once for those who come next.
    rig.clock.advance(10 * MINUTE);
    for _ in 0..10 {
        let error = rig.source.current().await.map(drop).unwrap_err();
        assert!(error.out_of_reach);
        assert!(
            error.to_string().contains("nobody gives out credentials"),
            "{error}"
        );
    }
    assert_eq!(rig.asked(), 4);
    rig.clock.advance(AFTER_A_FAILURE);
    assert_eq!(rig.key().await, "two");
}

#[tokio::test]
async fn a_load_that_fails_late_is_not_begun_again_at_once() {
    let rig = Rig::slow(|_| vec![failing(), lasting("one")]);
    let waiting = tokio::spawn({
        let source = rig.source.clone();
        async move { source.current().await.map(drop) }
    });
    let mut asked = rig.provider.asked.subscribe();
    asked.wait_for(|asked| *asked == 1).await.unwrap();
    rig.clock.advance(10 * AFTER_A_FAILURE);
    rig.provider.turns.add_permits(2);
    assert!(waiting.await.unwrap().is_err());
    rig.until_idle().await;
    assert!(rig.source.current().await.is_err());
    assert_eq!(rig.asked(), 1);
    rig.clock.advance(AFTER_A_FAILURE);
    assert_eq!(rig.key().await, "one");
}

#[tokio::test]
async fn all_who_wait_do_so_for_one_load_and_who_gives_up_stops_nobody() {
    let rig = Rig::slow(|_| vec![lasting("one")]);
    let mut first = Box::pin(rig.source.current());
    assert!(futures_poll(first.as_mut()).await.is_none());
    let others: Vec<_> = (0..20)
        .map(|_| {
            let source = rig.source.clone();
            tokio::spawn(async move { source.current().await.unwrap().credentials })
        })
        .collect();
    let mut asked = rig.provider.asked.subscribe();
    asked.wait_for(|asked| *asked == 1).await.unwrap();
    drop(first);
    rig.provider.turns.add_permits(1);
    for other in others {
        assert_eq!(other.await.unwrap().access_key_id(), "one");
    }
    assert_eq!(rig.asked(), 1);
}

#[tokio::test]
async fn credentials_that_have_ended_already_are_used_for_a_while() {
    let rig = Rig::new(|clock| {
        vec![
            ending("one", clock, Duration::ZERO),
            ending("two", clock, 60 * MINUTE),
        ]
    });
    rig.clock.advance(MINUTE);
    assert_eq!(rig.key().await, "one");
    assert_eq!(rig.key().await, "one");
    assert_eq!(rig.asked(), 1);
    rig.clock.advance(BETWEEN_TRIES);
    assert_eq!(rig.key().await, "two");
}

#[tokio::test]
async fn refused_credentials_are_renewed_once_in_a_while() {
    let rig = Rig::new(|_| vec![lasting("one"), lasting("two"), lasting("two"), failing()]);
    let one = rig.source.current().await.unwrap().number;
    assert!(rig.source.renewed(one).await);
    assert_eq!(rig.key().await, "two");
    assert!(
        rig.source.renewed(one).await,
        "another has renewed them meanwhile"
    );
    assert_eq!(rig.asked(), 2);

    let two = rig.source.current().await.unwrap().number;
    assert!(!rig.source.renewed(two).await, "that was a moment ago");
    assert_eq!(rig.asked(), 2);
    rig.clock.advance(BETWEEN_TRIES);
    assert!(!rig.source.renewed(two).await, "the same again are no others");
    assert_eq!(rig.asked(), 3);
    rig.clock.advance(BETWEEN_TRIES);
    let three = rig.source.current().await.unwrap().number;
    assert!(!rig.source.renewed(three).await);
    assert_eq!(rig.asked(), 4);
    assert_eq!(rig.key().await, "two", "what is held is kept");
}

#[tokio::test]
async fn a_closed_source_stops_its_load() {
    let rig = Rig::slow(|_| vec![]);
    let waiting = tokio::spawn({
        let source = rig.source.clone();
        async move { source.current().await.map(drop) }
    });
    let mut asked = rig.provider.asked.subscribe();
    asked.wait_for(|asked| *asked == 1).await.unwrap();
    rig.source.close();
    assert!(waiting.await.unwrap().is_err());
}

#[test]
fn debug_output_shows_no_credentials() {
    let provider = SharedCredentialsProvider::new(lasting("the-access-key").unwrap());
    let source = CredentialSource::new(provider, Arc::new(ManualClock::default()), &Patience::default());
    assert_eq!(format!("{source:?}"), "CredentialSource { .. }");
}

/// Polls once.
async fn futures_poll<T>(mut future: std::pin::Pin<&mut (impl Future<Output = T> + ?Sized)>) -> Option<T> {
    std::future::poll_fn(|context| {
        std::task::Poll::Ready(match future.as_mut().poll(context) {
            std::task::Poll::Ready(value) => Some(value),
            std::task::Poll::Pending => None,
        })
    })
    .await
}
