//! The store for the small service: as it should be, and in every way bad.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bytes::Bytes;
use hyper::Method;
use hyper::header::HeaderMap;
use kes_keystore::{Entry, Page};

use super::service::MARK;
use super::*;
use crate::proxy::forward;

/// A way to break a promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bad {
    AsksOneAtATime,
    NeverRetries,
    RetriesTenTimes,
    StaysDown,
    CallsHalfAnswersCorrupt,
    PingsWithoutAsking,
    HasNoDeadline,
    HasNoTimeOut,
    WaitsAsItIsTold,
    ComesBackAtOnce,
    TakesAnyAnswer,
    SaysItsOwnIsAnothers,
    TakesAnothersForItsOwn,
    GoesOnWhenCancelled,
    KeepsWhatFailed,
    CallsOutagesFailures,
    ReadsTwice,
    TellsItsToken,
    LogsItsToken,
    ShowsItsToken,
    QuotesAnswers,
}

pub(super) struct HttpStore(Arc<Inner>);

struct Inner {
    service: SocketAddr,
    token: String,
    patience: Patience,
    bad: Option<Bad>,
    turn: tokio::sync::Mutex<()>,
    down: AtomicBool,
    kept: Mutex<Vec<Vec<u8>>>,
}

/// Why an attempt came to nothing.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("no answer: {0}")]
    Unreachable(String),
    #[error("too many requests")]
    Throttled(Option<Duration>),
    #[error("the service failed: {0}")]
    Broken(String),
    #[error("this is not the key service: {0}")]
    Foreign(String),
    #[error("half an answer")]
    Half,
}

impl HttpStore {
    pub(super) fn new(endpoint: &str, token: &str, patience: Patience, bad: Option<Bad>) -> Self {
        let service = endpoint.strip_prefix("http://").unwrap().parse().unwrap();
        Self(Arc::new(Inner {
            service,
            token: token.to_owned(),
            patience,
            bad,
            turn: tokio::sync::Mutex::default(),
            down: AtomicBool::new(false),
            kept: Mutex::default(),
        }))
    }
}

impl Inner {
    fn is(&self, bad: Bad) -> bool {
        self.bad == Some(bad)
    }

    async fn attempt(&self, method: &Method, target: &str, body: &Bytes) -> Result<Answer, Failed> {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", format!("Bearer {}", self.token).parse().unwrap());
        let request = ProxiedRequest {
            method: method.clone(),
            target: target.to_owned(),
            headers,
            body: body.clone(),
            at: Instant::now(),
        };
        let _turn = if self.is(Bad::AsksOneAtATime) {
            Some(self.turn.lock().await)
        } else {
            None
        };
        let answer = match self.is(Bad::HasNoTimeOut) {
            true => forward(self.service, &request).await,
            false => tokio::time::timeout(self.patience.attempt, forward(self.service, &request))
                .await
                .map_err(|_| Failed::Unreachable("it takes too long".to_owned()))?,
        };
        let answer = answer.map_err(|error| match error.kind() {
            std::io::ErrorKind::Other if self.is(Bad::CallsHalfAnswersCorrupt) => Failed::Half,
            _ => Failed::Unreachable(error.to_string()),
        })?;
        if self.is(Bad::TakesAnyAnswer) {
            return Ok(answer);
        }
        let quoted = if self.is(Bad::QuotesAnswers) {
            answer.text()
        } else {
            format!("status {}", answer.status)
        };
        if !answer.headers.contains_key(MARK) {
            return Err(Failed::Foreign(quoted));
        }
        let retry_after = answer.headers.get("retry-after");
        match answer.status {
            429 => Err(Failed::Throttled(retry_after.map(|seconds| {
                Duration::from_secs(seconds.to_str().unwrap().parse().unwrap())
            }))),
            503 => Err(Failed::Unreachable(quoted)),
            401 | 500.. => Err(Failed::Broken(quoted)),
            _ => Ok(answer),
        }
    }

    /// The first answer of some attempts, and whether an earlier one may have been applied.
    async fn attempts(&self, method: Method, target: String, body: Bytes) -> Result<(Answer, bool), Failed> {
        let began = Instant::now();
        let retries = match self.bad {
            Some(Bad::NeverRetries) => 0,
            Some(Bad::RetriesTenTimes) => 10,
            _ => self.patience.retries,
        };
        let (mut attempts, mut in_doubt) = (0, false);
        loop {
            let failed = match self.attempt(&method, &target, &body).await {
                Ok(answer) => return Ok((answer, in_doubt)),
                Err(failed) => failed,
            };
            in_doubt |= !matches!(failed, Failed::Throttled(_));
            let wait = match failed {
                Failed::Throttled(Some(wait)) if !self.is(Bad::ComesBackAtOnce) => wait,
                _ => self.patience.first_wait,
            };
            let has_time = began.elapsed() + wait < self.patience.operation;
            let is_final = matches!(failed, Failed::Foreign(_) | Failed::Half);
            if attempts >= retries || is_final || (!has_time && !self.is(Bad::WaitsAsItIsTold)) {
                return Err(failed);
            }
            attempts += 1;
            tokio::time::sleep(wait).await;
        }
    }

    async fn ask(
        self: &Arc<Self>,
        method: Method,
        target: String,
        body: Bytes,
    ) -> Result<(Answer, bool), StoreError> {
        if self.down.load(Ordering::SeqCst) {
            return Err(self.error(Failed::Unreachable("it was down before".to_owned())));
        }
        let owned = Arc::clone(self);
        let attempts = async move { owned.attempts(method, target, body).await };
        let in_time = async {
            match self.is(Bad::HasNoDeadline) {
                true => attempts.await,
                false => tokio::time::timeout(self.patience.operation, attempts)
                    .await
                    .unwrap_or_else(|_| Err(Failed::Unreachable("the deadline has passed".to_owned()))),
            }
        };
        in_time.await.map_err(|failed| self.error(failed))
    }

    fn error(&self, failed: Failed) -> StoreError {
        if self.is(Bad::StaysDown) {
            self.down.store(true, Ordering::SeqCst);
        }
        if self.is(Bad::KeepsWhatFailed) {
            self.kept.lock().unwrap().push(vec![1; 20_000]);
        }
        if self.is(Bad::LogsItsToken) {
            tracing::debug!(target: "kes_store", "failed with {}", self.token);
        }
        let store = "the key service".to_owned();
        let source: BoxError = if self.is(Bad::TellsItsToken) {
            format!("{failed} for {}", self.token).into()
        } else {
            failed.to_string().into()
        };
        match failed {
            Failed::Unreachable(_) if !self.is(Bad::CallsOutagesFailures) => {
                StoreError::Unreachable { store, source }
            }
            Failed::Throttled(retry_after) => StoreError::Throttled { store, retry_after },
            Failed::Half => StoreError::Corrupt {
                reason: failed.to_string(),
            },
            Failed::Unreachable(_) | Failed::Broken(_) | Failed::Foreign(_) => {
                StoreError::Backend { store, source }
            }
        }
    }

    fn unexpected(&self, answer: &Answer) -> StoreError {
        self.error(Failed::Foreign(format!("status {}", answer.status)))
    }

    async fn read(self: &Arc<Self>, name: &EntryName) -> Result<Entry, StoreError> {
        let target = format!("/keys/{}", name.as_str());
        let (answer, _) = self.ask(Method::GET, target, Bytes::new()).await?;
        match answer.status {
            200 => Ok(Entry {
                value: SecretBytes::copy_of(&answer.body),
                revision: None,
            }),
            404 => Err(StoreError::NotFound),
            _ => Err(self.unexpected(&answer)),
        }
    }
}

#[async_trait]
impl KeyStore for HttpStore {
    async fn create(&self, name: &EntryName, value: &SecretBytes) -> Result<(), StoreError> {
        let inner = &self.0;
        let target = format!("/keys/{}", name.as_str());
        let body = Bytes::copy_from_slice(value.expose_secret());
        let (answer, in_doubt) = inner.ask(Method::PUT, target, body).await?;
        match answer.status {
            201 => Ok(()),
            409 if in_doubt && inner.is(Bad::TakesAnothersForItsOwn) => Ok(()),
            409 if in_doubt && !inner.is(Bad::SaysItsOwnIsAnothers) => {
                let is_ours = inner.read(name).await?.value.ct_eq(value);
                if is_ours { Ok(()) } else { Err(StoreError::Exists) }
            }
            409 => Err(StoreError::Exists),
            _ => Err(inner.unexpected(&answer)),
        }
    }

    async fn get(&self, name: &EntryName) -> Result<Entry, StoreError> {
        if self.0.is(Bad::ReadsTwice) {
            self.0.read(name).await?;
        }
        if self.0.is(Bad::GoesOnWhenCancelled) {
            let (inner, name) = (Arc::clone(&self.0), name.clone());
            return tokio::spawn(async move { inner.read(&name).await })
                .await
                .unwrap();
        }
        self.0.read(name).await
    }

    async fn delete(&self, name: &EntryName) -> Result<(), StoreError> {
        let target = format!("/keys/{}", name.as_str());
        let (answer, _) = self.0.ask(Method::DELETE, target, Bytes::new()).await?;
        match answer.status {
            200 => Ok(()),
            404 => Err(StoreError::NotFound),
            _ => Err(self.0.unexpected(&answer)),
        }
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&EntryName>,
        limit: NonZeroUsize,
    ) -> Result<Page, StoreError> {
        let target = format!("/keys?{prefix}");
        let (answer, _) = self.0.ask(Method::GET, target, Bytes::new()).await?;
        if answer.status != 200 {
            return Err(self.0.unexpected(&answer));
        }
        let text = answer.text();
        let names = text.lines().map(str::to_owned);
        Ok(kes_keystore::paging::page(names, prefix, after, limit))
    }

    async fn ping(&self) -> Result<(), StoreError> {
        if self.0.is(Bad::PingsWithoutAsking) {
            return Ok(());
        }
        let asked = self.0.ask(Method::GET, "/health".to_owned(), Bytes::new());
        asked.await.map(drop)
    }

    async fn close(&self) {}
}

impl fmt::Display for HttpStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the key service at {}", self.0.service)
    }
}

impl fmt::Debug for HttpStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let token = if self.0.is(Bad::ShowsItsToken) {
            self.0.token.as_str()
        } else {
            ""
        };
        write!(f, "HttpStore({} {token})", self.0.service)
    }
}
