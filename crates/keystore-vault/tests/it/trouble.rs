//! When the network or Vault is in trouble: a real Vault behind a proxy that fails.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kes_crypto::SecretBytes;
use kes_keystore::{BoxError, Patience, StoreOp};
use kes_keystore_vault::{Config, KvVersion, Login, LoginNamespace, VaultStore};
use kes_testkit::trouble::{Kinds, Rig, Subject, Trouble, chain};
use kes_testkit::{Answer, Fault, FaultProxy};
use kes_types::SystemClock;
use serde_json::json;

use crate::rig::Place;

const WRONG_SECRET: &str = "5ecre7-1d-that-15-wr0ng";

mod v2 {
    use super::*;

    async fn rig() -> OverProxy {
        OverProxy::of(Place::new(KvVersion::V2))
    }

    kes_testkit::trouble_tests!(rig);
}

mod v1 {
    use super::*;

    async fn rig() -> OverProxy {
        OverProxy::of(Place::new(KvVersion::V1))
    }

    kes_testkit::trouble_tests!(store: rig);
}

mod transit {
    use super::*;

    async fn rig() -> OverProxy {
        OverProxy::of(Place::new(KvVersion::V2).with_prefix("a/folder").with_transit())
    }

    kes_testkit::trouble_tests!(rig:
        one_failure_is_survived,
        a_failure_that_lasts_is_told_in_time,
        what_never_answers_is_given_up_in_time,
        a_create_whose_answer_is_lost_has_succeeded,
        creates_under_random_faults_have_one_winner_who_knows,
        no_secret_is_told_whatever_happens,
    );
}

struct OverProxy {
    place: Place<'static>,
    proxy: FaultProxy,
    id: String,
    secret: String,
}

impl OverProxy {
    fn of(place: Place<'static>) -> Self {
        let (id, secret) = place.credentials();
        Self {
            proxy: FaultProxy::start(place.vault.endpoint()),
            place,
            id,
            secret,
        }
    }

    fn config(&self, patience: Patience) -> Config {
        Config {
            endpoint: self.proxy.endpoint(),
            patience,
            login: Login::AppRole {
                engine: "approle".into(),
                namespace: LoginNamespace::Inherit,
                id: SecretBytes::copy_of(self.id.as_bytes()),
                secret: SecretBytes::copy_of(self.secret.as_bytes()),
            },
            ..self.place.config()
        }
    }
}

#[async_trait]
impl Rig for OverProxy {
    fn proxy(&self) -> &FaultProxy {
        &self.proxy
    }

    async fn connect(&self, patience: Patience) -> Result<Subject, BoxError> {
        Ok(Arc::new(
            VaultStore::connect(self.config(patience), Arc::new(SystemClock)).await?,
        ))
    }

    async fn direct(&self) -> Subject {
        Arc::new(self.place.store().await)
    }

    fn kinds(&self) -> Kinds {
        let entries = format!("/v1/{}", self.place.engine);
        Arc::new(move |request| {
            if request.path() == "/v1/sys/health" {
                return Some(StoreOp::Ping);
            }
            if !request.path().starts_with(&entries) {
                return None;
            }
            match request.method.as_str() {
                "GET" if request.target.contains("list=true") => Some(StoreOp::List),
                "GET" => Some(StoreOp::Get),
                "PUT" | "POST" => Some(StoreOp::Create),
                "DELETE" => Some(StoreOp::Delete),
                _ => None,
            }
        })
    }

    fn says(&self, trouble: Trouble) -> Option<Answer> {
        let answer = |status, error: &str| {
            let body = json!({ "errors": [error] }).to_string();
            Answer::of(status, "application/json", body)
        };
        Some(match trouble {
            Trouble::Throttled { retry_after } => {
                let throttled = answer(429, "request path \"kv\": rate limit quota exceeded");
                match retry_after {
                    None => throttled,
                    Some(time) => throttled.with_header("retry-after", &time.as_secs().to_string()),
                }
            }
            Trouble::Broken => answer(500, "internal error"),
            Trouble::Unavailable => answer(503, "service unavailable"),
        })
    }

    fn secrets(&self) -> Vec<(&'static str, Vec<u8>)> {
        let mut secrets = vec![
            ("the secret id", self.secret.as_bytes().to_vec()),
            ("a wrong secret id", WRONG_SECRET.as_bytes().to_vec()),
        ];
        let requests = self.proxy.requests();
        let mut tokens: Vec<_> = requests
            .iter()
            .filter_map(|request| request.header("x-vault-token"))
            .collect();
        tokens.sort_unstable();
        tokens.dedup();
        assert!(!tokens.is_empty(), "no request had a token");
        secrets.extend(
            tokens
                .into_iter()
                .map(|token| ("a token", token.as_bytes().to_vec())),
        );
        secrets
    }

    async fn told(&self) -> Vec<String> {
        let patience = Patience {
            operation: Duration::from_secs(5),
            ..Patience::default()
        };
        let mut told = vec![format!("{:?}", self.config(patience))];
        let wrong = || Config {
            login: Login::AppRole {
                engine: "approle".into(),
                namespace: LoginNamespace::Inherit,
                id: SecretBytes::copy_of(self.id.as_bytes()),
                secret: SecretBytes::copy_of(WRONG_SECRET.as_bytes()),
            },
            ..self.config(patience)
        };
        // Refused by Vault, and by something that quotes what it was sent.
        let quoting = |request: &kes_testkit::ProxiedRequest| {
            let text = String::from_utf8_lossy(&request.body).into_owned();
            let body = json!({ "errors": [text] }).to_string();
            Fault::Says(Answer::of(400, "application/json", body))
        };
        for quotes in [false, true] {
            if quotes {
                self.proxy.set(quoting);
            }
            let refused = VaultStore::connect(wrong(), Arc::new(SystemClock)).await;
            let refused = refused.unwrap_err();
            told.push(format!("{refused} {refused:?} {}", chain(&refused)));
        }
        self.proxy.heal();
        told
    }
}
