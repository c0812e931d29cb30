//! The one path that every request takes, whatever protocol it came by: authorise, run, audit.
//!
//! A front end says who asks and what for ([`Call`]), how to find out whether that is allowed ([`Authorizer`]), how to do
//! it, and where to record it ([`Auditor`]). [`perform`] keeps the order, so that no protocol can leave a step out: what
//! runs gets a [`Caller`], which only an authorisation gives, and nothing is answered before it has been recorded.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use kes_types::{Operation, Principal};

/// A request that has not been authorised yet.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// What is asked.
    pub operation: &'a Operation<'a>,
    /// Who asks; `None` when the protocol could not tell.
    pub principal: Option<&'a Principal>,
    /// How long authorising and running, and then recording, may take; `None` for as long as it takes.
    pub timeout: Option<Duration>,
}

/// Lets an [`Authorizer`] permit one call. Only [`perform`] makes one.
#[derive(Debug)]
pub struct Grant(());

impl Grant {
    /// Permits the call to `principal`.
    #[must_use]
    pub fn permit(self, principal: Option<&Principal>) -> Caller {
        Caller {
            principal: principal.cloned(),
        }
    }
}

/// Proof that a call has been authorised.
#[derive(Debug)]
pub struct Caller {
    principal: Option<Principal>,
}

impl Caller {
    /// Who calls; `None` where the operation is open to anybody.
    #[must_use]
    pub const fn principal(&self) -> Option<&Principal> {
        self.principal.as_ref()
    }

    /// The caller's identity as text; empty when it has none.
    #[must_use]
    pub fn identity(&self) -> &str {
        self.principal
            .as_ref()
            .map_or("", |principal| principal.identity.as_str())
    }
}

/// Decides whether a call is allowed.
pub trait Authorizer {
    /// How a call fails.
    type Failure;

    /// Turns the grant into a [`Caller`], or says why not.
    fn authorize(
        &self,
        call: &Call<'_>,
        grant: Grant,
    ) -> impl Future<Output = Result<Caller, Self::Failure>> + Send;
}

/// Records what became of a call.
pub trait Auditor {
    /// How a call fails.
    type Failure;

    /// Records the outcome; waits for room if it must. Dropped when the call's time is over.
    fn record(
        &self,
        outcome: Result<(), &Self::Failure>,
    ) -> impl Future<Output = Result<(), Unrecorded>> + Send;

    /// Counts an event that could not be recorded in time.
    fn lost(&self);
}

/// An audit event could not be recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the audit event could not be recorded")]
pub struct Unrecorded;

/// The failures that come from the path itself.
pub trait Failure {
    /// The call took longer than it may.
    fn timed_out() -> Self;
    /// The outcome could not be recorded, so it must not be answered.
    fn unrecorded() -> Self;
}

/// Authorises `call`, runs it, records what became of it, and only then answers.
///
/// # Errors
/// What the authoriser, the operation or the path itself answers. When the outcome could not be recorded, this is an error
/// although the operation may have happened.
pub async fn perform<T, F, A, R>(
    call: &Call<'_>,
    authorizer: &A,
    auditor: &R,
    run: impl AsyncRun<T, F>,
) -> Result<T, F>
where
    F: Failure,
    A: Authorizer<Failure = F>,
    R: Auditor<Failure = F>,
{
    let permitted_and_run = async {
        let caller = authorizer.authorize(call, Grant(())).await?;
        run.run(caller).await
    };
    let outcome = within(call.timeout, permitted_and_run).await;
    answer(
        call.timeout,
        auditor,
        outcome.unwrap_or_else(|| Err(F::timed_out())),
    )
    .await
}

/// Records `outcome` and answers it. For what fails before it is a [`Call`]: [`perform`] does this by itself.
///
/// # Errors
/// The outcome's own, or [`Failure::unrecorded`].
pub async fn answer<T, F, R>(timeout: Option<Duration>, auditor: &R, outcome: Result<T, F>) -> Result<T, F>
where
    F: Failure,
    R: Auditor<Failure = F>,
{
    let record = auditor.record(outcome.as_ref().map(|_| ()));
    let recorded = within(timeout, record).await.unwrap_or(Err(Unrecorded));
    if recorded.is_err() {
        auditor.lost();
        return Err(F::unrecorded());
    }
    outcome
}

/// Waits for `future`, but not longer than `timeout`.
///
/// Most of what is asked for is answered from memory, so a timer is made only for what is not ready at once.
async fn within<T>(timeout: Option<Duration>, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    match poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await {
        Poll::Ready(output) => Some(output),
        Poll::Pending => match timeout {
            None => Some(future.await),
            Some(timeout) => tokio::time::timeout(timeout, future).await.ok(),
        },
    }
}

/// What runs once a call is authorised: any `FnOnce(Caller)` that returns a `Send` future.
pub trait AsyncRun<T, F> {
    /// Runs it.
    fn run(self, caller: Caller) -> impl Future<Output = Result<T, F>> + Send;
}

impl<T, F, C, Fut> AsyncRun<T, F> for C
where
    C: FnOnce(Caller) -> Fut,
    Fut: Future<Output = Result<T, F>> + Send,
{
    fn run(self, caller: Caller) -> impl Future<Output = Result<T, F>> + Send {
        self(caller)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use kes_types::{Identity, Verb};

    use super::*;

    #[derive(Debug, PartialEq, Eq)]
    enum Oops {
        Denied,
        TimedOut,
        Unrecorded,
    }

    impl Failure for Oops {
        fn timed_out() -> Self {
            Self::TimedOut
        }

        fn unrecorded() -> Self {
            Self::Unrecorded
        }
    }

    struct Known;

    impl Authorizer for Known {
        type Failure = Oops;

        async fn authorize(&self, call: &Call<'_>, grant: Grant) -> Result<Caller, Oops> {
            if call.principal.is_some() {
                Ok(grant.permit(call.principal))
            } else {
                Err(Oops::Denied)
            }
        }
    }

    #[derive(Default)]
    struct Journal {
        stalled: bool,
        events: Mutex<Vec<bool>>,
        lost: Mutex<usize>,
    }

    impl Auditor for Journal {
        type Failure = Oops;

        async fn record(&self, outcome: Result<(), &Oops>) -> Result<(), Unrecorded> {
            if self.stalled {
                std::future::pending::<()>().await;
            }
            self.events.lock().unwrap().push(outcome.is_ok());
            Ok(())
        }

        fn lost(&self) {
            *self.lost.lock().unwrap() += 1;
        }
    }

    async fn perform_as(
        principal: Option<&Principal>,
        journal: &Journal,
        hang: bool,
    ) -> Result<&'static str, Oops> {
        let operation = Operation::new(Verb::Status, "");
        let call = Call {
            operation: &operation,
            principal,
            timeout: Some(Duration::from_secs(15)),
        };
        perform(&call, &Known, journal, |caller: Caller| async move {
            if hang {
                std::future::pending::<()>().await;
            }
            assert!(caller.principal().is_some());
            Ok("done")
        })
        .await
    }

    fn somebody() -> Principal {
        Principal {
            identity: Identity::parse("somebody").unwrap(),
        }
    }

    #[tokio::test]
    async fn success_and_denial_are_both_recorded() {
        let journal = Journal::default();
        assert_eq!(perform_as(Some(&somebody()), &journal, false).await, Ok("done"));
        assert_eq!(perform_as(None, &journal, false).await, Err(Oops::Denied));
        assert_eq!(*journal.events.lock().unwrap(), [true, false]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_takes_too_long_is_cut_and_recorded() {
        let journal = Journal::default();
        assert_eq!(
            perform_as(Some(&somebody()), &journal, true).await,
            Err(Oops::TimedOut)
        );
        assert_eq!(*journal.events.lock().unwrap(), [false]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_recorded_is_not_answered() {
        let journal = Journal {
            stalled: true,
            ..Journal::default()
        };
        assert_eq!(
            perform_as(Some(&somebody()), &journal, false).await,
            Err(Oops::Unrecorded)
        );
        assert_eq!(*journal.lost.lock().unwrap(), 1);
    }
}
