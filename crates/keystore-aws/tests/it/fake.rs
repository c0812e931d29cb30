//! A fake of Secrets Manager, for what moto does not do. It answers what a test tells it to, in the forms that the vendor
//! documents, and remembers what it was asked.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::HeaderMap;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use kes_keystore_aws::{AwsStore, Config};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::rig::{SHORT, config_at, connect};

/// A name that the store asks for to see whether the service is there.
pub(crate) const PING: &str = "kes/ping";

pub(crate) struct Fake {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    _tasks: JoinSet<()>,
}

/// What the fake was asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) operation: String,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The access key id that it was signed with.
    pub(crate) fn signer(&self) -> &str {
        let header = self.header("authorization");
        let (_, rest) = header.split_once("Credential=").unwrap_or_default();
        rest.split('/').next().unwrap_or_default()
    }
}

/// What the fake answers.
pub(crate) enum Reply {
    Answer {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: String,
    },
    /// The connection ends without an answer.
    Nothing,
    /// There is no answer until the connection ends.
    Silence,
}

impl Reply {
    pub(crate) fn with_header(mut self, name: &'static str, value: &str) -> Self {
        if let Self::Answer { headers, .. } = &mut self {
            headers.push((name, value.to_owned()));
        }
        self
    }
}

/// A success.
pub(crate) fn success(body: Value) -> Reply {
    answer(200, body.to_string())
}

/// A refusal as the service words it.
pub(crate) fn refusal(kind: &str, message: &str) -> Reply {
    let status = if kind == "InternalServiceError" { 500 } else { 400 };
    answer(status, json!({ "__type": kind, "message": message }).to_string())
}

pub(crate) fn answer(status: u16, body: String) -> Reply {
    Reply::Answer {
        status,
        headers: vec![("content-type", "application/x-amz-json-1.1".to_owned())],
        body,
    }
}

pub(crate) fn not_found() -> Reply {
    refusal(
        "ResourceNotFoundException",
        "Secrets Manager can't find the specified secret.",
    )
}

/// What `GetSecretValue` answers.
pub(crate) fn a_secret(name: &str, value: &str) -> Reply {
    success(json!({
        "ARN": format!("arn:aws:secretsmanager:us-east-2:123456789012:secret:{name}-AbCdEf"),
        "Name": name,
        "SecretString": value,
        "VersionId": "11111111-1111-4111-8111-111111111111",
        "VersionStages": ["AWSCURRENT"],
    }))
}

/// What `CreateSecret` answers.
pub(crate) fn created(name: &str) -> Reply {
    success(json!({
        "ARN": format!("arn:aws:secretsmanager:us-east-2:123456789012:secret:{name}-AbCdEf"),
        "Name": name,
        "VersionId": "11111111-1111-4111-8111-111111111111",
    }))
}

type Script = Box<dyn FnMut(&Asked) -> Reply + Send>;

impl Fake {
    /// A service that answers with `script`, but for the question whether it is there, to which it says yes.
    pub(crate) async fn start(mut script: impl FnMut(&Asked) -> Reply + Send + 'static) -> Self {
        Self::of_everything(move |asked: &Asked| {
            if asked.body["SecretId"] == PING {
                not_found()
            } else {
                script(asked)
            }
        })
        .await
    }

    /// A service that answers with `script`.
    pub(crate) async fn of_everything(script: impl FnMut(&Asked) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let script: Arc<Mutex<Script>> = Arc::new(Mutex::new(Box::new(script)));
        let mut tasks = JoinSet::new();
        tasks.spawn({
            let asked = Arc::clone(&asked);
            async move {
                let mut connections = JoinSet::new();
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    let (asked, script) = (Arc::clone(&asked), Arc::clone(&script));
                    connections.spawn(async move {
                        let hang_up = Arc::new(Notify::new());
                        let service = service_fn(|request| {
                            reply(
                                request,
                                Arc::clone(&asked),
                                Arc::clone(&script),
                                Arc::clone(&hang_up),
                            )
                        });
                        let serving = hyper::server::conn::http1::Builder::new()
                            .serve_connection(TokioIo::new(stream), service);
                        tokio::select! {
                            _ = serving => {}
                            () = hang_up.notified() => {}
                        }
                    });
                }
            }
        });
        Self {
            address,
            asked,
            _tasks: tasks,
        }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn config(&self) -> Config {
        Config {
            patience: SHORT,
            ..config_at(&self.endpoint(), "us-east-2")
        }
    }

    pub(crate) async fn connect(&self) -> AwsStore {
        connect(self.config()).await.unwrap()
    }

    /// What was asked, in this order, without whether the service is there.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        let asked = self.asked.lock().unwrap();
        asked
            .iter()
            .filter(|asked| asked.body["SecretId"] != PING)
            .cloned()
            .collect()
    }

    /// All that was asked.
    pub(crate) fn everything_asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

async fn reply(
    request: Request<Incoming>,
    asked: Arc<Mutex<Vec<Asked>>>,
    script: Arc<Mutex<Script>>,
    hang_up: Arc<Notify>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let target = parts
        .headers
        .get("x-amz-target")
        .map(|value| value.to_str().unwrap());
    let question = Asked {
        operation: target.unwrap_or_default().replace("secretsmanager.", ""),
        path: parts.uri.to_string(),
        headers: parts.headers.clone(),
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
    };
    asked.lock().unwrap().push(question.clone());
    let reply = (script.lock().unwrap())(&question);
    match reply {
        Reply::Answer {
            status,
            headers,
            body,
        } => {
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(name, value);
            }
            Ok(response.body(Full::from(body)).unwrap())
        }
        Reply::Nothing => {
            hang_up.notify_one();
            std::future::pending().await
        }
        Reply::Silence => std::future::pending().await,
    }
}

/// What the fake says.
pub(crate) type Says = fn() -> Reply;

/// Gives the replies in turn, and the last one for ever.
pub(crate) fn in_turn(replies: Vec<Says>) -> impl FnMut(&Asked) -> Reply {
    let mut turn = 0;
    move |_| {
        let reply = replies.get(turn).or(replies.last()).unwrap();
        turn += 1;
        reply()
    }
}
