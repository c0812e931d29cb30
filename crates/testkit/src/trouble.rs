//! What every key store behind a network promises when the network or the service fails, one function a promise: each
//! takes a [`Rig`] with a fresh, empty store and panics where the store does not keep its word. It is the second half of
//! `kes_keystore::conformance`, which examines stores that work.
//!
//! [`trouble_tests!`](crate::trouble_tests) makes each promise a test. The first group is about the store alone, the second
//! about a server that stands on it.
//!
//! Deadlines are examined with a store that is told to wait for a moment and would else wait for ever, or a thousand times
//! too long. So a slow machine does not fail a good store.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "this is test code that other crates run; to panic is its way to report"
)]

mod bounds;
mod cold;
mod creates;
mod failures;
mod log;
mod outage;
mod secrecy;
mod served;
#[cfg(test)]
mod tests;

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kes_crypto::SecretBytes;
use kes_keystore::{BoxError, EntryName, KeyStore, Patience, StoreError, StoreOp};

use crate::{Answer, Fault, FaultProxy, ProxiedRequest, TestServer};
use kes_server::log::Level;

pub use bounds::*;
pub use cold::*;
pub use creates::*;
pub use failures::*;
pub use outage::*;
pub use secrecy::*;
pub use served::*;

pub use kes_server::log::chain;

/// The store under examination.
pub type Subject = Arc<dyn KeyStore>;

/// Says which operation a request is made for; none for a login and the like.
pub type Kinds = Arc<dyn Fn(&ProxiedRequest) -> Option<StoreOp> + Send + Sync>;

/// What a promise is examined with: a service of its own, or a part of one that nobody else uses, and the proxy in front of it.
#[async_trait]
pub trait Rig: Send + Sync + 'static {
    /// The proxy in front of the service.
    fn proxy(&self) -> &FaultProxy;

    /// The store, connected through the proxy. Each call is another server that shares what is stored. What the store does
    /// in the background, it does seldom.
    async fn connect(&self, patience: Patience) -> Result<Subject, BoxError>;

    /// The store, connected without the proxy.
    async fn direct(&self) -> Subject;

    /// Says which operation a request is made for.
    fn kinds(&self) -> Kinds;

    /// How the service says that it is in trouble; none if it has no way to.
    fn says(&self, trouble: Trouble) -> Option<Answer>;

    /// What must never be told, with what it is called. Asked at the end, so that what the requests had is known.
    fn secrets(&self) -> Vec<(&'static str, Vec<u8>)>;

    /// What else is told and must not tell a secret: the `Debug` of a configuration, and errors of connecting that
    /// [`Rig::connect`] does not meet, such as those of credentials that are refused.
    async fn told(&self) -> Vec<String>;
}

/// A trouble that the service itself knows of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It wants fewer requests, and may say when to come again.
    Throttled {
        /// Whole seconds.
        retry_after: Option<Duration>,
    },
    /// It has failed, for no reason that it gives (500).
    Broken,
    /// It is not available (503).
    Unavailable,
}

/// Makes promises of [`trouble`](crate::trouble) tests. Takes an async function that makes a fresh [`Rig`]: alone for all
/// promises, after `store:` for those about the store alone, and before `:` for those that follow it.
#[macro_export]
macro_rules! trouble_tests {
    ($rig:path) => {
        $crate::trouble_tests!(store: $rig);
        $crate::trouble_tests!($rig:
            the_server_says_what_is_going_on,
            ten_minutes_of_outage_cost_no_cached_key,
            without_an_offline_time_errors_come_at_once,
            a_short_outage_under_load_fails_nobody,
            a_thousand_cold_keys_are_each_fetched_once,
            no_secret_is_told_whatever_happens,
        );
    };
    (store: $rig:path) => {
        $crate::trouble_tests!($rig:
            latency_is_waited_for,
            one_failure_is_survived,
            a_failure_that_lasts_is_told_in_time,
            what_never_answers_is_given_up_in_time,
            a_wait_beyond_the_deadline_is_not_begun,
            a_wait_within_the_deadline_is_kept,
            an_answer_of_something_else_is_an_error,
            a_create_whose_answer_is_lost_has_succeeded,
            a_create_that_did_not_arrive_is_repeated,
            a_taken_name_stays_taken,
            whoever_comes_first_between_two_attempts_has_the_name,
            creates_under_random_faults_have_one_winner_who_knows,
            what_is_cancelled_stops_its_requests,
            ten_thousand_failures_leave_nothing_behind,
        );
    };
    ($rig:path: $($promise:ident),* $(,)?) => {$(
        #[tokio::test]
        async fn $promise() {
            $crate::trouble::$promise($rig().await).await;
        }
    )*};
}

/// How much longer than it may an operation can take before it counts as one that does not end. The tests of these promises
/// wait so long for what does not end.
const SLACK: Duration = Duration::from_secs(10);

/// How long is waited for what has to come. The tests of these promises wait so long for what does not come.
const LIMIT: Duration = Duration::from_secs(if cfg!(test) { 20 } else { 60 });

/// For operations that are to succeed: nothing runs out.
const PATIENT: Patience = Patience {
    attempt: Duration::from_secs(30),
    operation: Duration::from_secs(60),
    retries: 2,
    first_wait: Duration::from_millis(5),
    longest_wait: Duration::from_millis(20),
};

/// A rig with something in its store.
struct Trial<R> {
    rig: R,
    direct: Subject,
    kinds: Kinds,
}

impl<R: Rig> Trial<R> {
    async fn new(rig: R) -> Self {
        let direct = rig.direct().await;
        let kinds = rig.kinds();
        create(&direct, "kept").await;
        Self { rig, direct, kinds }
    }

    fn proxy(&self) -> &FaultProxy {
        self.rig.proxy()
    }

    async fn connect(&self, patience: Patience) -> Subject {
        connect(&self.rig, patience).await
    }

    /// Does `op`: a `new` name is created, an `old` one deleted, and what is kept is read.
    async fn ask(&self, store: &Subject, op: StoreOp, which: &str) -> Result<(), StoreError> {
        match op {
            StoreOp::Create => {
                let new = format!("new-{which}");
                store.create(&name(&new), &value(&new)).await
            }
            StoreOp::Get => store.get(&name("kept")).await.map(|entry| {
                assert!(entry.value.ct_eq(&value("kept")), "another value was read");
            }),
            StoreOp::Delete => store.delete(&name(&format!("old-{which}"))).await,
            StoreOp::List => store.list("kept", None, limit(10)).await.map(|page| {
                assert_eq!(page.names, [name("kept")], "something else was listed");
            }),
            StoreOp::Ping => store.ping().await,
        }
    }

    /// Makes sure that `op` has what it needs.
    async fn prepare(&self, op: StoreOp, which: &str) {
        if op == StoreOp::Delete {
            create(&self.direct, &format!("old-{which}")).await;
        }
    }

    /// Which requests to fail so that `op` fails.
    fn requests_of(&self, op: StoreOp) -> impl Fn(&ProxiedRequest) -> bool + Send + Sync + 'static {
        let kinds = Arc::clone(&self.kinds);
        move |request| match kinds(request) {
            // What asks for a sign of life may be any cheap request.
            Some(_) if op == StoreOp::Ping => true,
            kind => kind == Some(op),
        }
    }

    /// Fails every request that is made for an operation, or refuses connections.
    async fn fail(&self, problem: &Problem) {
        match &problem.fault {
            None => self.proxy().refuse().await,
            Some(fault) => self.proxy().always(fault.clone()),
        }
    }

    fn heal(&self) {
        self.proxy().heal();
        self.proxy().accept();
    }

    fn says(&self, trouble: Trouble) -> Answer {
        self.rig
            .says(trouble)
            .unwrap_or_else(|| panic!("a service has an answer for {trouble:?}"))
    }

    /// Everything that can go wrong for a while, and for each what the store may say.
    fn problems(&self) -> Vec<Problem> {
        let unreachable: &[Class] = &[Class::Unreachable];
        let failed: &[Class] = &[Class::Unreachable, Class::Backend];
        let fault = |label, fault, allowed| Problem {
            label,
            fault: Some(fault),
            allowed,
        };
        vec![
            Problem {
                label: "refused connections",
                fault: None,
                allowed: unreachable,
            },
            fault("resets", Fault::Reset, unreachable),
            fault("lost answers", Fault::Lose, unreachable),
            // Least of all is it a stored value that is damaged: that key would be dropped from memory.
            fault("half answers", Fault::Half, failed),
            fault("answers that are cut", Fault::Cut, failed),
            fault("garbage", Fault::Garbage, failed),
            fault("500", Fault::Says(self.says(Trouble::Broken)), failed),
            fault("503", Fault::Says(self.says(Trouble::Unavailable)), unreachable),
            fault(
                "throttling",
                Fault::Says(self.says(Trouble::Throttled { retry_after: None })),
                &[Class::Throttled],
            ),
        ]
    }
}

/// Something that goes wrong for a while.
struct Problem {
    label: &'static str,
    /// None for connections that are refused.
    fault: Option<Fault>,
    /// What the store may say.
    allowed: &'static [Class],
}

/// A class of [`StoreError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Exists,
    NotFound,
    Unreachable,
    Throttled,
    Backend,
    Another,
}

impl Class {
    const fn of(error: &StoreError) -> Self {
        match error {
            StoreError::Exists => Self::Exists,
            StoreError::NotFound => Self::NotFound,
            StoreError::Unreachable { .. } | StoreError::Sealed { .. } => Self::Unreachable,
            StoreError::Throttled { .. } => Self::Throttled,
            StoreError::Backend { .. } => Self::Backend,
            StoreError::AuthFailed { .. }
            | StoreError::Denied { .. }
            | StoreError::Disabled { .. }
            | StoreError::InvalidName { .. }
            | StoreError::Corrupt { .. } => Self::Another,
        }
    }
}

/// A server on the store, which logs everything: all servers of a process share one log, and its level.
fn server(store: Subject) -> TestServer {
    let mut server = TestServer::over(store);
    server.settings.log.error = Level::DEBUG;
    server
}

/// Waits for what has to end by `deadline`.
async fn ends<T>(what: impl fmt::Display, deadline: Duration, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(deadline + SLACK, future)
        .await
        .unwrap_or_else(|_| {
            panic!("{what} has not ended after its deadline of {deadline:?}, nor {SLACK:?} later")
        })
}

/// Waits until `done` says so, but not for ever.
async fn until(what: &str, done: impl AsyncFnMut() -> bool) {
    tokio::time::timeout(LIMIT, crate::raw::looking(done))
        .await
        .unwrap_or_else(|_| panic!("{what}: not within {LIMIT:?}"));
}

async fn connect(rig: &impl Rig, patience: Patience) -> Subject {
    let connected = ends("connecting", PATIENT.operation, rig.connect(patience)).await;
    connected.unwrap_or_else(|error| panic!("connecting: {}", chain(&*error)))
}

async fn create(store: &Subject, text: &str) {
    let created = store.create(&name(text), &value(text)).await;
    assert!(created.is_ok(), "creating {text}: {created:?}");
}

async fn assert_holds(store: &Subject, text: &str, expected: &SecretBytes) {
    match store.get(&name(text)).await {
        Ok(entry) => assert!(entry.value.ct_eq(expected), "{text} holds another value"),
        Err(error) => panic!("reading {text}: {error:?}"),
    }
}

fn name(text: &str) -> EntryName {
    EntryName::parse(text).unwrap()
}

fn value(text: &str) -> SecretBytes {
    SecretBytes::copy_of(format!("the value of {text}").as_bytes())
}

fn limit(names: usize) -> NonZeroUsize {
    NonZeroUsize::new(names).unwrap()
}
