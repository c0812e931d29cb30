//! A key store that fails, hangs and lies on demand, and counts what it was asked.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use kes_crypto::SecretBytes;
use kes_keystore::{Entry, EntryName, KeyStore, Page, StoreError, StoreOp};
use tokio::sync::watch;

/// A class of [`StoreError`], to fail with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the variants of StoreError say it")]
pub enum Failure {
    Exists,
    NotFound,
    Unreachable,
    Sealed,
    Throttled,
    AuthFailed,
    Denied,
    Disabled,
    InvalidName,
    Corrupt,
    Backend,
}

impl Failure {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Exists,
        Self::NotFound,
        Self::Unreachable,
        Self::Sealed,
        Self::Throttled,
        Self::AuthFailed,
        Self::Denied,
        Self::Disabled,
        Self::InvalidName,
        Self::Corrupt,
        Self::Backend,
    ];

    /// An error of this class.
    #[must_use]
    pub fn error(self) -> StoreError {
        let store = || FaultyStore::NAME.to_owned();
        match self {
            Self::Exists => StoreError::Exists,
            Self::NotFound => StoreError::NotFound,
            Self::Unreachable => StoreError::Unreachable {
                store: store(),
                source: "as the test wants it".into(),
            },
            Self::Sealed => StoreError::Sealed { store: store() },
            Self::Throttled => StoreError::Throttled {
                store: store(),
                retry_after: None,
            },
            Self::AuthFailed => StoreError::AuthFailed {
                store: store(),
                source: "as the test wants it".into(),
            },
            Self::Denied => StoreError::Denied {
                store: store(),
                hint: "as the test wants it".to_owned(),
            },
            Self::Disabled => StoreError::Disabled { store: store() },
            Self::InvalidName => StoreError::InvalidName {
                reason: "as the test wants it".to_owned(),
            },
            Self::Corrupt => StoreError::Corrupt {
                reason: "as the test wants it".to_owned(),
            },
            Self::Backend => StoreError::Backend {
                store: store(),
                source: "as the test wants it".into(),
            },
        }
    }
}

/// What becomes of a call.
#[derive(Clone, Debug)]
pub enum Step {
    /// It is done.
    Pass,
    /// It fails, and nothing happens.
    Fail(Failure),
    /// It is done, but the answer is a failure.
    FailAfter(Failure),
    /// It panics.
    Panic,
    /// It is done once the gate is open.
    WaitBefore(Gate),
    /// It is done, but the answer comes once the gate is open.
    WaitAfter(Gate),
}

/// What a call waits at until the test lets it go. One that is never opened is a call that hangs.
#[derive(Clone, Debug)]
pub struct Gate(Arc<watch::Sender<GateState>>);

#[derive(Debug, Default)]
struct GateState {
    reached: usize,
    open: bool,
}

impl Gate {
    /// A closed gate.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(GateState::default())))
    }

    /// Lets all calls go, also those that come later.
    pub fn open(&self) {
        self.0.send_modify(|state| state.open = true);
    }

    /// Waits until a call is waiting here or has done so.
    pub async fn reached(&self) {
        wait(&self.0, |state| state.reached > 0).await;
    }

    pub(crate) async fn pass(&self) {
        self.0.send_modify(|state| state.reached += 1);
        wait(&self.0, |state| state.open).await;
    }
}

async fn wait<T>(watched: &watch::Sender<T>, until: impl FnMut(&T) -> bool) {
    let mut changes = watched.subscribe();
    changes.wait_for(until).await.expect("the sender is borrowed");
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

/// What a read gives instead of the stored value.
#[derive(Clone, Debug)]
pub enum Lie {
    /// These bytes.
    Value(Vec<u8>),
    /// The value of another name.
    ValueOf(EntryName),
    /// No more than so many bytes of it.
    Truncated(usize),
}

/// A key store in memory that does as it is told.
///
/// What has been scripted for the next calls of an operation ([`FaultyStore::next`]) comes first, then what was set for all
/// of them ([`FaultyStore::always`]). Clones are the same store, so that a test keeps one and gives away another.
#[derive(Clone, Default)]
pub struct FaultyStore(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// Guards the script, the contents and the counters; each section leaves them whole.
    state: Mutex<State>,
    begun: watch::Sender<usize>,
}

#[derive(Default)]
struct State {
    entries: BTreeMap<String, Vec<u8>>,
    next: HashMap<StoreOp, VecDeque<Step>>,
    always: HashMap<StoreOp, Step>,
    lies: HashMap<String, Lie>,
    page_size: Option<NonZeroUsize>,
    calls: HashMap<StoreOp, usize>,
    running: HashMap<StoreOp, usize>,
    most_at_once: HashMap<StoreOp, usize>,
    closed: usize,
}

impl FaultyStore {
    const NAME: &'static str = "FaultyStore";

    /// An empty store that works.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Decides what becomes of the next call of `op` that has nothing scripted yet.
    pub fn next(&self, op: StoreOp, step: Step) {
        self.state().next.entry(op).or_default().push_back(step);
    }

    /// Decides what becomes of every call of `op`.
    pub fn always(&self, op: StoreOp, step: Step) {
        self.state().always.insert(op, step);
    }

    /// Fails every call of every operation.
    pub fn fail(&self, failure: Failure) {
        for op in StoreOp::ALL {
            self.always(op, Step::Fail(failure));
        }
    }

    /// Forgets all scripts and lies.
    pub fn heal(&self) {
        let mut state = self.state();
        state.next.clear();
        state.always.clear();
        state.lies.clear();
    }

    /// Has reads of `name` give something else.
    pub fn lie(&self, name: &str, lie: Lie) {
        self.state().lies.insert(name.to_owned(), lie);
    }

    /// Lists at most so many names a page, whatever the caller asks for.
    pub fn set_page_size(&self, names: usize) {
        self.state().page_size = NonZeroUsize::new(names);
    }

    /// Stores a value behind everybody's back, as another server would.
    pub fn put(&self, name: &str, value: &[u8]) {
        self.state().entries.insert(name.to_owned(), value.to_vec());
    }

    /// Removes a value behind everybody's back, as another server would.
    pub fn remove(&self, name: &str) -> Option<Vec<u8>> {
        self.state().entries.remove(name)
    }

    /// The stored value.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<Vec<u8>> {
        self.state().entries.get(name).cloned()
    }

    /// How many calls of `op` have begun.
    #[must_use]
    pub fn calls(&self, op: StoreOp) -> usize {
        self.state().calls.get(&op).copied().unwrap_or_default()
    }

    /// The most calls of `op` that have run at the same time.
    #[must_use]
    pub fn most_at_once(&self, op: StoreOp) -> usize {
        self.state().most_at_once.get(&op).copied().unwrap_or_default()
    }

    /// How often the store has been closed.
    #[must_use]
    pub fn closed(&self) -> usize {
        self.state().closed
    }

    /// Waits until `calls` calls of `op` have begun.
    pub async fn called(&self, op: StoreOp, calls: usize) {
        wait(&self.0.begun, |_| self.calls(op) >= calls).await;
    }

    /// Counts the call, does what the script says, and runs `work` where the script lets it.
    async fn run<T>(
        &self,
        op: StoreOp,
        work: impl FnOnce(&mut State) -> Result<T, StoreError> + Send,
    ) -> Result<T, StoreError> {
        let (step, _running) = self.begin(op);
        match step {
            Step::Pass => work(&mut self.state()),
            Step::Fail(failure) => Err(failure.error()),
            Step::FailAfter(failure) => {
                let _done = work(&mut self.state());
                Err(failure.error())
            }
            Step::Panic => panic!("as the test wants it"),
            Step::WaitBefore(gate) => {
                gate.pass().await;
                work(&mut self.state())
            }
            Step::WaitAfter(gate) => {
                let answer = work(&mut self.state());
                gate.pass().await;
                answer
            }
        }
    }

    fn begin(&self, op: StoreOp) -> (Step, Running<'_>) {
        let mut state = self.state();
        *state.calls.entry(op).or_default() += 1;
        let running = {
            let running = state.running.entry(op).or_default();
            *running += 1;
            *running
        };
        let most = state.most_at_once.entry(op).or_default();
        *most = running.max(*most);
        let scripted = state.next.get_mut(&op).and_then(VecDeque::pop_front);
        let step = scripted
            .or_else(|| state.always.get(&op).cloned())
            .unwrap_or(Step::Pass);
        drop(state);
        self.0.begun.send_modify(|calls| *calls += 1);
        (step, Running { store: self, op })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl KeyStore for FaultyStore {
    async fn create(&self, name: &EntryName, value: &SecretBytes) -> Result<(), StoreError> {
        let (name, value) = (name.as_str().to_owned(), value.expose_secret().to_vec());
        self.run(StoreOp::Create, |state| {
            if state.entries.contains_key(&name) {
                return Err(StoreError::Exists);
            }
            state.entries.insert(name, value);
            Ok(())
        })
        .await
    }

    async fn get(&self, name: &EntryName) -> Result<Entry, StoreError> {
        let name = name.as_str();
        self.run(StoreOp::Get, |state| {
            let stored = |name: &str| state.entries.get(name).ok_or(StoreError::NotFound);
            let value = match state.lies.get(name) {
                None => stored(name)?.clone(),
                Some(Lie::Value(value)) => value.clone(),
                Some(Lie::ValueOf(other)) => stored(other.as_str())?.clone(),
                Some(Lie::Truncated(length)) => stored(name)?.iter().take(*length).copied().collect(),
            };
            Ok(Entry {
                value: SecretBytes::new(value),
                revision: None,
            })
        })
        .await
    }

    async fn delete(&self, name: &EntryName) -> Result<(), StoreError> {
        let name = name.as_str();
        self.run(StoreOp::Delete, |state| {
            state.entries.remove(name).map(drop).ok_or(StoreError::NotFound)
        })
        .await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&EntryName>,
        limit: NonZeroUsize,
    ) -> Result<Page, StoreError> {
        let after = after.map_or("", EntryName::as_str);
        self.run(StoreOp::List, |state| {
            let limit = state.page_size.map_or(limit, |own| own.min(limit)).get();
            let mut matching = state
                .entries
                .keys()
                .filter(|name| name.as_str() > after && name.starts_with(prefix))
                .filter_map(|name| EntryName::parse(name).ok());
            let names: Vec<_> = matching.by_ref().take(limit).collect();
            let next = matching.next().and_then(|_| names.last().cloned());
            Ok(Page { names, next })
        })
        .await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.run(StoreOp::Ping, |_| Ok(())).await
    }

    async fn close(&self) {
        self.state().closed += 1;
    }
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::NAME)
    }
}

impl fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultyStore({} entries)", self.state().entries.len())
    }
}

/// Counts a call as running for as long as it is not dropped.
struct Running<'a> {
    store: &'a FaultyStore,
    op: StoreOp,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Some(running) = self.store.state().running.get_mut(&self.op) {
            *running -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use kes_keystore::conformance;

    use super::*;

    #[tokio::test]
    async fn without_a_script_it_is_a_key_store_like_any_other() {
        conformance::all(async || Arc::new(FaultyStore::new()) as conformance::Subject).await;
    }

    #[tokio::test]
    async fn scripted_steps_come_before_the_standing_one() {
        let (store, name) = (FaultyStore::new(), EntryName::parse("key").unwrap());
        store.put("key", b"value");
        store.always(StoreOp::Get, Step::Fail(Failure::Sealed));
        store.next(StoreOp::Get, Step::Pass);
        assert!(store.get(&name).await.is_ok());
        assert!(matches!(store.get(&name).await, Err(StoreError::Sealed { .. })));
        store.heal();
        assert!(store.get(&name).await.is_ok());
        assert_eq!(store.calls(StoreOp::Get), 3);
    }

    #[tokio::test]
    async fn a_call_waits_at_its_gate_until_it_opens() {
        let (store, gate) = (FaultyStore::new(), Gate::new());
        store.next(StoreOp::Ping, Step::WaitBefore(gate.clone()));
        let waiting = tokio::spawn({
            let store = store.clone();
            async move { store.ping().await }
        });
        gate.reached().await;
        assert!(!waiting.is_finished());
        gate.open();
        waiting.await.unwrap().unwrap();
        assert_eq!(store.most_at_once(StoreOp::Ping), 1);
    }

    #[tokio::test]
    async fn lies_are_told_of_one_name_only() {
        let store = FaultyStore::new();
        store.put("key", b"value");
        store.put("other", b"other value");
        let read = async |name| store.get(&EntryName::parse(name).unwrap()).await.unwrap().value;
        store.lie("key", Lie::Truncated(3));
        assert_eq!(read("key").await.expose_secret(), b"val");
        store.lie("key", Lie::ValueOf(EntryName::parse("other").unwrap()));
        assert_eq!(read("key").await.expose_secret(), b"other value");
        store.lie("key", Lie::Value(Vec::new()));
        assert!(read("key").await.is_empty());
        assert_eq!(read("other").await.expose_secret(), b"other value");
    }
}
