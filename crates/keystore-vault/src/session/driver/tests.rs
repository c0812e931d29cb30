//! The driver, against an authority in memory, in time that tokio lets pass.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use http::HeaderValue;
use kes_types::{Monotonic, SystemClock, Timestamp};
use tokio::task::JoinSet;
use tokio::time::{advance, sleep};
use zeroize::Zeroizing;

use super::super::Session;
use super::*;

/// The time of tokio, which is paused in these tests.
#[derive(Debug)]
struct PausedClock(Instant);

impl Clock for PausedClock {
    fn now(&self) -> Timestamp {
        SystemClock.now()
    }

    fn monotonic(&self) -> Monotonic {
        Monotonic(self.0.elapsed())
    }
}

fn clock() -> Arc<PausedClock> {
    Arc::new(PausedClock(Instant::now()))
}

/// An authority in memory.
#[derive(Debug)]
struct Memory {
    lease: Duration,
    renewable: bool,
    watch: Option<Duration>,
    /// How long a login takes.
    delay: Mutex<Duration>,
    failure: Mutex<Option<LoginError>>,
    /// The next call meets a defect.
    broken: AtomicBool,
    changed: AtomicBool,
    logins: AtomicUsize,
    renewals: AtomicUsize,
}

impl Memory {
    fn new(lease: u64, renewable: bool) -> Self {
        Self {
            lease: Duration::from_secs(lease),
            renewable,
            watch: None,
            delay: Mutex::new(Duration::from_millis(20)),
            failure: Mutex::new(None),
            broken: AtomicBool::new(false),
            changed: AtomicBool::new(false),
            logins: AtomicUsize::new(0),
            renewals: AtomicUsize::new(0),
        }
    }

    fn logins(&self) -> usize {
        self.logins.load(Ordering::SeqCst)
    }

    fn renewals(&self) -> usize {
        self.renewals.load(Ordering::SeqCst)
    }

    fn fails(&self, failure: Option<LoginError>) {
        *self.failure.lock().expect("a lock") = failure;
    }

    fn takes(&self, delay: Duration) {
        *self.delay.lock().expect("a lock") = delay;
    }

    async fn answer(&self, secret: HeaderValue) -> Result<Grant, LoginError> {
        let delay = *self.delay.lock().expect("a lock");
        sleep(delay).await;
        assert!(!self.broken.swap(false, Ordering::SeqCst), "a defect");
        if let Some(error) = self.failure.lock().expect("a lock").clone() {
            return Err(error);
        }
        Ok(Grant {
            secret,
            lease: self.lease,
            renewable: self.renewable,
        })
    }
}

#[async_trait]
impl Authority for Memory {
    fn vault(&self) -> String {
        "memory".to_owned()
    }

    async fn login(&self) -> Result<Grant, LoginError> {
        let number = self.logins.fetch_add(1, Ordering::SeqCst) + 1;
        let token = Zeroizing::new(format!("token-{number}").into_bytes());
        let secret = Grant::new(token, self.lease, self.renewable)?.secret;
        let grant = self.answer(secret).await?;
        self.changed.store(false, Ordering::SeqCst);
        Ok(grant)
    }

    async fn renew(&self, token: &Token) -> Result<Grant, LoginError> {
        self.renewals.fetch_add(1, Ordering::SeqCst);
        self.answer(token.header()).await
    }

    fn watch(&self) -> Option<Duration> {
        self.watch
    }

    async fn changed(&self) -> bool {
        self.changed.load(Ordering::SeqCst)
    }
}

async fn session(memory: &Arc<Memory>) -> Session {
    let authority: Arc<dyn Authority> = Arc::clone(memory) as _;
    Session::start(authority, clock(), LIMIT).await.expect("a login")
}

const LIMIT: Duration = Duration::from_secs(5);

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn a_session_that_cannot_log_in_does_not_start() {
    let memory = Arc::new(Memory::new(100, true));
    memory.fails(Some(LoginError::refused("no such secret id")));
    let started = Session::start(Arc::clone(&memory) as _, clock(), LIMIT).await;
    assert_eq!(started.expect_err("refused").to_string(), "no such secret id");
}

#[tokio::test(start_paused = true)]
async fn a_first_login_that_hangs_ends_in_time() {
    let memory = Arc::new(Memory::new(100, true));
    memory.takes(secs(3_600));
    let began = Instant::now();
    let started = Session::start(Arc::clone(&memory) as _, clock(), LIMIT).await;
    assert_eq!(
        started.expect_err("no answer").to_string(),
        "Vault has not answered within 5s"
    );
    assert_eq!(began.elapsed(), LIMIT);
}

#[tokio::test(start_paused = true)]
async fn the_token_is_renewed_in_time_for_as_long_as_the_session_lives() {
    let memory = Arc::new(Memory::new(10, true));
    let session = session(&memory).await;
    let first = session.token().await.expect("a token");
    for _ in 0..1_000 {
        sleep(secs(1)).await;
        assert_eq!(session.token().await.expect("a token").number(), first.number());
    }
    assert_eq!(memory.logins(), 1);
    assert!((120..=125).contains(&memory.renewals()), "{}", memory.renewals());
}

#[tokio::test(start_paused = true)]
async fn tokens_that_cannot_be_renewed_follow_one_another() {
    let memory = Arc::new(Memory::new(10, false));
    let session = session(&memory).await;
    for _ in 0..1_000 {
        sleep(secs(1)).await;
        session.token().await.expect("a token");
    }
    assert!((120..=126).contains(&memory.logins()), "{}", memory.logins());
}

#[tokio::test(start_paused = true)]
async fn sixty_four_requests_that_are_refused_cost_one_login() {
    let memory = Arc::new(Memory::new(3_600, true));
    let session = Arc::new(session(&memory).await);
    for round in 2..6 {
        sleep(secs(11)).await;
        let token = session.token().await.expect("a token");
        let mut callers = JoinSet::new();
        for _ in 0..64 {
            let (session, token) = (Arc::clone(&session), token.clone());
            callers.spawn(async move { session.refused(&token, "GET kv").await });
        }
        for refusal in callers.join_all().await {
            let Refusal::Repeat(token) = refusal else {
                panic!("{refusal:?}");
            };
            assert_eq!(token.number(), round);
        }
        assert_eq!(memory.logins() as u64, round);
    }
}

#[tokio::test(start_paused = true)]
async fn callers_who_go_away_do_not_take_the_login_with_them() {
    let memory = Arc::new(Memory::new(3_600, true));
    let session = Arc::new(session(&memory).await);
    sleep(secs(11)).await;
    let token = session.token().await.expect("a token");
    {
        let gone = session.refused(&token, "GET kv");
        assert!(timeout(Duration::from_millis(1), gone).await.is_err());
    }
    let Refusal::Repeat(other) = session.refused(&token, "GET kv").await else {
        panic!("another token");
    };
    assert_eq!((other.number(), memory.logins()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_denied_request_is_told_so_at_once_after_a_recent_login() {
    let memory = Arc::new(Memory::new(3_600, true));
    let session = session(&memory).await;
    sleep(secs(11)).await;
    let token = session.token().await.expect("a token");
    let Refusal::Repeat(token) = session.refused(&token, "GET kv").await else {
        panic!("another token");
    };
    let began = Instant::now();
    assert!(matches!(session.refused(&token, "GET kv").await, Refusal::Denied));
    sleep(secs(6)).await;
    assert!(matches!(session.refused(&token, "GET kv").await, Refusal::Denied));
    assert_eq!((began.elapsed(), memory.logins()), (secs(6), 2));
}

#[tokio::test(start_paused = true)]
async fn all_who_wait_learn_why_the_login_failed() {
    let memory = Arc::new(Memory::new(3_600, true));
    let session = Arc::new(session(&memory).await);
    sleep(secs(11)).await;
    memory.fails(Some(LoginError::refused("the secret id is used up")));
    let token = session.token().await.expect("a token");
    let mut callers = JoinSet::new();
    for _ in 0..64 {
        let (session, token) = (Arc::clone(&session), token.clone());
        callers.spawn(async move { session.refused(&token, "GET kv").await });
    }
    for refusal in callers.join_all().await {
        let Refusal::Failed(error) = refusal else {
            panic!("{refusal:?}");
        };
        assert_eq!(error.to_string(), "the secret id is used up");
    }
    assert_eq!(memory.logins(), 2);
}

#[tokio::test(start_paused = true)]
async fn no_wait_is_longer_than_two_calls_may_take() {
    let memory = Arc::new(Memory::new(10, false));
    let session = session(&memory).await;
    memory.takes(secs(3_600));
    sleep(secs(7)).await;
    let token = session.token().await.expect("a token");
    let began = Instant::now();
    assert!(matches!(
        session.refused(&token, "GET kv").await,
        Refusal::Failed(_)
    ));
    assert!(began.elapsed() <= LIMIT * 2, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn in_an_outage_requests_fail_at_once_and_afterwards_they_work() {
    let memory = Arc::new(Memory::new(10, true));
    let session = session(&memory).await;
    memory.fails(Some(LoginError::unavailable("connection refused")));
    sleep(secs(15)).await;
    for _ in 0..600 {
        sleep(secs(1)).await;
        let began = Instant::now();
        let error = session.token().await.expect_err("an outage");
        assert_eq!(
            (error.to_string().as_str(), began.elapsed()),
            ("connection refused", Duration::ZERO)
        );
    }
    let tried = memory.logins();
    assert!(tried <= 30, "{tried}");

    memory.fails(None);
    sleep(secs(31)).await;
    session.token().await.expect("a token");
    assert_eq!(memory.logins(), tried + 1);
}

#[tokio::test(start_paused = true)]
async fn after_an_outage_the_health_of_vault_hurries_the_login() {
    let memory = Arc::new(Memory::new(10, true));
    let session = session(&memory).await;
    memory.fails(Some(LoginError::unavailable("connection refused")));
    sleep(secs(200)).await;
    session.token().await.expect_err("an outage");
    memory.fails(None);
    session.set_sealed(false);
    sleep(Duration::from_millis(25)).await;
    session.token().await.expect("a token");
}

#[tokio::test(start_paused = true)]
async fn while_vault_is_sealed_nothing_is_asked_and_unsealing_is_noticed_at_once() {
    let memory = Arc::new(Memory::new(10, true));
    let session = session(&memory).await;
    session.set_sealed(true);
    sleep(secs(1_000)).await;
    assert_eq!((memory.logins(), memory.renewals()), (1, 0));
    assert_eq!(session.token().await.expect_err("sealed"), LoginError::sealed());
    session.set_sealed(false);
    assert_eq!(session.token().await.expect("a token").number(), 2);
    assert_eq!(memory.renewals(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_defect_of_this_program_costs_a_login_and_not_the_session() {
    for renewable in [true, false] {
        let memory = Arc::new(Memory::new(100, renewable));
        let session = session(&memory).await;
        memory.broken.store(true, Ordering::SeqCst);
        sleep(secs(81)).await;
        assert!(!memory.broken.load(Ordering::SeqCst), "the defect was met");
        // Long after the end of the first token.
        for _ in 0..100 {
            sleep(secs(10)).await;
            session.token().await.expect("a token");
        }
        drop(session);
        sleep(secs(1_000)).await;
        assert_eq!(Arc::strong_count(&memory), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_ahead_of_the_timers_is_noticed_by_the_next_request() {
    let memory = Arc::new(Memory::new(3_600, true));
    let clock = Arc::new(kes_types::ManualClock::default());
    let session = Session::start(Arc::clone(&memory) as _, Arc::clone(&clock) as _, LIMIT)
        .await
        .expect("a login");
    clock.advance(secs(100_000));
    let began = Instant::now();
    assert_eq!(session.token().await.expect("a token").number(), 2);
    assert_eq!(began.elapsed(), Duration::from_millis(20));
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_ahead_of_the_timers_is_noticed_without_a_request() {
    let memory = Arc::new(Memory::new(3_600, true));
    let clock = Arc::new(kes_types::ManualClock::default());
    let session = Session::start(Arc::clone(&memory) as _, Arc::clone(&clock) as _, LIMIT)
        .await
        .expect("a login");
    clock.advance(secs(3_000));
    sleep(secs(11)).await;
    assert_eq!((memory.logins(), memory.renewals()), (1, 1));
    drop(session);
}

#[tokio::test(start_paused = true)]
async fn what_is_logged_in_with_is_looked_at_and_a_change_is_taken_up() {
    let memory = Arc::new(Memory {
        watch: Some(secs(2)),
        ..Memory::new(0, false)
    });
    let session = session(&memory).await;
    sleep(secs(100)).await;
    assert_eq!(memory.logins(), 1);
    memory.changed.store(true, Ordering::SeqCst);
    // However often the driver is woken meanwhile.
    for _ in 0..30 {
        session.set_sealed(false);
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(
        (memory.logins(), session.token().await.expect("a token").number()),
        (2, 2)
    );
}

#[tokio::test(start_paused = true)]
async fn closing_ends_the_work_and_every_wait() {
    let memory = Arc::new(Memory::new(10, true));
    let session = Arc::new(session(&memory).await);
    sleep(secs(7)).await;
    memory.takes(secs(3));
    let token = session.token().await.expect("a token");
    let mut callers = JoinSet::new();
    for _ in 0..64 {
        let (session, token) = (Arc::clone(&session), token.clone());
        callers.spawn(async move { session.refused(&token, "GET kv").await });
    }
    sleep(Duration::from_millis(100)).await;
    let began = Instant::now();
    session.close();
    for refusal in callers.join_all().await {
        let Refusal::Failed(error) = refusal else {
            panic!("{refusal:?}");
        };
        assert_eq!(error.to_string(), "the key store has been closed");
    }
    assert_eq!(began.elapsed(), Duration::ZERO);
    session.token().await.expect_err("closed");

    let before = (memory.logins(), memory.renewals());
    sleep(secs(1_000)).await;
    assert_eq!((memory.logins(), memory.renewals()), before);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_dropped_does_nothing_more() {
    let memory = Arc::new(Memory::new(10, true));
    drop(session(&memory).await);
    advance(secs(1_000)).await;
    sleep(secs(1_000)).await;
    assert_eq!((memory.logins(), memory.renewals()), (1, 0));
    // Nobody holds on to it any more.
    assert_eq!(Arc::strong_count(&memory), 1);
}

/// Requests that come and go while tokens are revoked at odd moments: each gets an answer, and the token that it gets is
/// good, or there has just been a login.
#[tokio::test(start_paused = true)]
async fn no_request_is_forgotten_whatever_happens_meanwhile() {
    let memory = Arc::new(Memory::new(10, false));
    let session = Arc::new(session(&memory).await);
    let mut callers = JoinSet::new();
    for caller in 0..64u64 {
        let session = Arc::clone(&session);
        callers.spawn(async move {
            for round in 0..200u64 {
                sleep(Duration::from_millis((caller * 37 + round * 113) % 900)).await;
                let token = session.token().await.expect("a token");
                if (caller + round) % 7 == 0 {
                    let _ = session.refused(&token, "GET kv").await;
                }
            }
        });
    }
    let all = timeout(secs(600), callers.join_all()).await;
    assert_eq!(all.expect("every request ends").len(), 64);
}
