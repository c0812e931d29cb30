//! A small key service over HTTP, and the rig for stores of its kind.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::store::{Bad, HttpStore};
use super::*;

/// What the service wants to be shown begins with this.
const TOKEN: &str = "t0ken+of the/service";
/// What tells the service's answers from those of anything between.
pub(super) const MARK: &str = "x-key-service";

/// `PUT`, `GET` and `DELETE` of `/keys/NAME`, `GET /keys?PREFIX` and `GET /health`.
struct Service {
    endpoint: String,
    token: String,
    task: JoinHandle<()>,
}

type Entries = Arc<Mutex<BTreeMap<String, Bytes>>>;

impl Service {
    fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let listener = TcpListener::from_std(listener).unwrap();
        // Another one for each, because all tests of a process share the log.
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let token = format!("{TOKEN} {:06}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let entries = Entries::default();
        let authorization = format!("Bearer {token}");
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (entries, authorization) = (Arc::clone(&entries), authorization.clone());
                let service =
                    service_fn(move |request| answer(Arc::clone(&entries), authorization.clone(), request));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self {
            endpoint,
            token,
            task,
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(
    entries: Entries,
    authorization: String,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes);
    let (status, body) = match body {
        Ok(_) if head.headers["authorization"] != authorization => (401, Bytes::new()),
        Ok(body) => act(&entries, &head.method, head.uri.path(), head.uri.query(), body),
        Err(_) => (400, Bytes::new()),
    };
    let response = Response::builder().status(status).header(MARK, "1");
    Ok(response.body(Full::new(body)).unwrap())
}

fn act(entries: &Entries, method: &Method, path: &str, query: Option<&str>, body: Bytes) -> (u16, Bytes) {
    let mut entries = entries.lock().unwrap();
    let none = Bytes::new();
    match (method.as_str(), path.strip_prefix("/keys/")) {
        ("PUT", Some(name)) if entries.contains_key(name) => (409, none),
        ("PUT", Some(name)) => {
            entries.insert(name.to_owned(), body);
            (201, none)
        }
        ("GET", Some(name)) => match entries.get(name) {
            Some(value) => (200, value.clone()),
            None => (404, none),
        },
        ("DELETE", Some(name)) => match entries.remove(name) {
            Some(_) => (200, none),
            None => (404, none),
        },
        ("GET", None) if path == "/keys" => {
            let prefix = query.unwrap_or_default();
            let names: Vec<_> = entries
                .keys()
                .filter(|name| name.starts_with(prefix))
                .map(String::as_str)
                .collect();
            (200, names.join("\n").into())
        }
        ("GET", None) if path == "/health" => (200, none),
        _ => (405, none),
    }
}

pub(super) struct ServiceRig {
    service: Service,
    proxy: FaultProxy,
    bad: Option<Bad>,
}

impl ServiceRig {
    pub(super) fn new(bad: Option<Bad>) -> Self {
        let service = Service::start();
        Self {
            proxy: FaultProxy::start(&service.endpoint),
            service,
            bad,
        }
    }
}

#[async_trait]
impl Rig for ServiceRig {
    fn proxy(&self) -> &FaultProxy {
        &self.proxy
    }

    async fn connect(&self, patience: Patience) -> Result<Subject, BoxError> {
        let store = HttpStore::new(&self.proxy.endpoint(), &self.service.token, patience, self.bad);
        store.ping().await?;
        Ok(Arc::new(store))
    }

    async fn direct(&self) -> Subject {
        Arc::new(HttpStore::new(
            &self.service.endpoint,
            &self.service.token,
            PATIENT,
            None,
        ))
    }

    fn kinds(&self) -> Kinds {
        Arc::new(|request| match (request.method.as_str(), request.path()) {
            ("GET", "/keys") => Some(StoreOp::List),
            ("GET", "/health") => Some(StoreOp::Ping),
            ("PUT", _) => Some(StoreOp::Create),
            ("GET", _) => Some(StoreOp::Get),
            ("DELETE", _) => Some(StoreOp::Delete),
            _ => None,
        })
    }

    fn says(&self, trouble: Trouble) -> Option<Answer> {
        let answer = |status| Answer::of(status, "text/plain", "").with_header(MARK, "1");
        Some(match trouble {
            Trouble::Throttled { retry_after: None } => answer(429),
            Trouble::Throttled {
                retry_after: Some(time),
            } => answer(429).with_header("retry-after", &time.as_secs().to_string()),
            Trouble::Broken => answer(500),
            Trouble::Unavailable => answer(503),
        })
    }

    fn secrets(&self) -> Vec<(&'static str, Vec<u8>)> {
        vec![("the token", self.service.token.as_bytes().to_vec())]
    }

    async fn told(&self) -> Vec<String> {
        Vec::new()
    }
}
