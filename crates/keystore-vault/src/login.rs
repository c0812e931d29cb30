//! How this program proves to Vault who it is.

mod approle;
mod cert;
mod exchange;
mod file;
mod kubernetes;
mod token;

use std::sync::Arc;

use kes_keystore::Patience;
use kes_keystore_http::HeaderValue;
use kes_types::Clock;

use crate::api::{Api, ApiError, Problem};
use crate::path::Path;
use crate::session::{Authority, LoginError};
use crate::{ConnectError, Login};

use approle::AppRole;
pub(crate) use file::Stamp;

use cert::Cert;
use exchange::{Exchange, Mount};
use kubernetes::Kubernetes;
use token::TokenFile;

/// Who logs in as the settings say, in `namespace`.
pub(crate) fn authority(
    login: Login,
    api: Arc<Api>,
    namespace: Option<HeaderValue>,
    patience: Patience,
    clock: Arc<dyn Clock>,
) -> Result<Arc<dyn Authority>, ConnectError> {
    Ok(match login {
        Login::AppRole {
            engine, id, secret, ..
        } => {
            let mount = mount("keystore.vault.approle.engine", &engine, namespace)?;
            Arc::new(Exchange::new(api, mount, AppRole::new(id, secret), patience))
        }
        Login::Kubernetes {
            engine, role, jwt, ..
        } => {
            let mount = mount("keystore.vault.kubernetes.engine", &engine, namespace)?;
            let credentials = Kubernetes::new(role, jwt, clock);
            Arc::new(Exchange::new(api, mount, credentials, patience))
        }
        Login::Cert { engine, role, .. } => {
            let mount = mount("keystore.vault.cert.engine", &engine, namespace)?;
            Arc::new(Exchange::new(api, mount, Cert::new(role), patience))
        }
        Login::Token { file } => Arc::new(TokenFile::new(api, file, namespace.as_ref(), patience)),
    })
}

fn mount(setting: &'static str, engine: &str, namespace: Option<HeaderValue>) -> Result<Mount, ConnectError> {
    let engine = Path::parse(engine).map_err(|problem| ConnectError::Path { setting, problem })?;
    Ok(Mount {
        path: Path::fixed("auth").join(&engine),
        namespace,
        setting,
    })
}

/// The error of a request that a login is made of, with what an operator can do about it.
fn failed(error: &ApiError, advice: Option<String>) -> LoginError {
    let problem = match advice {
        Some(advice) => format!("{error}; {advice}"),
        None => error.to_string(),
    };
    match &error.problem {
        Problem::Sealed => LoginError::sealed(),
        Problem::NoAnswer(_)
        | Problem::OutOfTime
        | Problem::NotInitialised
        | Problem::NotActive { .. }
        | Problem::Unavailable { .. }
        | Problem::Throttled { .. }
        | Problem::Behind
        | Problem::Failed { .. } => LoginError::unavailable(problem),
        Problem::Denied { .. }
        | Problem::Absent
        | Problem::Hidden { .. }
        | Problem::NoSuchPath { .. }
        | Problem::Refused { .. }
        | Problem::Redirect(_)
        | Problem::Unexpected { .. }
        | Problem::BadAnswer(_) => LoginError::refused(problem),
    }
}
