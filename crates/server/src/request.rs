//! One request, from its head to its answer.
//!
//! The order of checks: path, method, announced length of the body, then under the route's timeout who asks, whether that
//! is allowed, the resource's name, and the body. Whatever becomes of it is audited before it is answered.

use std::borrow::Cow;
use std::convert::Infallible;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use futures_util::FutureExt as _;
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version, header};
use http_body::Body as _;
use hyper::body::Incoming;
use kes_keyring::service::{self, Authorizer, Call, Caller, Grant};
use kes_types::{EnclaveName, Operation, Principal, Verb};
use rustls::pki_types::UnixTime;
use tokio::time::timeout;
use tracing::{debug, error, warn};

use crate::audit::RequestAudit;
use crate::body::{self, AnswerBody};
use crate::connection::Connection;
use crate::error::{ApiError, NO_CERTIFICATE, TWO_CERTIFICATES, UNRECORDED};
use crate::handlers::{self, Reply};
use crate::identity::Peer;
use crate::log::chain;
use crate::policy;
use crate::proxy;
use crate::route::{Auth, IGNORED_BODY, MAX_BODY, Matched};
use crate::state::Snapshot;

/// Answers a request. What changes the key store runs to its end even if the client goes away meanwhile.
pub(crate) async fn handle(
    connection: Arc<Connection>,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody>, Infallible> {
    let in_progress = connection.activity.begin();
    let shared = &connection.shared;
    let _counted = shared.metrics.request();
    let started = shared.clock.monotonic();
    let snapshot = shared.snapshot();
    let (parts, body) = request.into_parts();

    let matched = snapshot.routes.find(&parts.method, parts.uri.path());
    let verb = matched.as_ref().ok().map(|matched| matched.verb);
    // Over HTTP/1.1, hyper leaves out the body by itself.
    let has_no_body = parts.method == Method::HEAD && parts.version == Version::HTTP_2;
    let mut request = Received {
        started,
        matched: matched.map(Matched::into_owned),
        parts,
        body,
    };
    let answer = match verb {
        Some(Verb::CreateKey | Verb::ImportKey | Verb::DeleteKey | Verb::UndeleteKey) => {
            let (connection, snapshot) = (Arc::clone(&connection), Arc::clone(&snapshot));
            let task = shared
                .tasks
                .spawn(async move { request.answer(&connection, &snapshot).await });
            task.await.unwrap_or_else(|error| Err(ApiError::internal(error)))
        }
        _ => request.answer(&connection, &snapshot).await,
    };
    let mut response = match answer {
        Ok(reply) => reply.into_response(in_progress),
        Err(error) => error.into_response(),
    };
    if has_no_body {
        *response.body_mut() = AnswerBody::Whole(None);
    }
    let took = shared.clock.monotonic().since(started);
    shared.metrics.answered(verb, response.status().as_u16(), took);
    Ok(response)
}

/// A request whose route has been looked up.
struct Received {
    started: kes_types::Monotonic,
    matched: Result<Matched<'static>, ApiError>,
    parts: Parts,
    body: Incoming,
}

impl Received {
    /// The future of a request is moved about, so what is rare is boxed.
    async fn answer(&mut self, connection: &Connection, snapshot: &Snapshot) -> Result<Reply, ApiError> {
        let Self {
            started,
            matched,
            parts,
            body,
        } = self;
        let shared = &*connection.shared;
        let client = Client::of(connection, snapshot, &parts.headers);
        let enclave = parts.uri.query().and_then(named_enclave);
        if let Some(enclave) = &enclave {
            shared.warn_of_enclave(enclave);
        }
        // Decoded, so that whoever searches the log for a path finds it however a client spelt it.
        let path = match matched {
            Ok(matched) if parts.uri.path().contains('%') => {
                Cow::Owned([matched.verb.path(), &*matched.resource].concat())
            }
            _ => Cow::Borrowed(parts.uri.path()),
        };
        let audit = RequestAudit {
            shared,
            snapshot,
            method: parts.method.as_str(),
            path: &path,
            verb: matched.as_ref().ok().map(|matched| matched.verb),
            ip: client.ip,
            principal: client.principal(),
            enclave: enclave.as_ref(),
            started: *started,
            recorded: AtomicBool::new(false),
        };
        let announced = body.size_hint().lower();
        let outcome = match matched {
            Ok(matched) if announced > matched.max_body.max(IGNORED_BODY) as u64 => {
                Box::pin(service::answer(
                    matched.timeout,
                    &audit,
                    Err(ApiError::too_large()),
                ))
                .await
            }
            Ok(matched) => {
                let Matched {
                    verb,
                    max_body,
                    timeout,
                    auth,
                    ref resource,
                } = *matched;
                let (operation, listing) = matched.operation();
                let call = Call {
                    operation: &operation,
                    principal: client.principal(),
                    timeout,
                };
                let gate = Gate {
                    connection,
                    snapshot,
                    client: &client,
                    auth,
                };
                let (headers, body) = (&parts.headers, &mut *body);
                service::perform(&call, &gate, &audit, |caller: Caller| {
                    let request = handlers::Permitted {
                        shared,
                        snapshot,
                        caller,
                        verb,
                        resource,
                        listing,
                        headers,
                        body,
                        max_body,
                    };
                    async move {
                        match AssertUnwindSafe(handlers::run(request)).catch_unwind().await {
                            Ok(done) => done,
                            Err(panic) => Err(ApiError::internal(describe(&*panic))),
                        }
                    }
                })
                .await
            }
            Err(error) => {
                let error = std::mem::replace(error, ApiError::not_found());
                let timeout = Some(snapshot.limits.header_timeout);
                Box::pin(service::answer(timeout, &audit, Err(error))).await
            }
        };
        if let Err(error) = &outcome {
            if error.retry {
                shared.metrics.overloaded();
            }
            // What every client meets at once is logged once a minute; all else each time.
            let verb = audit.verb.unwrap_or(Verb::Version);
            let throttle = if error.message == UNRECORDED {
                &shared.unrecorded
            } else {
                &shared.overloads
            };
            let logged = || throttle.admit(None, verb, shared.clock.monotonic()).is_some();
            if !error.retry || logged() {
                log_failure(error, parts, &path, &client);
            }
            let small = body
                .size_hint()
                .exact()
                .is_some_and(|length| length <= 2 * MAX_BODY as u64);
            let in_time = error.status != StatusCode::SERVICE_UNAVAILABLE || error.retry;
            if in_time && !body.is_end_stream() && small && !parts.headers.contains_key(header::EXPECT) {
                // Otherwise the close of the connection, with bytes unread, could overtake the answer.
                let discarded = body::discard(body, 2 * MAX_BODY);
                _ = Box::pin(timeout(snapshot.limits.header_timeout, discarded)).await;
            }
        }
        outcome
    }
}

/// Who sent a request.
struct Client {
    who: Who,
    ip: IpAddr,
}

enum Who {
    Known(Principal),
    Anonymous,
    Ambiguous,
    /// A proxy speaks for it, but does not say properly for whom.
    Misintroduced(ApiError),
}

impl Client {
    fn of(connection: &Connection, snapshot: &Snapshot, headers: &HeaderMap) -> Self {
        let ip = connection.remote.ip().to_canonical();
        let who = match &connection.peer {
            Peer::Known(identity) => {
                if let Some(proxy) = snapshot
                    .proxy
                    .as_ref()
                    .filter(|proxy| proxy.identities.contains(identity))
                {
                    let verifier = snapshot.tls.verifier.as_deref();
                    let now = u64::try_from(connection.shared.clock.now().unix_timestamp()).unwrap_or(0);
                    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now));
                    let ip = proxy::forwarded_ip(headers).unwrap_or(ip);
                    let who = match proxy::forwarded_identity(headers, &proxy.header, verifier, now) {
                        // A proxy that forwards a proxy's certificate, its own included, has nobody's permissions.
                        Ok(identity) if proxy.identities.contains(&identity) => Who::Anonymous,
                        Ok(identity) => Who::Known(Principal { identity }),
                        Err(error) => Who::Misintroduced(error),
                    };
                    return Self { who, ip };
                }
                Who::Known(Principal {
                    identity: identity.clone(),
                })
            }
            Peer::Anonymous => Who::Anonymous,
            Peer::Ambiguous => Who::Ambiguous,
        };
        Self { who, ip }
    }

    fn principal(&self) -> Option<&Principal> {
        match &self.who {
            Who::Known(principal) => Some(principal),
            Who::Anonymous | Who::Ambiguous | Who::Misintroduced(_) => None,
        }
    }
}

/// Decides by the snapshot's policies.
struct Gate<'a> {
    connection: &'a Connection,
    snapshot: &'a Snapshot,
    client: &'a Client,
    auth: Auth,
}

impl Authorizer for Gate<'_> {
    type Failure = ApiError;

    async fn authorize(&self, call: &Call<'_>, grant: Grant) -> Result<Caller, ApiError> {
        let principal = self.client.principal();
        let role = principal.map(|principal| self.snapshot.access.role(&principal.identity));
        let Err(refusal) = policy::decide(self.auth, role, call.operation) else {
            return Ok(grant.permit(call.principal));
        };
        match &self.client.who {
            Who::Known(principal) => {
                self.log_denial(principal, call.operation, &refusal.to_string());
                Err(ApiError::not_authorized())
            }
            Who::Anonymous => Err(ApiError::bad_request(NO_CERTIFICATE)),
            Who::Ambiguous => Err(ApiError::bad_request(TWO_CERTIFICATES)),
            Who::Misintroduced(error) => Err(ApiError::new(error.status, error.message.clone())),
        }
    }
}

impl Gate<'_> {
    fn log_denial(&self, principal: &Principal, operation: &Operation<'_>, reason: &str) {
        let shared = &self.connection.shared;
        let identity = &principal.identity;
        if let Some(left_out) = shared
            .denials
            .admit(Some(identity), operation.verb, shared.clock.monotonic())
        {
            warn!(
                req.path = &*operation.canonical_path(),
                req.identity = identity.as_str(),
                req.ip = %self.client.ip,
                reason,
                similar = left_out,
                "request denied"
            );
        }
    }
}

fn named_enclave(query: &str) -> Option<EnclaveName> {
    let value = query.split('&').find_map(|pair| pair.strip_prefix("enclave="))?;
    let value = percent_encoding::percent_decode_str(value).decode_utf8().ok()?;
    EnclaveName::parse(&value).ok()
}

fn log_failure(failure: &ApiError, parts: &Parts, path: &str, client: &Client) {
    let ApiError {
        status,
        message,
        source,
        ..
    } = failure;
    let cause = source.as_deref().map(|source| chain(source)).unwrap_or_default();
    let identity = client
        .principal()
        .map_or("<unknown>", |principal| principal.identity.as_str());
    let method = parts.method.as_str();
    let (code, ip) = (status.as_u16(), client.ip);
    macro_rules! log {
        ($level:ident) => {
            $level!(
                req.method = method,
                req.path = path,
                req.ip = %ip,
                req.identity = identity,
                code,
                cause = cause.as_str(),
                "{message}"
            )
        };
    }
    if *status == StatusCode::INTERNAL_SERVER_ERROR {
        log!(error);
    } else if status.is_server_error() {
        log!(warn);
    } else {
        log!(debug);
    }
}

fn describe(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panic: {}", text.unwrap_or("unknown"))
}
