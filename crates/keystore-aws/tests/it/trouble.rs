//! When the network or the service is in trouble: moto behind a proxy that fails.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kes_crypto::SecretBytes;
use kes_keystore::{BoxError, Patience, StoreOp};
use kes_keystore_aws::{AwsStore, Config, Credentials};
use kes_testkit::trouble::{Kinds, Rig, Subject, Trouble, chain};
use kes_testkit::{Answer, FaultProxy};
use kes_types::SystemClock;
use serde_json::json;

use crate::rig::{Place, config_at, connect};

const ACCESS_KEY: &str = "AKIDTROUBLE4EXAMPLE";
const SECRET_KEY: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYTROUBLEKEY";
const SESSION_TOKEN: &str = "IQoJb3JpZ2luX2VjEXAMPLE/SESSION+TOKEN/of-the-trouble";

kes_testkit::trouble_tests!(rig);

async fn rig() -> Aws {
    let place = Place::fresh();
    Aws {
        proxy: FaultProxy::start(&place.endpoint()),
        place,
    }
}

struct Aws {
    place: Place,
    proxy: FaultProxy,
}

impl Aws {
    fn config(&self, patience: Patience) -> Config {
        let secret = |text: &str| SecretBytes::copy_of(text.as_bytes());
        Config {
            credentials: Some(Credentials {
                access_key: secret(ACCESS_KEY),
                secret_key: secret(SECRET_KEY),
                session_token: Some(secret(SESSION_TOKEN)),
            }),
            patience,
            ..config_at(&self.proxy.endpoint(), self.place.region)
        }
    }
}

#[async_trait]
impl Rig for Aws {
    fn proxy(&self) -> &FaultProxy {
        &self.proxy
    }

    async fn connect(&self, patience: Patience) -> Result<Subject, BoxError> {
        Ok(Arc::new(
            AwsStore::connect(self.config(patience), Arc::new(SystemClock)).await?,
        ))
    }

    async fn direct(&self) -> Subject {
        Arc::new(self.place.connect().await)
    }

    fn kinds(&self) -> Kinds {
        Arc::new(|request| {
            let target = request.header("x-amz-target")?;
            match target.strip_prefix("secretsmanager.")? {
                "CreateSecret" => Some(StoreOp::Create),
                // A sign of life is asked for with a name that no key has.
                "GetSecretValue" if request.body.windows(8).any(|part| part == b"kes/ping") => {
                    Some(StoreOp::Ping)
                }
                "GetSecretValue" => Some(StoreOp::Get),
                "DeleteSecret" => Some(StoreOp::Delete),
                "ListSecrets" => Some(StoreOp::List),
                _ => None,
            }
        })
    }

    fn says(&self, trouble: Trouble) -> Option<Answer> {
        let answer = |status, error: &str| {
            let body = json!({ "__type": error, "message": "as the test wants it" }).to_string();
            Answer::of(status, "application/x-amz-json-1.1", body).with_header("x-amzn-errortype", error)
        };
        Some(match trouble {
            Trouble::Throttled { retry_after } => {
                let throttled = answer(400, "ThrottlingException");
                match retry_after {
                    None => throttled,
                    Some(time) => throttled.with_header("retry-after", &time.as_secs().to_string()),
                }
            }
            Trouble::Broken => answer(500, "InternalServiceError"),
            Trouble::Unavailable => answer(503, "ServiceUnavailableException"),
        })
    }

    fn secrets(&self) -> Vec<(&'static str, Vec<u8>)> {
        vec![
            ("the secret access key", SECRET_KEY.as_bytes().to_vec()),
            ("the session token", SESSION_TOKEN.as_bytes().to_vec()),
        ]
    }

    async fn told(&self) -> Vec<String> {
        let patience = Patience {
            operation: Duration::from_secs(2),
            ..Patience::default()
        };
        let mut told = vec![format!("{:?}", self.config(patience))];
        // What the service says of credentials that are not good, with what it was sent.
        self.proxy.set(|request| {
            let text = format!("The signature does not match: {:?}", request.headers);
            let body = json!({ "__type": "InvalidSignatureException", "message": text }).to_string();
            kes_testkit::Fault::Says(Answer::of(400, "application/x-amz-json-1.1", body))
        });
        let refused = connect(self.config(patience)).await.unwrap_err();
        told.push(format!("{refused} {refused:?} {}", chain(&refused)));
        self.proxy.heal();
        told
    }
}
