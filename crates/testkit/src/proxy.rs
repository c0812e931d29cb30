//! An HTTP/1.1 proxy in front of a service, which does to each request what the test wants: passes it on, holds it, answers
//! itself, or loses the answer.

#[cfg(test)]
mod tests;
mod wire;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::Method;
use hyper::header::HeaderMap;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

use self::wire::Client;
pub(crate) use self::wire::forward;
use crate::{Answer, Gate};

/// What becomes of a request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// It is passed on, and so is the answer.
    Pass,
    /// The same, after this time.
    Delay(Duration),
    /// What comes after it, once the gate is open.
    Hold(Gate, Box<Self>),
    /// It is not passed on, and the connection is reset.
    Reset,
    /// It is not passed on, and not answered.
    Hang,
    /// It is not passed on, and answered with this.
    Says(Answer),
    /// It is not passed on, and answered with bytes that are not HTTP.
    Garbage,
    /// It is passed on. When the service has answered, the connection is reset.
    Lose,
    /// It is passed on, and not answered.
    Swallow,
    /// It is passed on. Of the answer only the first half comes, and then the end of the connection.
    Half,
    /// It is passed on. Of the answer only the first bytes come, and then the end of the connection.
    Cut,
    /// It is passed on, and answered with this.
    SaysAfter(Answer),
}

/// A request that has reached the proxy.
#[derive(Clone)]
pub struct ProxiedRequest {
    /// Its method.
    pub method: Method,
    /// Its path and query, as they were sent.
    pub target: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body. Those that [`FaultProxy::requests`] gives have none where it is long.
    pub body: Bytes,
    /// When it had come.
    pub at: Instant,
}

impl ProxiedRequest {
    /// The path, without the query.
    #[must_use]
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// A header, if there is one that is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl fmt::Debug for ProxiedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.target)
    }
}

/// A proxy in front of a service, in the test's own process. It ends when it is dropped.
///
/// What was scripted for some of the next requests ([`FaultProxy::once`]) comes first, then the standing rule
/// ([`FaultProxy::set`]), which at first passes everything on. Service and client speak HTTP/1.1 without TLS.
pub struct FaultProxy {
    shared: Arc<Shared>,
    /// Keeps the port while nobody listens on it. A socket that is bound and does not listen refuses connections.
    reserved: TcpSocket,
    accepting: Mutex<Option<Accepting>>,
}

struct Accepting {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

struct Shared {
    upstream: SocketAddr,
    address: SocketAddr,
    /// Guards rules, script and counters; each section leaves them whole.
    state: Mutex<State>,
}

type Which = Box<dyn Fn(&ProxiedRequest) -> bool + Send>;
type Rule = Arc<dyn Fn(&ProxiedRequest) -> Fault + Send + Sync>;

#[derive(Default)]
struct State {
    script: Vec<(Which, Fault)>,
    rule: Option<Rule>,
    requests: VecDeque<ProxiedRequest>,
    count: usize,
    under_way: usize,
    most_at_once: usize,
    connections: usize,
}

/// How many requests are remembered.
const REMEMBERED: usize = 100_000;
/// The longest body that is remembered.
const SHORT: usize = 512;

impl FaultProxy {
    /// A proxy on a free port in front of the service at `endpoint`, such as `http://127.0.0.1:8200`.
    ///
    /// # Panics
    /// When `endpoint` is anything else than a plain address, or there is no free port.
    pub fn start(endpoint: &str) -> Self {
        let authority = endpoint.strip_prefix("http://").unwrap_or(endpoint);
        let authority = authority.trim_end_matches('/').replace("localhost", "127.0.0.1");
        let upstream = authority
            .parse()
            .unwrap_or_else(|_| panic!("no address that a proxy could stand in front of: {endpoint}"));
        let reserved = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a free port");
        let address = reserved.local_addr().expect("a bound socket has an address");
        let proxy = Self {
            shared: Arc::new(Shared {
                upstream,
                address,
                state: Mutex::default(),
            }),
            reserved,
            accepting: Mutex::new(None),
        };
        proxy.accept();
        proxy
    }

    /// The URL of the proxy.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.shared.address)
    }

    /// Decides what becomes of every request that nothing is scripted for.
    pub fn set(&self, rule: impl Fn(&ProxiedRequest) -> Fault + Send + Sync + 'static) {
        self.shared.state().rule = Some(Arc::new(rule));
    }

    /// The same for all requests alike.
    pub fn always(&self, fault: Fault) {
        self.set(move |_| fault.clone());
    }

    /// Decides what becomes of the next request that is one of `which`.
    pub fn once(&self, which: impl Fn(&ProxiedRequest) -> bool + Send + 'static, fault: Fault) {
        self.shared.state().script.push((Box::new(which), fault));
    }

    /// Passes everything on from now on. What is held or hangs stays so.
    pub fn heal(&self) {
        let mut state = self.shared.state();
        state.script.clear();
        state.rule = None;
    }

    /// Ends all connections and refuses new ones. Returns when that is so.
    pub async fn refuse(&self) {
        let accepting = self.accepting().take();
        if let Some(Accepting { stop, task }) = accepting {
            // It may have ended with its runtime.
            _ = stop.send(());
            _ = task.await;
        }
    }

    /// Accepts connections again.
    ///
    /// # Panics
    /// When somebody else listens on the port.
    pub fn accept(&self) {
        let mut accepting = self.accepting();
        if accepting.is_some() {
            return;
        }
        let address = self.reserved.local_addr().expect("a bound socket has an address");
        let listener = bind(address)
            .and_then(|socket| socket.listen(1024))
            .expect("the port is reserved");
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(serve(Arc::clone(&self.shared), listener, stopped));
        *accepting = Some(Accepting { stop, task });
    }

    /// The latest requests in the order in which they came.
    #[must_use]
    pub fn requests(&self) -> Vec<ProxiedRequest> {
        self.shared.state().requests.iter().cloned().collect()
    }

    /// How many requests have come.
    #[must_use]
    pub fn count(&self) -> usize {
        self.shared.state().count
    }

    /// How many of the requests are some of `which`.
    #[must_use]
    pub fn count_of(&self, which: impl Fn(&ProxiedRequest) -> bool) -> usize {
        let state = self.shared.state();
        state.requests.iter().filter(|request| which(request)).count()
    }

    /// The most requests that came within any `window`.
    #[must_use]
    pub fn busiest(&self, window: Duration) -> usize {
        let state = self.shared.state();
        let mut most = 0;
        let mut within: VecDeque<Instant> = VecDeque::new();
        for request in &state.requests {
            within.push_back(request.at);
            while within
                .front()
                .is_some_and(|first| request.at.duration_since(*first) > window)
            {
                within.pop_front();
            }
            most = within.len().max(most);
        }
        most
    }

    /// How many requests are under way. One that is given up by its client is not any more.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.shared.state().under_way
    }

    /// The most requests that have been under way at the same time.
    #[must_use]
    pub fn most_at_once(&self) -> usize {
        self.shared.state().most_at_once
    }

    /// How many connections are open.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.state().connections
    }

    /// Counts from zero again.
    pub fn forget(&self) {
        let mut state = self.shared.state();
        state.requests.clear();
        state.count = 0;
        state.most_at_once = state.under_way;
    }

    fn accepting(&self) -> MutexGuard<'_, Option<Accepting>> {
        self.accepting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        if let Some(Accepting { task, .. }) = self.accepting().take() {
            task.abort();
        }
    }
}

impl fmt::Debug for FaultProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "FaultProxy({} to {})",
            self.shared.address, self.shared.upstream
        )
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

async fn serve(shared: Arc<Shared>, listener: TcpListener, mut stopped: oneshot::Receiver<()>) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            _ = &mut stopped => break,
            accepted = listener.accept() => accepted,
        };
        while connections.try_join_next().is_some() {}
        // What fails here is a connection that its client has given up.
        if let Ok((stream, _)) = accepted {
            connections.spawn(connection(Arc::clone(&shared), stream));
        }
    }
    drop(listener);
    connections.shutdown().await;
}

/// Answers the requests of one connection, one after the other.
async fn connection(shared: Arc<Shared>, stream: TcpStream) {
    let _open = Counted::new(&shared, |state| &mut state.connections);
    // Without it small answers wait for each other.
    _ = stream.set_nodelay(true);
    let mut client = Client::new(stream);
    while let Some(request) = client.request().await {
        let (fault, _under_way) = shared.begin(&request);
        let reply = tokio::select! {
            reply = shared.reply(fault, &request) => reply,
            () = client.gone() => return,
        };
        match reply {
            Reply::Whole(bytes, keep) => {
                if client.send(&bytes).await.is_err() || !keep {
                    return;
                }
            }
            Reply::Part(bytes) => {
                // The client may have gone, and there is nothing else to say.
                _ = client.send(&bytes).await;
                return;
            }
            Reply::Reset => return client.reset(),
        }
    }
}

/// What a client gets.
enum Reply {
    /// These bytes, and then the connection stays open if so wanted.
    Whole(Vec<u8>, bool),
    /// These bytes, and then the end of the connection.
    Part(Vec<u8>),
    /// A reset.
    Reset,
}

impl Shared {
    /// Counts a request and finds out what becomes of it.
    fn begin(self: &Arc<Self>, request: &ProxiedRequest) -> (Fault, Counted) {
        let mut state = self.state();
        state.count += 1;
        if state.requests.len() >= REMEMBERED {
            state.requests.pop_front();
        }
        let mut remembered = request.clone();
        if remembered.body.len() > SHORT {
            remembered.body = Bytes::new();
        }
        state.requests.push_back(remembered);
        let scripted = state.script.iter().position(|(which, _)| which(request));
        let scripted = scripted.map(|index| state.script.remove(index).1);
        let rule = state.rule.clone();
        drop(state);
        let under_way = Counted::new(self, |state| &mut state.under_way);
        let mut state = self.state();
        state.most_at_once = state.under_way.max(state.most_at_once);
        drop(state);
        // Without the lock: a rule may ask the proxy what has come so far.
        let fault = scripted.or_else(|| rule.map(|rule| rule(request)));
        (fault.unwrap_or(Fault::Pass), under_way)
    }

    async fn reply(&self, mut fault: Fault, request: &ProxiedRequest) -> Reply {
        while let Fault::Hold(gate, then) = fault {
            gate.pass().await;
            fault = *then;
        }
        match fault {
            Fault::Pass | Fault::Hold(..) => self.whole(request).await,
            Fault::Delay(time) => {
                tokio::time::sleep(time).await;
                self.whole(request).await
            }
            Fault::Reset => Reply::Reset,
            Fault::Hang => std::future::pending().await,
            Fault::Says(answer) => {
                let (bytes, _) = wire::encode(&answer);
                Reply::Whole(bytes, true)
            }
            Fault::Garbage => Reply::Part(b"\x15\x03\x01\x00\x02\x02\x16 this is not HTTP\r\n\r\n".to_vec()),
            Fault::Lose => {
                self.pass_on(request).await;
                Reply::Reset
            }
            Fault::Swallow => {
                self.pass_on(request).await;
                std::future::pending().await
            }
            Fault::Half => {
                let (bytes, head) = wire::encode(&self.pass_on(request).await);
                let body = bytes.len() - head;
                // Half of a body, or of the head where there is no body.
                let length = if body == 0 { head / 2 } else { head + body / 2 };
                Reply::Part(bytes.into_iter().take(length).collect())
            }
            Fault::Cut => {
                let (bytes, _) = wire::encode(&self.pass_on(request).await);
                Reply::Part(bytes.into_iter().take(12).collect())
            }
            Fault::SaysAfter(answer) => {
                self.pass_on(request).await;
                let (bytes, _) = wire::encode(&answer);
                Reply::Whole(bytes, true)
            }
        }
    }

    async fn whole(&self, request: &ProxiedRequest) -> Reply {
        let answer = self.pass_on(request).await;
        let keep = !wire::closes(&answer.headers) && !wire::closes(&request.headers);
        let (bytes, _) = wire::encode(&answer);
        Reply::Whole(bytes, keep)
    }

    /// The service's answer; one of our own if there is none.
    async fn pass_on(&self, request: &ProxiedRequest) -> Answer {
        forward(self.upstream, request).await.unwrap_or_else(|error| {
            let text = format!("the service behind the proxy does not answer: {error}");
            Answer::of(502, "text/plain", text)
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts something for as long as it is not dropped.
struct Counted {
    shared: Arc<Shared>,
    which: fn(&mut State) -> &mut usize,
}

impl Counted {
    fn new(shared: &Arc<Shared>, which: fn(&mut State) -> &mut usize) -> Self {
        *which(&mut shared.state()) += 1;
        Self {
            shared: Arc::clone(shared),
            which,
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        *(self.which)(&mut self.shared.state()) -= 1;
    }
}
