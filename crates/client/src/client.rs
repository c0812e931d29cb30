//! The operations of the API.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Response};
use hyper::body::Incoming;
use hyper_util::client::proxy::matcher::Matcher;
use kes_types::Verb;
use kes_types::wire::{
    ApiRoute, AuditEvent, Base64, DecryptRequest, DecryptResponse, EncryptRequest, EncryptResponse,
    ErrorEvent, GenerateRequest, GenerateResponse, HmacRequest, HmacResponse, IdentityList, ImportRequest,
    KeyDescription, NameList, StatusResponse, StoreInfoResponse, VersionResponse,
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::transport::{Answer, Call, Transport};
use crate::{
    BackupStream, Credentials, Endpoint, Error, EventStream, IdentityInfo, Measurements, PolicyInfo,
    ServerTrust,
};

/// Longer than any of the server's own time limits, so that its answer is heard.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(20);
/// The longest answer to anything but a listing.
const MAX_ANSWER: usize = 1 << 20;
/// The longest page of a listing. Servers up to 2023 send everything as one.
const MAX_PAGE: usize = 32 << 20;

/// What stays as it is in a path segment: what URLs call unreserved, and the `*` of patterns.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'*');

/// Makes a [`Client`].
#[derive(Debug)]
pub struct ClientBuilder {
    endpoints: Vec<Endpoint>,
    credentials: Option<Credentials>,
    trust: Option<ServerTrust>,
    timeout: Duration,
    proxy_from_environment: bool,
}

impl ClientBuilder {
    /// Who the client is. Without, only what needs no authentication works.
    #[must_use]
    pub fn credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = Some(credentials);
        self
    }

    /// Which servers to believe; by default those that the system's authorities vouch for.
    #[must_use]
    pub fn trust(mut self, trust: ServerTrust) -> Self {
        self.trust = Some(trust);
        self
    }

    /// How long one server may take for one answer; 20 seconds by default.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Connects directly, even if `HTTPS_PROXY` names a proxy.
    #[must_use]
    pub const fn without_proxy(mut self) -> Self {
        self.proxy_from_environment = false;
        self
    }

    /// Makes the client; nothing is sent yet.
    ///
    /// # Errors
    /// When there is no endpoint.
    pub fn build(self) -> Result<Client, crate::BadEndpoint> {
        let Self {
            endpoints,
            credentials,
            trust,
            timeout,
            proxy_from_environment,
        } = self;
        if endpoints.is_empty() {
            return Err(crate::BadEndpoint::Empty);
        }
        let trust = trust.unwrap_or_else(ServerTrust::system);
        let proxies = if proxy_from_environment {
            Matcher::from_env()
        } else {
            Matcher::builder().build()
        };
        Ok(Client {
            transport: Transport::new(endpoints, credentials.as_ref(), trust, timeout, proxies),
        })
    }
}

/// Sends requests to one of several servers that share a key store. Cheap to clone; clones share their connections.
#[derive(Clone, Debug)]
pub struct Client {
    transport: Transport,
}

impl Client {
    /// A client of `endpoints`, which are asked in this order.
    #[must_use]
    pub const fn builder(endpoints: Vec<Endpoint>) -> ClientBuilder {
        ClientBuilder {
            endpoints,
            credentials: None,
            trust: None,
            timeout: DEFAULT_TIMEOUT,
            proxy_from_environment: true,
        }
    }

    /// The servers, in the order in which they are asked.
    #[must_use]
    pub fn endpoints(&self) -> &[Endpoint] {
        self.transport.endpoints()
    }

    /// Version of the server. Needs no credentials.
    ///
    /// # Errors
    /// Every method fails as [`Error`] says.
    pub async fn version(&self) -> Result<VersionResponse, Error> {
        self.get(Verb::Version, "").await
    }

    /// Succeeds when the server and its key store work.
    pub async fn ready(&self) -> Result<(), Error> {
        self.send(Method::GET, Verb::Ready, "", Bytes::new()).await
    }

    /// State of the server.
    pub async fn status(&self) -> Result<StatusResponse, Error> {
        self.get(Verb::Status, "").await
    }

    /// The routes of the server.
    pub async fn api(&self) -> Result<Vec<ApiRoute>, Error> {
        self.get(Verb::Api, "").await
    }

    /// Metrics of the server, in the text format of Prometheus.
    pub async fn metrics(&self) -> Result<String, Error> {
        let answer = self
            .call(Method::GET, Verb::Metrics, "", Bytes::new(), MAX_ANSWER)
            .await?;
        String::from_utf8(answer.body.to_vec()).map_err(|_| Error::Malformed {
            reason: "not UTF-8".to_owned(),
        })
    }

    /// What of [`Self::metrics`] servers of all years measure.
    pub async fn measurements(&self) -> Result<Measurements, Error> {
        Measurements::parse(&self.metrics().await?).ok_or_else(|| Error::Malformed {
            reason: "there are no metrics of a KES server in it".to_owned(),
        })
    }

    /// Creates a key.
    pub async fn create_key(&self, name: &str) -> Result<(), Error> {
        self.send(Method::PUT, Verb::CreateKey, name, Bytes::new()).await
    }

    /// Stores the 32 bytes of `key` as a key for the algorithm `cipher`: `AES256` or `ChaCha20`.
    pub async fn import_key(&self, name: &str, key: &[u8], cipher: &str) -> Result<(), Error> {
        let body = json(&ImportRequest {
            key: Base64::copy_of(key),
            cipher: cipher.to_owned(),
        });
        self.send(Method::PUT, Verb::ImportKey, name, body).await
    }

    /// Describes a key.
    pub async fn describe_key(&self, name: &str) -> Result<KeyDescription, Error> {
        self.get(Verb::DescribeKey, name).await
    }

    /// Deletes a key. What it has encrypted is lost, unless the server's key store keeps deleted keys for a while
    /// ([`Self::undelete_key`]).
    pub async fn delete_key(&self, name: &str) -> Result<(), Error> {
        self.send(Method::DELETE, Verb::DeleteKey, name, Bytes::new())
            .await
    }

    /// Brings back a deleted key as it was. Only the admin can, and only where the server keeps its key store itself;
    /// elsewhere the answer is the status 404.
    pub async fn undelete_key(&self, name: &str) -> Result<(), Error> {
        self.send(Method::PUT, Verb::UndeleteKey, name, Bytes::new())
            .await
    }

    /// The names of all keys that start with `prefix`, in byte order.
    pub async fn list_keys(&self, prefix: &str) -> Result<Vec<String>, Error> {
        self.list::<NameList>(Verb::ListKeys, prefix).await
    }

    /// A fresh data key, as it is and encrypted. Decryption must repeat `context`.
    pub async fn generate(&self, key: &str, context: &[u8]) -> Result<GenerateResponse, Error> {
        let body = json(&GenerateRequest {
            context: Base64::copy_of(context),
            version: String::new(),
        });
        self.put(Verb::GenerateKey, key, body).await
    }

    /// Encrypts `plaintext`. Decryption must repeat `context`.
    pub async fn encrypt(
        &self,
        key: &str,
        plaintext: &[u8],
        context: &[u8],
    ) -> Result<EncryptResponse, Error> {
        let body = json(&EncryptRequest {
            plaintext: Base64::copy_of(plaintext),
            context: Base64::copy_of(context),
            version: String::new(),
        });
        self.put(Verb::EncryptKey, key, body).await
    }

    /// Decrypts `ciphertext`, which was made with the same `context`.
    pub async fn decrypt(
        &self,
        key: &str,
        ciphertext: &[u8],
        context: &[u8],
    ) -> Result<DecryptResponse, Error> {
        self.put(Verb::DecryptKey, key, json(&decrypt_request(ciphertext, context)))
            .await
    }

    /// Decrypts pairs of ciphertext and context, at most [`kes_types::wire::MAX_BULK`] at once. All of them or none.
    pub async fn decrypt_bulk(
        &self,
        key: &str,
        items: &[(&[u8], &[u8])],
    ) -> Result<Vec<DecryptResponse>, Error> {
        let requests: Vec<_> = items
            .iter()
            .map(|(ciphertext, context)| decrypt_request(ciphertext, context))
            .collect();
        let answer: Vec<DecryptResponse> = self.put(Verb::BulkDecryptKey, key, json(&requests)).await?;
        if answer.len() == items.len() {
            return Ok(answer);
        }
        Err(Error::Malformed {
            reason: format!("{} plaintexts for {} ciphertexts", answer.len(), items.len()),
        })
    }

    /// The HMAC-SHA-256 of `message`.
    pub async fn hmac(&self, key: &str, message: &[u8]) -> Result<HmacResponse, Error> {
        let body = json(&HmacRequest {
            message: Base64::copy_of(message),
            version: String::new(),
        });
        self.put(Verb::HmacKey, key, body).await
    }

    /// Describes a policy.
    pub async fn describe_policy(&self, name: &str) -> Result<PolicyInfo, Error> {
        self.get(Verb::DescribePolicy, name).await
    }

    /// A policy with its rules.
    pub async fn read_policy(&self, name: &str) -> Result<PolicyInfo, Error> {
        self.get(Verb::ReadPolicy, name).await
    }

    /// The names of all policies that start with `prefix`, in byte order.
    pub async fn list_policies(&self, prefix: &str) -> Result<Vec<String>, Error> {
        self.list::<NameList>(Verb::ListPolicies, prefix).await
    }

    /// Describes an identity.
    pub async fn describe_identity(&self, identity: &str) -> Result<IdentityInfo, Error> {
        self.get(Verb::DescribeIdentity, identity).await
    }

    /// Describes this client's own identity, with its policy.
    pub async fn describe_self(&self) -> Result<IdentityInfo, Error> {
        self.get(Verb::DescribeSelf, "").await
    }

    /// All identities that start with `prefix`, in byte order.
    pub async fn list_identities(&self, prefix: &str) -> Result<Vec<String>, Error> {
        self.list::<IdentityList>(Verb::ListIdentities, prefix).await
    }

    /// The server's audit log, from now on.
    pub async fn audit_log(&self) -> Result<EventStream<AuditEvent>, Error> {
        self.open(Verb::AuditLog).await
    }

    /// The server's error log, from now on.
    pub async fn error_log(&self) -> Result<EventStream<ErrorEvent>, Error> {
        self.open(Verb::ErrorLog).await
    }

    /// What there is to know about the server's key store. For whom and where, see [`Self::undelete_key`].
    pub async fn store_info(&self) -> Result<StoreInfoResponse, Error> {
        self.get(Verb::StoreInfo, "").await
    }

    /// A backup of the server's key store as it is now, encrypted as it is there. For whom and where, see
    /// [`Self::undelete_key`]. While another backup is under way, the answer is the status 503.
    ///
    /// ```no_run
    /// # async fn example(client: kes_client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// use std::io::Write as _;
    ///
    /// let mut file = std::fs::File::create_new("keys.backup.incomplete")?;
    /// let mut backup = client.store_backup().await?;
    /// while let Some(piece) = backup.next().await? {
    ///     file.write_all(&piece)?;
    /// }
    /// // Only now is it a backup.
    /// file.sync_all()?;
    /// std::fs::rename("keys.backup.incomplete", "keys.backup")?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn store_backup(&self) -> Result<BackupStream, Error> {
        let (endpoint, response) = self.follow(Verb::StoreBackup).await?;
        BackupStream::new(endpoint, response)
    }

    async fn open<T: DeserializeOwned>(&self, verb: Verb) -> Result<EventStream<T>, Error> {
        let (endpoint, response) = self.follow(verb).await?;
        Ok(EventStream::new(endpoint, response.into_body()))
    }

    /// An answer whose body is read by the caller.
    async fn follow(&self, verb: Verb) -> Result<(Endpoint, Response<Incoming>), Error> {
        let call = Call {
            method: Method::GET,
            path: &path_of(verb, ""),
            body: Bytes::new(),
        };
        self.transport.open(&call).await
    }

    /// Follows a listing to its end.
    async fn list<P: Page>(&self, verb: Verb, prefix: &str) -> Result<Vec<String>, Error> {
        let mut names: Vec<String> = Vec::new();
        let mut pattern = prefix.to_owned();
        loop {
            let answer = self
                .call(Method::GET, verb, &pattern, Bytes::new(), MAX_PAGE)
                .await?;
            if answer.is_ndjson {
                names.extend(name_of_each_line(&answer.body)?);
                break;
            }
            let (page, next) = parse::<P>(&answer.body)?.into_parts();
            // A server that does not page answers the same position again.
            let is_end = next.is_empty() || next == pattern;
            names.extend(page);
            if is_end {
                break;
            }
            pattern = next;
        }
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    async fn get<T: DeserializeOwned>(&self, verb: Verb, resource: &str) -> Result<T, Error> {
        let answer = self
            .call(Method::GET, verb, resource, Bytes::new(), MAX_ANSWER)
            .await?;
        parse(&answer.body)
    }

    async fn put<T: DeserializeOwned>(&self, verb: Verb, resource: &str, body: Bytes) -> Result<T, Error> {
        let answer = self.call(Method::PUT, verb, resource, body, MAX_ANSWER).await?;
        parse(&answer.body)
    }

    async fn send(&self, method: Method, verb: Verb, resource: &str, body: Bytes) -> Result<(), Error> {
        self.call(method, verb, resource, body, MAX_ANSWER)
            .await
            .map(drop)
    }

    async fn call(
        &self,
        method: Method,
        verb: Verb,
        resource: &str,
        body: Bytes,
        limit: usize,
    ) -> Result<Answer, Error> {
        self.transport
            .call(
                &Call {
                    method,
                    path: &path_of(verb, resource),
                    body,
                },
                limit,
            )
            .await
    }
}

fn path_of(verb: Verb, resource: &str) -> String {
    format!("{}{}", verb.path(), utf8_percent_encode(resource, SEGMENT))
}

fn decrypt_request(ciphertext: &[u8], context: &[u8]) -> DecryptRequest {
    DecryptRequest {
        ciphertext: Base64::copy_of(ciphertext),
        context: Base64::copy_of(context),
        version: String::new(),
    }
}

/// A request body that is zeroed when it has been sent, since it may hold a plaintext.
fn json(request: &impl Serialize) -> Bytes {
    let body = serde_json::to_vec(request).expect("requests are plain structs");
    Bytes::from_owner(Zeroizing::new(body))
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(|error| malformed(&error))
}

/// Where the JSON is wrong, but not what stands there.
fn malformed(error: &serde_json::Error) -> Error {
    Error::Malformed {
        reason: format!(
            "{:?} error in JSON at column {}",
            error.classify(),
            error.column()
        ),
    }
}

/// One page of a listing.
trait Page: DeserializeOwned {
    fn into_parts(self) -> (Vec<String>, String);
}

impl Page for NameList {
    fn into_parts(self) -> (Vec<String>, String) {
        (self.names, self.continue_at)
    }
}

impl Page for IdentityList {
    fn into_parts(self) -> (Vec<String>, String) {
        (self.identities, self.continue_at)
    }
}

/// A line of the listings that servers up to 2023 send.
#[derive(Deserialize)]
struct Line {
    #[serde(alias = "identity")]
    name: String,
}

fn name_of_each_line(body: &[u8]) -> Result<Vec<String>, Error> {
    let lines = serde_json::Deserializer::from_slice(body).into_iter::<Line>();
    lines
        .map(|line| line.map(|line| line.name).map_err(|error| malformed(&error)))
        .collect()
}
