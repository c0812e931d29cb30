use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tracing_subscriber::fmt::MakeWriter;

use super::*;
use crate::{MemoryStore, conformance};

/// A store whose operations wait until it is opened.
#[derive(Debug)]
struct Gated {
    gate: Semaphore,
    running: AtomicUsize,
    most: AtomicUsize,
    closed: AtomicBool,
    inner: MemoryStore,
}

impl Gated {
    fn shut() -> Arc<Self> {
        Arc::new(Self {
            gate: Semaphore::new(0),
            running: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            inner: MemoryStore::new(),
        })
    }

    fn open(&self) {
        self.gate.add_permits(1000);
    }

    fn begun(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }

    async fn pass(&self) -> Result<(), StoreError> {
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(running, Ordering::SeqCst);
        self.gate.acquire().await.unwrap().forget();
        tokio::task::yield_now().await;
        self.running.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    }
}

#[async_trait]
impl KeyStore for Gated {
    async fn create(&self, name: &EntryName, value: &SecretBytes) -> Result<(), StoreError> {
        self.pass().await?;
        assert_ne!(name.as_str(), "panic", "as the test wants it");
        self.inner.create(name, value).await
    }

    async fn get(&self, name: &EntryName) -> Result<Entry, StoreError> {
        self.pass().await?;
        self.inner.get(name).await
    }

    async fn delete(&self, name: &EntryName) -> Result<(), StoreError> {
        self.pass().await?;
        self.inner.delete(name).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&EntryName>,
        limit: NonZeroUsize,
    ) -> Result<Page, StoreError> {
        self.pass().await?;
        self.inner.list(prefix, after, limit).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.pass().await
    }

    async fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }
}

impl fmt::Display for Gated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gated")
    }
}

#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

fn limited(store: &Arc<Gated>, at_once: usize) -> Arc<Limited<Gated>> {
    let limits = Limits {
        at_once: NonZeroUsize::new(at_once).unwrap(),
        ..Limits::default()
    };
    Arc::new(Limited::new(Arc::clone(store), limits))
}

fn name(text: &str) -> EntryName {
    EntryName::parse(text).unwrap()
}

fn value() -> SecretBytes {
    SecretBytes::copy_of(b"value")
}

/// Starts a create in a task of its own and comes back when it has got as far as it gets.
async fn begin_create(
    store: &Arc<Limited<Gated>>,
    text: &str,
) -> tokio::task::JoinHandle<Result<(), StoreError>> {
    let (store, name) = (Arc::clone(store), name(text));
    let task = tokio::spawn(async move { store.create(&name, &value()).await });
    settle().await;
    task
}

/// With one thread and no timers due, everything that can happen does within so many turns.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

fn timed_out(error: &StoreError) -> &TimedOut {
    let (StoreError::Unreachable { store, source } | StoreError::Backend { store, source }) = error else {
        panic!("{error:?}")
    };
    assert_eq!(store, "Gated");
    let timed_out: &TimedOut = source.downcast_ref().unwrap();
    // Only a store that was asked and did not answer is out of reach.
    assert_eq!(error.is_outage(), timed_out.waited == Waited::ForAnAnswer);
    timed_out
}

#[tokio::test]
async fn it_keeps_every_promise_of_a_store() {
    conformance::all(async || {
        let limits = Limits {
            at_once: NonZeroUsize::new(3).unwrap(),
            ..Limits::default()
        };
        Arc::new(Limited::new(Arc::new(MemoryStore::new()), limits)) as conformance::Subject
    })
    .await;
}

#[tokio::test]
async fn it_wraps_a_store_that_is_chosen_at_run_time_and_shows_it() {
    let chosen: Arc<dyn KeyStore> = Arc::new(MemoryStore::new());
    let store = Limited::new(chosen, Limits::default());
    assert_eq!(store.to_string(), "In Memory");
    assert!(
        format!("{store:?}").contains("MemoryStore { entries: 0 }"),
        "{store:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_read_that_hangs_is_given_up_at_the_deadline() {
    let store = limited(&Gated::shut(), 8);
    let (any, one) = (name("any"), NonZeroUsize::MIN);
    let began = Instant::now();
    let error = store.get(&any).await.unwrap_err();
    assert_eq!(began.elapsed(), Duration::from_secs(10));
    assert!(error.is_outage());
    let cause = timed_out(&error);
    assert_eq!(
        (cause.op, cause.after, cause.waited),
        (StoreOp::Get, DEADLINE, Waited::ForAnAnswer)
    );
    assert_eq!(cause.to_string(), "get has not ended after 10s");

    let began = Instant::now();
    assert_eq!(
        timed_out(&store.list("", None, one).await.unwrap_err()).op,
        StoreOp::List
    );
    assert_eq!(began.elapsed(), Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn a_ping_is_given_up_after_five_seconds_and_a_shorter_deadline_holds_for_it_too() {
    let store = limited(&Gated::shut(), 8);
    let began = Instant::now();
    assert_eq!(timed_out(&store.ping().await.unwrap_err()).op, StoreOp::Ping);
    assert_eq!(began.elapsed(), Duration::from_secs(5));

    let store = Limited::new(
        Gated::shut(),
        Limits {
            deadline: Duration::from_secs(1),
            ..Limits::default()
        },
    );
    let began = Instant::now();
    assert!(store.ping().await.is_err());
    assert_eq!(began.elapsed(), Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn the_wait_for_a_turn_counts_towards_the_deadline() {
    let gated = Gated::shut();
    let store = limited(&gated, 1);
    let first = begin_create(&store, "first").await;
    tokio::time::advance(Duration::from_secs(4)).await;
    let began = Instant::now();
    let second = store.create(&name("second"), &value()).await.unwrap_err();
    assert_eq!(began.elapsed(), Duration::from_secs(10));
    assert_eq!(timed_out(&second).waited, Waited::ForItsTurn);

    gated.open();
    first.await.unwrap().unwrap();
    assert!(gated.inner.get(&name("first")).await.is_ok());
    assert!(
        matches!(gated.inner.get(&name("second")).await, Err(StoreError::NotFound)),
        "it was never begun"
    );
}

#[tokio::test(start_paused = true)]
async fn a_write_that_outlives_the_deadline_runs_to_its_end() {
    let gated = Gated::shut();
    let store = limited(&gated, 8);
    let began = Instant::now();
    let error = store.create(&name("late"), &value()).await.unwrap_err();
    assert_eq!(began.elapsed(), Duration::from_secs(60));
    assert_eq!(timed_out(&error).waited, Waited::ForAnAnswer);
    assert_eq!(
        timed_out(&error).to_string(),
        "create has not ended after 60s and may yet have an effect"
    );
    gated.open();
    settle().await;
    assert_eq!(
        gated
            .inner
            .get(&name("late"))
            .await
            .unwrap()
            .value
            .expose_secret(),
        b"value"
    );
}

#[tokio::test(start_paused = true)]
async fn a_write_runs_to_its_end_when_its_caller_goes_away() {
    let gated = Gated::shut();
    let store = limited(&gated, 8);
    gated.inner.create(&name("old"), &value()).await.unwrap();
    let create = begin_create(&store, "new").await;
    let delete = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.delete(&name("old")).await }
    });
    settle().await;
    assert_eq!(gated.begun(), 2);
    create.abort();
    delete.abort();
    assert!(create.await.unwrap_err().is_cancelled() && delete.await.unwrap_err().is_cancelled());

    gated.open();
    settle().await;
    assert!(gated.inner.get(&name("new")).await.is_ok());
    assert!(matches!(
        gated.inner.get(&name("old")).await,
        Err(StoreError::NotFound)
    ));
}

#[tokio::test(start_paused = true)]
async fn what_only_waited_for_its_turn_is_not_begun_when_its_caller_goes_away() {
    let gated = Gated::shut();
    let store = limited(&gated, 1);
    let first = begin_create(&store, "first").await;
    let second = begin_create(&store, "second").await;
    second.abort();
    assert!(second.await.unwrap_err().is_cancelled());
    gated.open();
    first.await.unwrap().unwrap();
    settle().await;
    assert!(matches!(
        gated.inner.get(&name("second")).await,
        Err(StoreError::NotFound)
    ));
}

#[tokio::test(start_paused = true)]
async fn no_more_run_at_once_than_allowed() {
    let gated = Gated::shut();
    let store = limited(&gated, 3);
    let mut tasks = Vec::new();
    for i in 0..20 {
        tasks.push(begin_create(&store, &format!("key-{i}")).await);
    }
    assert_eq!(gated.begun(), 3);
    gated.open();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(gated.most.load(Ordering::SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn writes_that_hang_do_not_stop_reads() {
    let gated = Gated::shut();
    let store = limited(&gated, 2);
    let hanging = [
        begin_create(&store, "a").await,
        begin_create(&store, "b").await,
        begin_create(&store, "c").await,
    ];
    let reading = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.ping().await }
    });
    settle().await;
    assert_eq!(gated.begun(), 3, "two writes and the read");
    gated.open();
    reading.await.unwrap().unwrap();
    for write in hanging {
        write.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_takes_longer_than_a_read_may_is_waited_for() {
    let gated = Gated::shut();
    let store = limited(&gated, 8);
    let slow = begin_create(&store, "slow").await;
    tokio::time::advance(Duration::from_secs(12)).await;
    settle().await;
    assert!(!slow.is_finished());
    gated.open();
    slow.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn lists_that_hang_do_not_stop_gets_and_nothing_stops_a_ping() {
    let gated = Gated::shut();
    let store = limited(&gated, 8);
    let mut hanging = Vec::new();
    for _ in 0..20 {
        let store = Arc::clone(&store);
        hanging.push(tokio::spawn(async move {
            store.list("", None, NonZeroUsize::MIN).await.map(drop)
        }));
    }
    settle().await;
    assert_eq!(gated.begun(), LISTS_AT_ONCE);
    for _ in 0..20 {
        let store = Arc::clone(&store);
        hanging.push(tokio::spawn(
            async move { store.get(&name("any")).await.map(drop) },
        ));
    }
    settle().await;
    assert_eq!(gated.begun(), LISTS_AT_ONCE + 8);
    let ping = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.ping().await }
    });
    settle().await;
    assert_eq!(gated.begun(), LISTS_AT_ONCE + 8 + 1);
    gated.open();
    ping.await.unwrap().unwrap();
    for read in hanging {
        assert!(matches!(read.await.unwrap(), Ok(()) | Err(StoreError::NotFound)));
    }
}

#[tokio::test(start_paused = true)]
async fn how_a_write_ended_that_nobody_waited_for_is_logged() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(log.clone())
        .with_ansi(false)
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let gated = Gated::shut();
    let store = limited(&gated, 8);
    gated.inner.create(&name("taken"), &value()).await.unwrap();
    for text in ["new", "taken"] {
        begin_create(&store, text).await.abort();
    }
    settle().await;
    gated.open();
    settle().await;
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert_eq!(log.lines().count(), 2, "{log}");
    for end in [
        "succeeded after its caller had gone op=create name=new",
        "failed after its caller had gone op=create name=taken error=key exists already",
    ] {
        let told = log
            .lines()
            .any(|line| line.contains("WARN") && line.ends_with(end));
        assert!(told, "{log}");
    }
}

#[tokio::test(start_paused = true)]
async fn closing_waits_for_the_writes_under_way() {
    let gated = Gated::shut();
    let store = limited(&gated, 2);
    begin_create(&store, "under-way").await.abort();
    let closing = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.close().await }
    });
    settle().await;
    assert!(!gated.closed.load(Ordering::SeqCst));
    gated.open();
    closing.await.unwrap();
    assert!(gated.inner.get(&name("under-way")).await.is_ok());
    assert!(gated.closed.load(Ordering::SeqCst));
}

#[tokio::test(start_paused = true)]
async fn closing_does_not_wait_for_ever() {
    let gated = Gated::shut();
    let store = limited(&gated, 2);
    begin_create(&store, "hanging").await.abort();
    let began = Instant::now();
    store.close().await;
    assert_eq!(began.elapsed(), DEADLINE);
    assert!(gated.closed.load(Ordering::SeqCst));
    gated.open();
    settle().await;
    assert!(matches!(
        gated.inner.get(&name("hanging")).await,
        Err(StoreError::NotFound)
    ));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_panics_fails_one_write_only() {
    let gated = Gated::shut();
    gated.open();
    let store = limited(&gated, 1);
    let error = store.create(&name("panic"), &value()).await.unwrap_err();
    assert!(matches!(error, StoreError::Backend { .. }), "{error:?}");
    store.create(&name("next"), &value()).await.unwrap();
}
