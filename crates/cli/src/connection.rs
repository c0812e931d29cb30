//! Which server a client command talks to, and as whom: options first, then the environment of many years.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use kes_client::{Client, Credentials, Endpoint, Error, ServerTrust};
use kes_crypto::pem::{self, PemError, PrivateKeyDer};
use rustls_pki_types as pki;
use tokio::signal::unix::{SignalKind, signal};
use zeroize::Zeroizing;

use crate::args::Connection;
use crate::context::Context;
use crate::environment::Environment;
use crate::failure::{Failure, Outcome};
use crate::password;

const DEFAULT_SERVER: &str = "127.0.0.1:7373";
/// The variables that name servers.
pub(crate) const SERVER: &[&str] = &["MINIO_KES_SERVER", "KES_SERVER", "MINIO_KMS_KES_ENDPOINT"];
const API_KEY: &[&str] = &["MINIO_KES_API_KEY", "KES_API_KEY", "MINIO_KMS_KES_API_KEY"];
const KEY_FILE: &[&str] = &[
    "MINIO_KES_KEY_FILE",
    "KES_CLIENT_KEY",
    "MINIO_KES_CLIENT_KEY",
    "MINIO_KMS_KES_KEY_FILE",
    "KES_CLIENT_TLS_KEY_FILE",
];
const CERT_FILE: &[&str] = &[
    "MINIO_KES_CERT_FILE",
    "KES_CLIENT_CERT",
    "MINIO_KES_CLIENT_CERT",
    "MINIO_KMS_KES_CERT_FILE",
    "KES_CLIENT_TLS_CERT_FILE",
];
const CA_PATH: &str = "MINIO_KMS_KES_CAPATH";

/// How a client command authenticates.
#[derive(PartialEq, Eq)]
enum Login {
    ApiKey(Zeroizing<String>),
    Files { key: PathBuf, cert: PathBuf },
}

/// Where a client command connects.
fn endpoints(options: &Connection, environment: &Environment) -> anyhow::Result<Vec<Endpoint>> {
    let option = options
        .server
        .as_deref()
        .map(str::trim)
        .filter(|server| !server.is_empty());
    let (source, text) = match option {
        Some(server) => ("--server", server),
        None => environment.first(SERVER).unwrap_or(("", DEFAULT_SERVER)),
    };
    Endpoint::parse_list(text).with_context(|| source.to_owned())
}

/// How a client command authenticates. Each kind of credential is looked up on its own.
fn login(options: &Connection, environment: &Environment) -> anyhow::Result<Login> {
    if let Some(key) = options
        .api_key
        .as_deref()
        .map(str::trim)
        .filter(|key| !key.is_empty())
    {
        return Ok(Login::ApiKey(Zeroizing::new(key.to_owned())));
    }
    let api_key = environment.first(API_KEY);
    let (key, cert) = (environment.first(KEY_FILE), environment.first(CERT_FILE));
    match (api_key, key, cert) {
        (Some((name, _)), Some((other, _)), _) | (Some((name, _)), None, Some((other, _))) => {
            bail!("{name} and {other} are both set: unset one of them")
        }
        (Some((_, api_key)), None, None) => Ok(Login::ApiKey(Zeroizing::new(api_key.to_owned()))),
        (None, Some((_, key)), Some((_, cert))) => Ok(Login::Files {
            key: key.into(),
            cert: cert.into(),
        }),
        (None, Some((name, _)), None) => {
            bail!("{name} is set, but {} is not", partner(name, KEY_FILE, CERT_FILE))
        }
        (None, None, Some((name, _))) => {
            bail!("{name} is set, but {} is not", partner(name, CERT_FILE, KEY_FILE))
        }
        (None, None, None) => bail!(
            "no credentials: set MINIO_KES_API_KEY to an API key, or MINIO_KES_KEY_FILE and MINIO_KES_CERT_FILE to files"
        ),
    }
}

/// The variable of `others` that belongs to `name` of `names`.
fn partner(name: &str, names: &[&'static str], others: &[&'static str]) -> &'static str {
    names
        .iter()
        .zip(others)
        .find(|(candidate, _)| **candidate == name)
        .map_or("its partner", |(_, other)| other)
}

/// Whom a client command believes.
fn trust(options: &Connection, environment: &Environment) -> anyhow::Result<ServerTrust> {
    if options.insecure {
        return Ok(ServerTrust::dangerous_anything());
    }
    let system = ServerTrust::system();
    Ok(match environment.get(CA_PATH) {
        Some(path) => system.and_path(Path::new(path)).with_context(|| CA_PATH)?,
        None => system,
    })
}

/// The client of a command. May ask for a password.
pub(crate) fn client(options: &Connection, context: &Context<'_>) -> anyhow::Result<Client> {
    for names in [SERVER, API_KEY, KEY_FILE, CERT_FILE, &[CA_PATH]] {
        context.environment.check(names)?;
    }
    let endpoints = endpoints(options, &context.environment)?;
    let credentials = credentials(&login(options, &context.environment)?, context)?;
    let trust = trust(options, &context.environment)?;
    Ok(Client::builder(endpoints)
        .credentials(credentials)
        .trust(trust)
        // Whoever waits for a command sees its error and decides.
        .retries(0)
        .build()?)
}

fn credentials(login: &Login, context: &Context<'_>) -> anyhow::Result<Credentials> {
    match login {
        Login::ApiKey(text) => Ok(Credentials::from_api_key(text)?),
        Login::Files { key, cert } => {
            let reading = |path: &Path| format!("cannot read {}", path.display());
            let chain = kes_tls::read_file(cert).with_context(|| reading(cert))?;
            let chain = pem::certificates(&chain).with_context(|| cert.display().to_string())?;
            let pem = kes_tls::read_file(key).with_context(|| reading(key))?;
            let private_key = private_key(&pem, key, &context.environment)?;
            let private_key = match &private_key {
                PrivateKeyDer::Pkcs8(der) => pki::PrivateKeyDer::Pkcs8(der.as_slice().into()),
                PrivateKeyDer::Pkcs1(der) => pki::PrivateKeyDer::Pkcs1(der.as_slice().into()),
                PrivateKeyDer::Sec1(der) => pki::PrivateKeyDer::Sec1(der.as_slice().into()),
            };
            let chain = chain.into_iter().map(pki::CertificateDer::from).collect();
            Credentials::from_der(chain, &private_key)
                .with_context(|| format!("{} and {}", key.display(), cert.display()))
        }
    }
}

/// The private key in `pem`, with the password from the environment or the terminal if it needs one.
pub(crate) fn private_key(
    pem: &[u8],
    path: &Path,
    environment: &Environment,
) -> anyhow::Result<PrivateKeyDer> {
    let outcome = match pem::private_key(pem, None) {
        Err(PemError::PasswordRequired) => {
            let password = password::of_key(path, environment)?;
            pem::private_key(pem, Some(password.as_bytes()))
        }
        outcome => outcome,
    };
    outcome.with_context(|| path.display().to_string())
}

/// Runs the requests of a command, until they are done or the user gives up.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T, Error>>) -> Outcome<T> {
    block_on_explained(async { work.await.map_err(explain) })
}

/// Like [`block_on`], for requests whose errors say already what the user can do about them.
pub(crate) fn block_on_explained<T>(work: impl Future<Output = anyhow::Result<T>>) -> Outcome<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            outcome = work => Ok(outcome?),
            _ = interrupt.recv() => Err(Failure::Interrupted),
            _ = terminate.recv() => Err(Failure::Interrupted),
        }
    });
    // A name look-up that is still under way cannot be stopped, but need not be waited for.
    runtime.shutdown_timeout(Duration::from_millis(100));
    outcome
}

/// What servers say about a path that they do not have.
const NO_ROUTE: &[&str] = &["not found", "404 page not found"];

/// Adds to an error what the user can do about it.
pub(crate) fn explain(error: Error) -> anyhow::Error {
    match error {
        Error::Api { status: 403, message } => anyhow!("{message} (prohibited by policy)"),
        Error::Api { status: 404, message } if NO_ROUTE.contains(&message.as_str()) => anyhow!(
            "{message}: the server is an older one that cannot do this, or its key store is not one that it keeps itself"
        ),
        Error::BadCertificate { .. } => anyhow!(
            "{error}; name its CA in {CA_PATH} or SSL_CERT_FILE, or use --insecure (-k) to skip this verification"
        ),
        Error::OutcomeUnknown { source } => explain(*source).context(
            "it is not known whether this was done: look whether the key exists before you repeat it",
        ),
        error => error.into(),
    }
}

/// Like [`explain`], for what no policy can allow.
pub(crate) fn explain_to_admin(error: Error) -> anyhow::Error {
    match error {
        Error::Api { status: 403, message } => {
            anyhow!("{message} (only the admin may do this, whatever policies say)")
        }
        error => explain(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_whether_a_policy_could_help() {
        let refused = || Error::Api {
            status: 403,
            message: "not authorized".to_owned(),
        };
        assert_eq!(
            explain(refused()).to_string(),
            "not authorized (prohibited by policy)"
        );
        assert_eq!(
            explain_to_admin(refused()).to_string(),
            "not authorized (only the admin may do this, whatever policies say)"
        );
    }

    fn server(option: Option<&str>, environment: &Environment) -> String {
        let options = Connection {
            server: option.map(str::to_owned),
            ..Connection::default()
        };
        match endpoints(&options, environment) {
            Ok(endpoints) => endpoints
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(" "),
            Err(error) => format!("{error:#}"),
        }
    }

    fn login_of(option: Option<&str>, environment: &Environment) -> String {
        let options = Connection {
            api_key: option.map(str::to_owned),
            ..Connection::default()
        };
        match login(&options, environment) {
            Ok(Login::ApiKey(key)) => format!("key {}", *key),
            Ok(Login::Files { key, cert }) => format!("files {} {}", key.display(), cert.display()),
            Err(error) => format!("error {error:#}"),
        }
    }

    #[test]
    fn the_server_is_found_by_rank() {
        assert_eq!(server(None, &Environment::default()), "127.0.0.1:7373");
        let all = Environment::from([
            ("MINIO_KES_SERVER", "a:1"),
            ("KES_SERVER", "b:1"),
            ("MINIO_KMS_KES_ENDPOINT", "c:1,https://d:2"),
        ]);
        assert_eq!(server(None, &all), "a:1");
        assert_eq!(server(Some("x:1"), &all), "x:1");
        assert_eq!(server(Some(" "), &all), "a:1");
        let blank = Environment::from([
            ("MINIO_KES_SERVER", " "),
            ("KES_SERVER", ""),
            ("MINIO_KMS_KES_ENDPOINT", "c:1,https://d:2"),
        ]);
        assert_eq!(server(None, &blank), "c:1 d:2");
        let empty = Environment::from([("KES_SERVER", ",")]);
        assert_eq!(server(None, &empty), "KES_SERVER: no server endpoint is given");
    }

    #[test]
    fn credentials_are_found_by_rank_and_kind() {
        let set = |variables: &[(&str, &str)]| {
            variables
                .iter()
                .fold(Environment::default(), |environment, (name, value)| {
                    environment.and(name, value)
                })
        };
        for (variables, want) in [
            (
                &[][..],
                "error no credentials: set MINIO_KES_API_KEY to an API key, or MINIO_KES_KEY_FILE and MINIO_KES_CERT_FILE to files",
            ),
            (&[("MINIO_KES_API_KEY", "a"), ("KES_API_KEY", "b")], "key a"),
            (&[("KES_API_KEY", "b"), ("MINIO_KMS_KES_API_KEY", "c")], "key b"),
            (
                &[("MINIO_KMS_KES_API_KEY", "c"), ("MINIO_KES_API_KEY", "")],
                "key c",
            ),
            (
                &[
                    ("KES_CLIENT_KEY", "client.key"),
                    ("KES_CLIENT_CERT", "client.crt"),
                ],
                "files client.key client.crt",
            ),
            (
                &[
                    ("KES_CLIENT_TLS_KEY_FILE", "minio.key"),
                    ("KES_CLIENT_TLS_CERT_FILE", "minio.cert"),
                ],
                "files minio.key minio.cert",
            ),
            (
                &[
                    ("MINIO_KES_KEY_FILE", "k1"),
                    ("KES_CLIENT_KEY", "k2"),
                    ("KES_CLIENT_CERT", "c2"),
                ],
                "files k1 c2",
            ),
            (
                &[("MINIO_KES_CLIENT_KEY", "k3"), ("MINIO_KMS_KES_CERT_FILE", "c4")],
                "files k3 c4",
            ),
            (
                &[("KES_CLIENT_KEY", "k")],
                "error KES_CLIENT_KEY is set, but KES_CLIENT_CERT is not",
            ),
            (
                &[("KES_CLIENT_TLS_CERT_FILE", "c")],
                "error KES_CLIENT_TLS_CERT_FILE is set, but KES_CLIENT_TLS_KEY_FILE is not",
            ),
            (
                &[("MINIO_KES_API_KEY", "a"), ("KES_CLIENT_KEY", "k")],
                "error MINIO_KES_API_KEY and KES_CLIENT_KEY are both set: unset one of them",
            ),
            (
                &[("KES_API_KEY", "a"), ("KES_CLIENT_CERT", "c")],
                "error KES_API_KEY and KES_CLIENT_CERT are both set: unset one of them",
            ),
        ] {
            assert_eq!(login_of(None, &set(variables)), want, "{variables:?}");
        }
        let files = set(&[("KES_CLIENT_KEY", "k"), ("KES_CLIENT_CERT", "c")]);
        assert_eq!(login_of(Some("x"), &files), "key x", "the option wins silently");
    }

    #[test]
    fn a_refusal_says_that_policy_is_the_reason() {
        let error = Error::Api {
            status: 403,
            message: "not authorized: insufficient permissions".to_owned(),
        };
        assert_eq!(
            explain(error).to_string(),
            "not authorized: insufficient permissions (prohibited by policy)"
        );
    }
}
