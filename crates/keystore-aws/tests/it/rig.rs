//! Moto, and stores on it that do not see each other's secrets.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use kes_crypto::SecretBytes;
use kes_keystore::{EntryName, Patience};
use kes_keystore_aws::{AwsStore, Config, ConnectError, Credentials};
use kes_peers::Moto;
pub(crate) use kes_testkit::trouble::chain;
use kes_types::SystemClock;
use serde_json::{Value, json};

/// A region of a moto, which no other test uses.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    moto: Arc<Moto>,
    pub(crate) region: &'static str,
}

impl Place {
    /// A region without any secrets. Moto knows only real ones, so there is another moto for every few.
    pub(crate) fn fresh() -> Self {
        static MOTOS: Mutex<(Vec<Arc<Moto>>, usize)> = Mutex::new((Vec::new(), 0));
        let mut places = MOTOS.lock().unwrap();
        let (motos, used) = &mut *places;
        let region = REGIONS[*used % REGIONS.len()];
        if used.is_multiple_of(REGIONS.len()) {
            motos.push(Arc::new(Moto::start().expect("moto starts")));
        }
        *used += 1;
        let moto = Arc::clone(motos.last().unwrap());
        Self { moto, region }
    }

    pub(crate) fn endpoint(&self) -> String {
        self.moto.endpoint()
    }

    pub(crate) fn config(&self) -> Config {
        config_at(&self.endpoint(), self.region)
    }

    pub(crate) async fn connect(&self) -> AwsStore {
        connect(self.config()).await.unwrap()
    }

    /// Asks moto by other means than the store's.
    pub(crate) fn ask(&self, service: &str, target: &str, body: &Value) -> Value {
        let (status, answer) = self.moto.call(service, self.region, target, body).unwrap();
        assert_eq!(status, 200, "{target}: {answer}");
        answer
    }

    pub(crate) fn ask_secrets(&self, operation: &str, body: &Value) -> Value {
        self.ask("secretsmanager", &format!("secretsmanager.{operation}"), body)
    }

    /// A KMS key that was made for this.
    pub(crate) fn kms_key(&self) -> Value {
        let made = self.ask("kms", "TrentService.CreateKey", &json!({}));
        made["KeyMetadata"].clone()
    }
}

const REGIONS: [&str; 12] = [
    "us-east-1",
    "us-east-2",
    "us-west-1",
    "us-west-2",
    "ca-central-1",
    "eu-central-1",
    "eu-north-1",
    "eu-west-1",
    "ap-northeast-1",
    "ap-south-1",
    "ap-southeast-2",
    "sa-east-1",
];

/// A service at `endpoint`.
pub(crate) fn config_at(endpoint: &str, region: &str) -> Config {
    Config {
        endpoint: Some(endpoint.to_owned()),
        region: region.to_owned(),
        kmskey: None,
        credentials: Some(credentials("AKIDEXAMPLE", "the-secret-access-key")),
        ca: None,
        patience: PATIENT,
    }
}

/// As in production, but with time enough for a slow machine, on which moto answers many at once one after another.
const PATIENT: Patience = Patience {
    attempt: Duration::from_secs(30),
    operation: Duration::from_secs(60),
    retries: 2,
    first_wait: Duration::from_millis(200),
    longest_wait: Duration::from_secs(1),
};

/// An address that nobody listens on.
pub(crate) const NOBODY: &str = "127.0.0.1:1";

pub(crate) fn credentials(access_key: &str, secret_key: &str) -> Credentials {
    Credentials {
        access_key: secret(access_key),
        secret_key: secret(secret_key),
        session_token: None,
    }
}

pub(crate) async fn connect(config: Config) -> Result<AwsStore, ConnectError> {
    AwsStore::connect(config, Arc::new(SystemClock)).await
}

pub(crate) fn name(text: &str) -> EntryName {
    EntryName::parse(text).unwrap()
}

pub(crate) fn secret(text: &str) -> SecretBytes {
    SecretBytes::copy_of(text.as_bytes())
}

/// Enough for a slow machine where something comes, and little where nothing does.
pub(crate) const SHORT: Patience = Patience {
    attempt: Duration::from_secs(5),
    operation: Duration::from_secs(10),
    retries: 2,
    first_wait: Duration::from_millis(4),
    longest_wait: Duration::from_millis(20),
};
