//! The client, and how it is made. Its operations are in the modules.

mod access;
mod keys;
mod state;
mod store;

pub use keys::MAX_BULK;

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use hyper_util::client::proxy::matcher::Matcher;
use kes_types::Verb;
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::transport::{Call, Kind, Limits, MAX_ANSWER, Open, Repeat, Transport, Whole, path_of};
use crate::{BadEndpoint, Credentials, Endpoint, Error, EventStream, ServerTrust};

/// How long one server may take for one answer, unless [`ClientBuilder::timeout`] says otherwise: longer than any of the server's
/// own time limits, so that its answer is heard.
///
/// ```
/// assert_eq!(kes_client::DEFAULT_TIMEOUT.as_secs(), 20);
/// ```
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(20);

/// How long all attempts together may take, unless [`ClientBuilder::deadline`] says otherwise.
///
/// ```
/// assert!(kes_client::DEFAULT_DEADLINE > kes_client::DEFAULT_TIMEOUT);
/// ```
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(60);

/// How many more times all servers are asked, unless [`ClientBuilder::retries`] says otherwise.
///
/// ```
/// assert_eq!(kes_client::DEFAULT_RETRIES, 2);
/// ```
pub const DEFAULT_RETRIES: u32 = 2;

/// The wait before the first of these times, unless [`ClientBuilder::retry_wait`] says otherwise.
///
/// ```
/// assert_eq!(kes_client::DEFAULT_RETRY_WAIT.as_millis(), 100);
/// ```
pub const DEFAULT_RETRY_WAIT: Duration = Duration::from_millis(100);

/// Makes a [`Client`].
///
/// ```no_run
/// use std::time::Duration;
/// use kes_client::{Client, Credentials, Endpoint, ServerTrust};
///
/// # fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let client = Client::builder(Endpoint::parse_list("kes-1:7373,kes-2:7373")?)
///     .credentials(Credentials::from_files("client.key".as_ref(), "client.crt".as_ref())?)
///     .trust(ServerTrust::system().and_path("ca.pem".as_ref())?)
///     .deadline(Duration::from_secs(10))
///     .build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ClientBuilder {
    endpoints: Vec<Endpoint>,
    credentials: Option<Credentials>,
    trust: Option<ServerTrust>,
    limits: Limits,
    proxy_from_environment: bool,
}

impl ClientBuilder {
    /// Who the client is. Without, only what needs no authentication works.
    ///
    /// ```no_run
    /// # fn example(builder: kes_client::ClientBuilder) -> Result<(), Box<dyn std::error::Error>> {
    /// use kes_client::Credentials;
    ///
    /// let builder = builder.credentials(Credentials::from_api_key(&std::env::var("MINIO_KES_API_KEY")?)?);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = Some(credentials);
        self
    }

    /// Which servers to believe; by default those that the system's authorities vouch for.
    ///
    /// ```no_run
    /// # fn example(builder: kes_client::ClientBuilder) -> Result<(), Box<dyn std::error::Error>> {
    /// use kes_client::ServerTrust;
    ///
    /// let builder = builder.trust(ServerTrust::none().and_path("public.crt".as_ref())?);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn trust(mut self, trust: ServerTrust) -> Self {
        self.trust = Some(trust);
        self
    }

    /// How long one server may take for one answer; 20 seconds by default.
    ///
    /// ```no_run
    /// # fn example(builder: kes_client::ClientBuilder) {
    /// let builder = builder.timeout(std::time::Duration::from_secs(3));
    /// # }
    /// ```
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.limits.timeout = timeout;
        self
    }

    /// How long a call may take with all its attempts and waits; 60 seconds by default. Of a listing it is for each page, of a log
    /// or backup until it begins.
    ///
    /// ```no_run
    /// # fn example(builder: kes_client::ClientBuilder) {
    /// let builder = builder.deadline(std::time::Duration::from_secs(10));
    /// # }
    /// ```
    #[must_use]
    pub const fn deadline(mut self, deadline: Duration) -> Self {
        self.limits.deadline = deadline;
        self
    }

    /// How many more times all servers are asked when none of them answered, or all are busy or fail; twice by default. What is
    /// repeated at all stands [at the crate](crate#what-is-repeated).
    ///
    /// ```no_run
    /// # fn example(builder: kes_client::ClientBuilder) {
    /// // Each server once.
    /// let builder = builder.retries(0);
    /// # }
    /// ```
    #[must_use]
    pub const fn retries(mut self, retries: u32) -> Self {
        self.limits.retries = retries;
        self
    }

    /// About how long to wait before all servers are asked again; 100 milliseconds by default, four times as long before each
    /// further time, and longer where a busy server says so.
    ///
    /// ```no_run
    /// # fn example(builder: kes_client::ClientBuilder) {
    /// let builder = builder.retry_wait(std::time::Duration::from_millis(20));
    /// # }
    /// ```
    #[must_use]
    pub const fn retry_wait(mut self, wait: Duration) -> Self {
        self.limits.wait = wait;
        self
    }

    /// Connects directly, even if `HTTPS_PROXY` names a proxy.
    ///
    /// ```no_run
    /// # fn example(builder: kes_client::ClientBuilder) {
    /// let builder = builder.without_proxy();
    /// # }
    /// ```
    #[must_use]
    pub const fn without_proxy(mut self) -> Self {
        self.proxy_from_environment = false;
        self
    }

    /// Makes the client; nothing is sent yet.
    ///
    /// ```no_run
    /// # fn example(builder: kes_client::ClientBuilder) -> Result<(), kes_client::BadEndpoint> {
    /// let client = builder.build()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When there is no endpoint.
    pub fn build(self) -> Result<Client, BadEndpoint> {
        let Self {
            endpoints,
            credentials,
            trust,
            limits,
            proxy_from_environment,
        } = self;
        if endpoints.is_empty() {
            return Err(BadEndpoint::Empty);
        }
        let trust = trust.unwrap_or_else(ServerTrust::system);
        let proxies = if proxy_from_environment {
            Matcher::from_env()
        } else {
            Matcher::builder().build()
        };
        Ok(Client {
            transport: Transport::new(endpoints, credentials.as_ref(), trust, limits, proxies),
        })
    }
}

/// Sends requests to one of several servers that share a key store. Cheap to clone; clones share their connections.
///
/// Every method fails as [`Error`] says. Dropping its future gives the request up: over HTTP/1.1 the connection ends, over HTTP/2
/// its stream. What a server has begun it may finish all the same.
///
/// ```no_run
/// use kes_client::{Client, Credentials, Endpoint};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let client = Client::builder(vec![Endpoint::parse("kes.example.net:7373")?])
///     .credentials(Credentials::from_api_key(&std::env::var("MINIO_KES_API_KEY")?)?)
///     .build()?;
/// let in_another_task = client.clone();
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    transport: Transport,
}

impl Client {
    /// A client of `endpoints`, which are asked in this order.
    ///
    /// ```no_run
    /// use kes_client::{Client, Endpoint};
    ///
    /// let client = Client::builder(Endpoint::parse_list("kes-1:7373,kes-2:7373")?).build()?;
    /// # Ok::<(), kes_client::BadEndpoint>(())
    /// ```
    #[must_use]
    pub const fn builder(endpoints: Vec<Endpoint>) -> ClientBuilder {
        ClientBuilder {
            endpoints,
            credentials: None,
            trust: None,
            limits: Limits {
                timeout: DEFAULT_TIMEOUT,
                deadline: DEFAULT_DEADLINE,
                retries: DEFAULT_RETRIES,
                wait: DEFAULT_RETRY_WAIT,
            },
            proxy_from_environment: true,
        }
    }

    /// The servers, in the order in which they are asked.
    ///
    /// ```no_run
    /// # fn example(client: kes_client::Client) {
    /// for endpoint in client.endpoints() {
    ///     println!("{endpoint}");
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn endpoints(&self) -> &[Endpoint] {
        self.transport.endpoints()
    }

    /// This client with another limit for one answer of one server. It shares the connections.
    ///
    /// ```no_run
    /// # async fn example(client: kes_client::Client) -> Result<(), kes_client::Error> {
    /// client.with_timeout(std::time::Duration::from_secs(1)).ready().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        let mut client = self.clone();
        client.transport.limits.timeout = timeout;
        client
    }

    /// This client with another limit for all attempts of a call together. It shares the connections.
    ///
    /// ```no_run
    /// # async fn example(client: kes_client::Client) -> Result<(), kes_client::Error> {
    /// client.with_deadline(std::time::Duration::from_secs(5)).create_key("my-key").await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn with_deadline(&self, deadline: Duration) -> Self {
        let mut client = self.clone();
        client.transport.limits.deadline = deadline;
        client
    }

    /// Asks about `resource`.
    async fn get<T: DeserializeOwned>(&self, verb: Verb, resource: &str) -> Result<T, Error> {
        self.json(Method::GET, verb, resource, Bytes::new(), Form::Object)
            .await
    }

    /// Has `resource` do something with `request` that can be repeated.
    async fn put<T: DeserializeOwned>(
        &self,
        verb: Verb,
        resource: &str,
        request: &(impl Serialize + Sync),
    ) -> Result<T, Error> {
        let body = json(request)?;
        self.json(Method::PUT, verb, resource, body, Form::Object).await
    }

    async fn json<T: DeserializeOwned>(
        &self,
        method: Method,
        verb: Verb,
        resource: &str,
        body: Bytes,
        form: Form,
    ) -> Result<T, Error> {
        let call = Call {
            method,
            path: &path_of(verb, resource),
            body,
            repeat: Repeat::Freely,
        };
        let answer = self.whole(&call, Kind::Json).await?;
        form.check(&answer)?;
        serde_json::from_slice(&answer).map_err(|error| Error::malformed_json(&error))
    }

    /// Has something done that is answered without a body.
    async fn order(
        &self,
        method: Method,
        verb: Verb,
        resource: &str,
        body: Bytes,
        repeat: Repeat<'_>,
    ) -> Result<(), Error> {
        let call = Call {
            method,
            path: &path_of(verb, resource),
            body,
            repeat,
        };
        self.whole(&call, Kind::Nothing).await.map(drop)
    }

    async fn whole(&self, call: &Call<'_>, kind: Kind) -> Result<Zeroizing<Vec<u8>>, Error> {
        let whole = Whole {
            kind,
            limit: MAX_ANSWER,
        };
        self.transport.call(call, &whole).await
    }

    /// An answer whose body is read by the caller.
    async fn open(&self, verb: Verb) -> Result<(Endpoint, http::Response<hyper::body::Incoming>), Error> {
        let call = Call {
            method: Method::GET,
            path: &path_of(verb, ""),
            body: Bytes::new(),
            repeat: Repeat::Freely,
        };
        self.transport.call(&call, &Open).await
    }

    async fn follow<T: DeserializeOwned>(&self, verb: Verb) -> Result<EventStream<T>, Error> {
        let (endpoint, response) = self.open(verb).await?;
        EventStream::new(endpoint, response)
    }
}

/// What a JSON document is. The types of answers would read an array as the fields of an object.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Object,
    Array,
}

impl Form {
    fn check(self, json: &[u8]) -> Result<(), Error> {
        let (first, name) = match self {
            Self::Object => (b'{', "no JSON object"),
            Self::Array => (b'[', "no JSON array"),
        };
        if json.trim_ascii_start().first() == Some(&first) {
            return Ok(());
        }
        Err(Error::malformed(format!("it is {name}")))
    }
}

/// A request body that is zeroed when it has been sent, since it may hold a plaintext.
fn json(request: &impl Serialize) -> Result<Bytes, Error> {
    let mut body = Zeroizing::new(Vec::with_capacity(1 << 10));
    serde_json::to_writer(Growing(&mut body), request).map_err(|_| Error::InvalidRequest {
        reason: "it cannot be written as JSON".to_owned(),
    })?;
    Ok(Bytes::from_owner(body))
}

/// Writes into a buffer of which no copy stays behind when it grows.
struct Growing<'a>(&'a mut Zeroizing<Vec<u8>>);

impl std::io::Write for Growing<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        crate::transport::append(self.0, bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
