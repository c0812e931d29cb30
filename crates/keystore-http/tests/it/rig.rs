//! A server that does what it is told to, byte by byte, and clients for it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kes_keystore_http::{Http, HttpSettings, Method, Proxies, Request, Url};
use kes_testkit::PATIENCE;
use kes_tls::ServerTrust;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

/// What a server does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// Says this and waits for the next request.
    Say(String),
    /// Says this and ends the connection.
    SayAndClose(String),
    /// Says this and breaks the connection off.
    SayAndReset(String),
    /// Says this and nothing more.
    SayAndHang(String),
}

/// An answer with this status and body.
pub(crate) fn answer(status: &str, body: &str) -> Reply {
    Reply::Say(format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    ))
}

/// A server that runs until it is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    connections: Arc<Mutex<usize>>,
    task: AbortHandle,
}

impl Server {
    /// Does with each request as `reply` says, who sees its head and body.
    pub(crate) async fn start(reply: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_at("127.0.0.1:0", None, reply).await
    }

    /// The same with TLS.
    pub(crate) async fn start_tls(
        config: ServerConfig,
        reply: impl Fn(&str) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::start_at("127.0.0.1:0", Some(config), reply).await
    }

    /// The same at another address.
    pub(crate) async fn start_at(
        address: &str,
        tls: Option<ServerConfig>,
        reply: impl Fn(&str) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let acceptor = tls.map(|config| TlsAcceptor::from(Arc::new(config)));
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(Mutex::new(0));
        let (seen, count, reply) = (Arc::clone(&requests), Arc::clone(&connections), Arc::new(reply));
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                *count.lock().unwrap() += 1;
                let (acceptor, seen, reply) = (acceptor.clone(), Arc::clone(&seen), Arc::clone(&reply));
                tokio::spawn(async move {
                    let Some(acceptor) = acceptor else {
                        serve(stream, &seen, &*reply).await;
                        return;
                    };
                    match acceptor.accept(stream).into_fallible().await {
                        Ok(stream) => serve(stream, &seen, &*reply).await,
                        // Closing with bytes unread could overtake the alert.
                        Err((_, stream)) => drain(stream).await,
                    }
                });
            }
        });
        Self {
            address,
            requests,
            connections,
            task: task.abort_handle(),
        }
    }

    /// The requests so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// How many connections there have been.
    pub(crate) fn connections(&self) -> usize {
        *self.connections.lock().unwrap()
    }

    /// The server's URL, without encryption.
    pub(crate) fn url(&self, path: &str) -> Url {
        format!("http://{}{path}", self.address).parse().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A connection that can be broken off.
trait Stream: AsyncRead + AsyncWrite + Unpin {
    fn tcp(&self) -> &TcpStream;
}

impl Stream for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Stream for tokio_rustls::server::TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

async fn serve(
    mut stream: impl Stream,
    seen: &Mutex<Vec<String>>,
    reply: &(dyn Fn(&str) -> Reply + Send + Sync),
) {
    while let Some(request) = read(&mut stream).await {
        let reply = reply(&request);
        seen.lock().unwrap().push(request);
        let (Reply::Say(text)
        | Reply::SayAndClose(text)
        | Reply::SayAndReset(text)
        | Reply::SayAndHang(text)) = &reply;
        // The client may have had enough.
        if stream.write_all(text.as_bytes()).await.is_err() || stream.flush().await.is_err() {
            return;
        }
        match reply {
            Reply::Say(_) => {}
            Reply::SayAndClose(_) => {
                let _ = stream.shutdown().await;
                return;
            }
            Reply::SayAndReset(_) => {
                stream.tcp().set_zero_linger().unwrap();
                return;
            }
            Reply::SayAndHang(_) => return drain(stream).await,
        }
    }
}

/// Reads until the client ends the connection.
async fn drain(mut stream: impl AsyncRead + Unpin) {
    let mut rest = [0; 1024];
    while stream.read(&mut rest).await.unwrap_or(0) > 0 {}
}

/// One request, or `None` where the client ends the connection.
async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut request = Vec::new();
    loop {
        if stream.read_buf(&mut request).await.ok()? == 0 {
            return None;
        }
        let text = String::from_utf8_lossy(&request);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head
            .to_ascii_lowercase()
            .lines()
            .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())
            .unwrap_or(0);
        if body.len() >= length {
            return Some(text.into_owned());
        }
    }
}

/// Settings of a client that trusts nobody and connects directly.
pub(crate) fn settings() -> HttpSettings {
    HttpSettings {
        trust: ServerTrust::none(),
        identity: None,
        keep_alive: false,
        connect_timeout: PATIENCE,
        proxies: Proxies::Direct,
        tls_settings: "keystore.vault.tls",
    }
}

/// A client that trusts nobody and connects directly.
pub(crate) fn http() -> Http {
    Http::new(settings()).unwrap()
}

pub(crate) fn get(url: Url) -> Request {
    Request::new(Method::GET, url)
}

/// Long enough for what must not happen, short enough to wait for it.
pub(crate) const SHORT: Duration = Duration::from_millis(100);
