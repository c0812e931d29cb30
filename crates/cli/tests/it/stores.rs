//! `kes server` on the key stores behind a network: starts, restarts, reloads, and what it says when it cannot.

use std::fs;
use std::path::Path;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kes_client::{Client, Credentials, Endpoint, ServerTrust};
use kes_peers::{Moto, Vault};
use kes_testkit::PATIENCE;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::daemon::{Daemon, client};
use crate::kes::{Ran, command, fail, run, succeed};
use crate::server::silent;
use crate::services::{Mount, NOBODY, Region, moto, vault};

/// A folder with a server's certificate and an administrator's API key.
struct Place {
    dir: tempfile::TempDir,
    api_key: String,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // For so long that nobody is warned of its end.
        let line = ["identity", "new", "--expiry=8760h", "--ip=127.0.0.1", "localhost"];
        succeed(dir.path(), &line);
        let api_key = succeed(dir.path(), &["identity"]);
        Self { dir, api_key }
    }

    /// The same with a configuration with this key store.
    fn with(keystore: &str) -> Self {
        let place = Self::new();
        place.configure(keystore);
        place
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn configure(&self, keystore: &str) {
        let admin = succeed(self.path(), &["identity", "of", &self.api_key]);
        let config = format!(
            "address: 127.0.0.1:0\nadmin: {{identity: {admin}}}\ntls: {{key: private.key, cert: public.crt}}\n{keystore}"
        );
        fs::write(self.path().join("config.yml"), config).unwrap();
    }

    fn start(&self) -> Daemon {
        Daemon::start(self.path(), &["--config=config.yml"])
    }

    /// What a start says that fails.
    fn fail(&self) -> String {
        fail(self.path(), &["server", "--config=config.yml"])
    }

    fn check(&self) -> Ran {
        run(self.path(), &["server", "--check", "--config=config.yml"])
    }

    fn run(&self, server: &Daemon, line: &str) -> Ran {
        let variables = [
            ("KES_SERVER", server.address()),
            ("KES_API_KEY", self.api_key.as_str()),
            ("MINIO_KMS_KES_CAPATH", "public.crt"),
        ];
        client(self.path(), &variables, line)
    }

    /// A client for very many requests.
    fn client(&self, server: &Daemon) -> Client {
        let trust = ServerTrust::none()
            .and_path(&self.path().join("public.crt"))
            .unwrap();
        Client::builder(vec![Endpoint::parse(server.address()).unwrap()])
            .credentials(Credentials::from_api_key(&self.api_key).unwrap())
            .trust(trust)
            .without_proxy()
            .build()
            .unwrap()
    }
}

/// The ciphertext of a data key and its plaintext, in base64.
fn data_key(ran: &Ran) -> (String, String) {
    let key: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{ran:?}"));
    let text = |name: &str| key[name].as_str().unwrap().to_owned();
    (text("ciphertext"), text("plaintext"))
}

/// A key is created, found by its prefix, used, and the same after a restart.
#[track_caller]
fn works_and_keeps_its_keys(keystore: &str, description: &str) {
    let place = Place::with(keystore);
    let server = place.start();
    assert_eq!(server.value("KMS"), description);
    silent(&place.run(&server, "key create my-key-2 my-key-1"));
    let again = place.run(&server, "key create my-key-1");
    assert_eq!(again.stderr, "Error: key already exists\n");
    let (ciphertext, plaintext) = data_key(&place.run(&server, "key dek my-key-1"));
    assert_eq!(
        place.run(&server, "ls my-key --json").stdout,
        "[\"my-key-1\",\"my-key-2\"]\n"
    );
    silent(&place.run(&server, "key rm my-key-2"));
    assert_eq!(place.run(&server, "ls --json").stdout, "[\"my-key-1\"]\n");
    let status = place.run(&server, "status --json");
    assert!(
        status.stdout.contains("\"keystore_unreachable\":false"),
        "{status:?}"
    );
    server.stop();

    let server = place.start();
    let opened = place.run(&server, &format!("key decrypt my-key-1 {ciphertext}"));
    assert_eq!(opened.stdout, format!("{{\"plaintext\":\"{plaintext}\"}}"));
    server.stop();
}

#[test]
fn keys_in_vault_outlive_the_server() {
    let description = format!("Vault: {}", vault().endpoint());
    for version in [1, 2] {
        let mount = Mount::new(version);
        let at = format!("{description}/{}", mount.name);
        works_and_keeps_its_keys(&mount.keystore(""), &at);
        works_and_keeps_its_keys(&mount.keystore(", prefix: a/folder"), &format!("{at}/a/folder"));
    }
    let mount = Mount::new(2);
    let name = &mount.name;
    vault()
        .root("POST", &format!("transit/keys/{name}"), json!({}))
        .unwrap();
    works_and_keeps_its_keys(
        &mount.keystore(&format!(", transit: {{key: {name}}}")),
        &format!("{description}/{name}"),
    );
    let stored = mount.get("my-key-1");
    assert!(stored.starts_with(b"vault:v1:"), "it is encrypted once more");
}

#[test]
fn keys_in_aws_outlive_the_server() {
    let region = Region::new();
    let description = format!("AWS Secrets Manager: {}", moto().endpoint());
    works_and_keeps_its_keys(&region.keystore(), &description);
    let (status, _) = region.call("GetSecretValue", &json!({"SecretId": "my-key-1"}));
    assert_eq!(status, 200);
}

/// The configuration of a public document, of which only this is changed: the address and the region of the service, the
/// address that is listened on, and the files of TLS.
struct Document {
    title: &'static str,
    text: &'static str,
    region: &'static str,
    tls: [&'static str; 2],
    /// A key that its policy permits.
    key: &'static str,
    /// Whether the policy permits a listing.
    lists: bool,
    /// Keys that it declares.
    declared: &'static [&'static str],
    /// What stands in the environment besides the identities.
    variables: &'static [(&'static str, &'static str)],
}

const DECLARED: &[&str] = &[
    "minio-encryption-key-alpha",
    "minio-encryption-key-baker",
    "minio-encryption-key-charlie",
];

const DOCUMENTS: [Document; 6] = [
    Document {
        title: "AWS Secrets Manager, tutorial, in English and in Chinese",
        text: include_str!("../../../config/tests/it/documents/aws-secrets-manager-tutorial.yml"),
        region: "us-east-2",
        tls: ["private.key", "public.crt"],
        key: "my-key-1",
        lists: false,
        declared: &[],
        variables: &[
            ("AWS_ACCESS_KEY_ID", "an-access-key"),
            ("AWS_SECRET_ACCESS_KEY", "a-secret-key"),
        ],
    },
    Document {
        title: "AWS Secrets Manager, reference",
        text: include_str!("../../../config/tests/it/documents/aws-secrets-manager-reference.yml"),
        region: "REGION",
        tls: ["kes-server.key", "kes-server.cert"],
        key: "my-key-1",
        lists: true,
        declared: DECLARED,
        variables: &[
            ("AWS_ACCESS_KEY", "an-access-key"),
            ("AWS_SECRET_KEY", "a-secret-key"),
        ],
    },
    Document {
        title: "Server-side encryption with AWS, minimum",
        text: include_str!("../../../config/tests/it/documents/minio-aws-minimum.yml"),
        region: "REGION",
        tls: ["/opt/kes/certs/kes-server.key", "/opt/kes/certs/kes-server.cert"],
        key: "minio-backend-default-key",
        lists: true,
        declared: &[],
        variables: &[],
    },
    Document {
        title: "Server-side encryption with AWS, reference",
        text: include_str!("../../../config/tests/it/documents/minio-aws-reference.yml"),
        region: "REGION",
        tls: ["kes-server.key", "kes-server.cert"],
        key: "minio-backend-default-key",
        lists: true,
        declared: DECLARED,
        variables: &[
            ("AWS_ACCESS_KEY", "an-access-key"),
            ("AWS_SECRET_KEY", "a-secret-key"),
        ],
    },
    Document {
        title: "Server-side encryption with AWS root KMS, minimum",
        text: include_str!("../../../config/tests/it/documents/minio-aws-root-kms-minimum.yml"),
        region: "REGION",
        tls: ["/data/certs/server.key", "/data/certs/server.cert"],
        key: "my-key",
        lists: false,
        declared: &[],
        variables: &[
            ("AWSACCESSKEY", "an-access-key"),
            ("AWSSECRETKEY", "a-secret-key"),
        ],
    },
    Document {
        title: "Server-side encryption with AWS root KMS, reference",
        text: include_str!("../../../config/tests/it/documents/minio-aws-root-kms-reference.yml"),
        region: "REGION",
        tls: ["kes-server.key", "kes-server.cert"],
        key: "my-key",
        lists: false,
        declared: DECLARED,
        variables: &[
            ("AWS_ACCESS_KEY", "an-access-key"),
            ("AWS_SECRET_KEY", "a-secret-key"),
        ],
    },
];

impl Document {
    fn configuration(&self, region: &Region, identity: &str) -> String {
        let lines = self.text.lines().map(|line| {
            let (key, value) = line.split_once(':').unwrap_or((line, ""));
            let to = match key.trim() {
                "endpoint" => moto().endpoint(),
                "region" => {
                    assert_eq!(value.trim(), self.region);
                    region.0.to_owned()
                }
                "address" => "127.0.0.1:0".to_owned(),
                "key" => "private.key".to_owned(),
                "cert" => "public.crt".to_owned(),
                // The client of the tutorial, which is named as it is.
                _ if value.is_empty() && key.contains("- 02ef5321") => {
                    return format!("{}- {identity}\n", &key[..key.find('-').unwrap()]);
                }
                _ => return format!("{line}\n"),
            };
            if matches!(key.trim(), "key" | "cert") {
                assert!(self.tls.contains(&value.trim()), "{line}");
            }
            format!("{key}: {to}\n")
        });
        lines.collect()
    }
}

#[test]
fn the_configurations_of_public_documents_serve() {
    for document in &DOCUMENTS {
        let (title, key) = (document.title, document.key);
        let region = Region::new();
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        succeed(dir, &["identity", "new", "--ip", "127.0.0.1", "localhost"]);
        succeed(
            dir,
            &[
                "identity",
                "new",
                "--key=client.key",
                "--cert=client.crt",
                "MinIO",
            ],
        );
        let identity = succeed(dir, &["identity", "of", "client.crt"]);
        fs::write(dir.join("config.yml"), document.configuration(&region, &identity)).unwrap();
        let root = "3ecfcdf38fcbe141ae26a1030f81e96b753365a46760ae6b578698a97c59fd22";
        let start = || {
            let mut started = command(dir, &["server", "--config", "config.yml", "--auth", "off"]);
            started
                .env("ROOT_IDENTITY", root)
                .env("MINIO_IDENTITY", &identity)
                .env("MINIO_IDENTITY_HASH", &identity)
                .envs(document.variables.iter().copied());
            let mut server = Daemon::spawn(started);
            server.banner = server.stdout_until("=> ");
            server
        };
        let kes = |server: &Daemon, line: &str| {
            let variables = [
                ("KES_SERVER", server.address()),
                ("KES_CLIENT_CERT", "client.crt"),
                ("KES_CLIENT_KEY", "client.key"),
                ("SSL_CERT_FILE", "public.crt"),
            ];
            client(dir, &variables, line)
        };

        let server = start();
        for declared in document.declared {
            assert!(!region.get(declared).is_empty(), "{title}: {declared}");
        }
        silent(&kes(&server, &format!("key create {key}")));
        let (ciphertext, plaintext) = data_key(&kes(&server, &format!("key dek {key}")));
        if document.lists {
            let listed: Vec<String> = serde_json::from_str(&kes(&server, "ls --json").stdout).unwrap();
            assert!(listed.iter().any(|name| name == key), "{title}: {listed:?}");
            assert_eq!(listed.len(), 1 + document.declared.len(), "{title}: {listed:?}");
        }
        server.stop();

        let server = start();
        let opened = kes(&server, &format!("key decrypt {key} {ciphertext}"));
        assert_eq!(
            opened.stdout,
            format!("{{\"plaintext\":\"{plaintext}\"}}"),
            "{title}"
        );
        server.stop();
    }
}

/// One thing that a release of the reference has done with a key.
#[derive(serde::Deserialize)]
struct Case {
    key: String,
    op: String,
    #[serde(default)]
    context_b64: String,
    #[serde(default)]
    plaintext_b64: String,
    #[serde(default)]
    ciphertext_b64: String,
    #[serde(default)]
    message_b64: String,
    #[serde(default)]
    hmac_b64: String,
}

/// Lays the keys of every release into a store as the reference would, and has a server use them.
fn every_release_is_understood(keystore: &str, put: impl Fn(&str, &[u8])) {
    let decode = |text: &str| STANDARD.decode(text).unwrap();
    let releases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crypto/tests/fixtures/releases");
    let mut cases: Vec<Case> = Vec::new();
    let mut keys = 0;
    for release in releases.read_dir().unwrap() {
        let release = release.unwrap().path();
        for key in release.join("keys").read_dir().unwrap() {
            let key = key.unwrap().path();
            put(
                key.file_name().unwrap().to_str().unwrap(),
                &fs::read(&key).unwrap(),
            );
            keys += 1;
        }
        let text = fs::read(release.join("cases.json")).unwrap();
        cases.extend(serde_json::from_slice::<Vec<Case>>(&text).unwrap());
    }
    let place = Place::with(keystore);
    let server = place.start();
    let listed = place.run(&server, "ls --json").stdout;
    assert_eq!(serde_json::from_str::<Vec<String>>(&listed).unwrap().len(), keys);

    let client = place.client(&server);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (mut opened, mut extinct) = (0, 0);
    for case in &cases {
        let (key, context) = (&case.key, decode(&case.context_b64));
        if case.op == "hmac" {
            let hmac = runtime
                .block_on(client.hmac(key, &decode(&case.message_b64)))
                .unwrap();
            assert_eq!(hmac.expose_secret(), decode(&case.hmac_b64), "{key}");
            continue;
        }
        let ciphertext = decode(&case.ciphertext_b64);
        let answer = runtime.block_on(client.decrypt(key, &ciphertext, &context));
        // The reference itself gave this form up.
        if ciphertext.starts_with(br#"{"aead":"AES-256-GCM","#) {
            assert!(answer.is_err(), "{key}");
            extinct += 1;
            continue;
        }
        assert_eq!(
            answer.unwrap().expose_secret(),
            decode(&case.plaintext_b64),
            "{key}"
        );
        opened += 1;
    }
    assert!(opened > 400 && extinct == 2, "{opened} {extinct}");
    server.stop();
}

#[test]
fn keys_and_ciphertexts_of_every_release_are_understood_in_vault() {
    for version in [1, 2] {
        let mount = Mount::new(version);
        every_release_is_understood(&mount.keystore(""), |name, value| mount.put(name, value));
    }
}

#[test]
fn keys_and_ciphertexts_of_every_release_are_understood_in_aws() {
    let region = Region::new();
    every_release_is_understood(&region.keystore(), |name, value| region.put(name, value));
}

#[test]
fn a_start_that_vault_does_not_let_happen_says_why_in_one_line() {
    let mount = Mount::new(2);
    let endpoint = vault().endpoint();
    let place = Place::with(&mount.keystore("").replace(&mount.secret, "not-the-secret"));
    let error = place.fail();
    assert!(
        error.starts_with(&format!("cannot log in to Vault at {endpoint}: ")) && error.contains("approle"),
        "{error}"
    );
    assert!(!error.contains("not-the-secret"), "{error}");

    // A secret id that has been revoked.
    place.configure(&mount.keystore(""));
    mount.destroy_secret(&mount.secret);
    let error = place.fail();
    assert!(
        error.contains("approle") && !error.contains(&mount.secret),
        "{error}"
    );

    // A token that has been revoked.
    let token = mount.token();
    fs::write(place.path().join("token"), format!("{token}\n")).unwrap();
    place.configure(&mount.keystore_by("token: {file: token}", ""));
    place.start().stop();
    vault()
        .root("POST", "auth/token/revoke", json!({ "token": token }))
        .unwrap();
    let error = place.fail();
    assert!(error.contains(endpoint) && error.contains("token"), "{error}");
    assert!(!error.contains(&token), "{error}");

    place.configure(&mount.keystore("").replace(endpoint, &format!("http://{NOBODY}")));
    let error = place.fail();
    assert!(error.contains(NOBODY) && error.contains("refused"), "{error}");

    // One that is sealed, and would have to be asked again.
    let sealed = Vault::start().unwrap();
    sealed.seal().unwrap();
    place.configure(&mount.keystore("").replace(endpoint, sealed.endpoint()));
    let error = place.fail();
    assert!(
        error.contains("sealed") && error.contains(sealed.endpoint()),
        "{error}"
    );
}

#[test]
fn a_start_that_aws_does_not_let_happen_says_why_in_one_line() {
    let region = Region::new();
    let strict = Moto::enforcing_auth(0).unwrap();
    let keystore = region.keystore().replace(&moto().endpoint(), &strict.endpoint());
    let place = Place::with(&keystore);
    let error = place.fail();
    assert!(
        error.contains(&format!("AWS Secrets Manager: {}", strict.endpoint()))
            && error.contains("credentials"),
        "{error}"
    );
    assert!(!error.contains("a-secret-key"), "{error}");

    place.configure(
        &region
            .keystore()
            .replace(&moto().endpoint(), &format!("http://{NOBODY}")),
    );
    let error = place.fail();
    assert!(error.contains(NOBODY), "{error}");

    // There are none in the file, in the environment, or on this machine.
    let credentials = ", credentials: {accesskey: an-access-key, secretkey: a-secret-key}";
    place.configure(&region.keystore().replace(credentials, ""));
    let mut started = command(place.path(), &["server", "--config=config.yml"]);
    let ran: Ran = started
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .output()
        .unwrap()
        .into();
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
    assert!(
        ran.stderr.contains("credentials") && ran.stderr.lines().count() == 1,
        "{ran:?}"
    );
}

#[test]
fn a_check_reads_the_files_and_asks_no_service() {
    let place = Place::new();
    let file = |name: &str, text: &str| fs::write(place.path().join(name), text).unwrap();
    file("empty", "\n");
    file("garbage.pem", "garbage");
    file("token", "a token\n");
    let vault = |rest: &str| format!("keystore: {{vault: {{endpoint: 'https://{NOBODY}', {rest}}}}}\n");
    let aws = |rest: &str| {
        format!(
            "keystore: {{aws: {{secretsmanager: {{endpoint: 'https://{NOBODY}', region: us-east-2{rest}}}}}}}\n"
        )
    };
    for valid in [
        vault("approle: {id: i, secret: s}"),
        vault("token: {file: token}, tls: {ca: public.crt}"),
        vault("kubernetes: {role: r, jwt: ./token}"),
        vault("cert: {role: r}, tls: {key: private.key, cert: public.crt, ca: public.crt}"),
        aws(""),
        aws(", tls: {ca: public.crt}"),
    ] {
        place.configure(&valid);
        let ran = place.check();
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{valid}");
    }
    for (wrong, file) in [
        (vault("token: {file: missing}"), "missing"),
        (vault("token: {file: empty}"), "empty"),
        (vault("kubernetes: {role: r, jwt: ./missing}"), "./missing"),
        (
            vault("approle: {id: i, secret: s}, tls: {ca: missing}"),
            "missing",
        ),
        (
            vault("approle: {id: i, secret: s}, tls: {ca: garbage.pem}"),
            "garbage.pem",
        ),
        (
            vault("cert: {role: r}, tls: {key: garbage.pem, cert: public.crt}"),
            "garbage.pem",
        ),
        (aws(", tls: {ca: missing}"), "missing"),
        (aws(", tls: {ca: garbage.pem}"), "garbage.pem"),
    ] {
        place.configure(&wrong);
        let ran = place.check();
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{wrong}");
        assert!(
            ran.stderr.starts_with("Error: keystore.") && ran.stderr.contains(file),
            "{ran:?}"
        );
        assert_eq!(ran.stderr.lines().count(), 1, "{ran:?}");
    }

    // What is sent over plain HTTP is read on the way.
    place.configure(
        &vault("approle: {id: i, secret: s}").replace("https://127.0.0.1:1", "http://192.0.2.1:8200"),
    );
    let ran = place.check();
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(
        ran.stderr.starts_with("Warning: ") && ran.stderr.contains("use `https`"),
        "{ran:?}"
    );
    let strict = run(
        place.path(),
        &["server", "--check", "--strict", "--config=config.yml"],
    );
    assert_eq!(strict.code, Some(1), "{strict:?}");
}

#[test]
fn a_reload_connects_to_another_place_and_keeps_the_one_it_has_if_that_fails() {
    let (mount, region) = (Mount::new(2), Region::new());
    let place = Place::with(&mount.keystore(""));
    let server = place.start();
    silent(&place.run(&server, "key create my-key"));
    let reload = || {
        server.signal(Signal::HUP);
        server.stdout_until("=> Server has reloaded")
    };

    // With settings that are the same nobody logs in anew, so it does not matter that the secret id has been ended.
    let old = mount.secret.clone();
    mount.destroy_secret(&old);
    reload();
    silent(&place.run(&server, "key create my-key-2"));

    // It is rotated: another one in the file.
    let keystore = mount.keystore("").replace(&old, &mount.new_secret());
    place.configure(&keystore);
    reload();
    assert_eq!(
        place.run(&server, "ls --json").stdout,
        "[\"my-key\",\"my-key-2\"]\n"
    );

    for wrong in [
        keystore.replace(vault().endpoint(), &format!("http://{NOBODY}")),
        mount.keystore("").replace(&old, "not-the-secret"),
        region
            .keystore()
            .replace(&moto().endpoint(), &format!("http://{NOBODY}")),
    ] {
        place.configure(&wrong);
        server.signal(Signal::HUP);
        let said = server.stderr_until("cannot reload").pop().unwrap();
        assert!(
            said.contains("the key store") && !said.contains("not-the-secret"),
            "{said}"
        );
        data_key(&place.run(&server, "key dek my-key"));
    }

    // Other places have other keys.
    place.configure(
        &mount
            .keystore(", prefix: other")
            .replace(&old, &mount.new_secret()),
    );
    let banner = reload();
    assert!(banner.iter().any(|line| line.ends_with("/other")), "{banner:?}");
    assert_eq!(place.run(&server, "ls --json").stdout, "[]\n");
    place.configure(&region.keystore());
    let banner = reload();
    assert!(
        banner.iter().any(|line| line.contains("AWS Secrets Manager")),
        "{banner:?}"
    );
    silent(&place.run(&server, "key create my-key"));
    assert!(!region.get("my-key").is_empty());
    place.configure(&keystore);
    reload();
    assert_eq!(
        place.run(&server, "ls --json").stdout,
        "[\"my-key\",\"my-key-2\"]\n"
    );
    server.stop();
}

#[test]
fn a_reload_takes_on_a_token_file_that_has_changed() {
    let mount = Mount::new(2);
    let place = Place::with(&mount.keystore_by("token: {file: token}", ""));
    let file = place.path().join("token");
    let first = mount.token();
    fs::write(&file, &first).unwrap();
    let server = place.start();
    silent(&place.run(&server, "key create my-key"));

    fs::write(&file, mount.token()).unwrap();
    server.signal(Signal::HUP);
    server.stdout_until("=> Server has reloaded");
    vault()
        .root("POST", "auth/token/revoke", json!({ "token": first }))
        .unwrap();
    silent(&place.run(&server, "key create my-key-2"));

    // One that Vault does not know changes nothing.
    fs::write(&file, "not-a-token").unwrap();
    server.signal(Signal::HUP);
    let said = server.stderr_until("cannot reload").pop().unwrap();
    assert!(
        said.contains("cannot log in to Vault") && !said.contains("not-a-token"),
        "{said}"
    );
    silent(&place.run(&server, "key create my-key-3"));
    server.stop();
}

/// Runs a command again and again until it says this.
#[track_caller]
fn run_until(place: &Place, server: &Daemon, line: &str, says: &str) {
    let begun = Instant::now();
    loop {
        let ran = place.run(server, line);
        if ran.stdout.contains(says) || ran.stderr.contains(says) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{line}: no {says:?} in {ran:?}");
    }
}

#[test]
fn a_vault_that_is_sealed_shows_in_the_status_and_in_the_log_and_is_back_when_it_is_unsealed() {
    let sealed = Vault::start().unwrap();
    let options = json!({"type": "kv", "options": {"version": "2"}});
    sealed.root("POST", "sys/mounts/kv", options).unwrap();
    let place = Place::with(&format!(
        "keystore: {{vault: {{endpoint: '{}', version: v2, token: {{file: token}}, status: {{ping: 100ms}}}}}}\n",
        sealed.endpoint()
    ));
    fs::write(place.path().join("token"), Vault::ROOT).unwrap();
    let server = place.start();
    silent(&place.run(&server, "key create my-key"));
    run_until(&place, &server, "status --json", "\"keystore_unreachable\":false");

    sealed.seal().unwrap();
    run_until(&place, &server, "status --json", "\"keystore_unreachable\":true");
    let shown = place.run(&server, "status").stdout;
    assert!(shown.contains("The key store is unreachable"), "{shown}");
    let failed = place.run(&server, "key create my-key-2");
    assert_eq!(failed.code, Some(1), "{failed:?}");
    let line = server.stderr_until("sealed").pop().unwrap();
    assert!(line.contains(sealed.endpoint()), "{line}");

    sealed.unseal().unwrap();
    run_until(&place, &server, "status --json", "\"keystore_unreachable\":false");
    silent(&place.run(&server, "key create my-key-2"));
    server.stop();
}

#[test]
fn an_aws_that_is_gone_shows_in_the_status_and_in_the_log() {
    let gone = Moto::start().unwrap();
    let endpoint = gone.endpoint();
    let region = Region::new();
    let place = Place::with(&region.keystore().replace(&moto().endpoint(), &endpoint));
    let server = place.start();
    silent(&place.run(&server, "key create my-key"));
    drop(gone);
    run_until(&place, &server, "status --json", "\"keystore_unreachable\":true");
    let failed = place.run(&server, "key create my-key-2");
    assert_eq!(failed.code, Some(1), "{failed:?}");
    let line = server.stderr_until("cannot be reached").pop().unwrap();
    assert!(
        line.contains(&endpoint) && !line.contains("a-secret-key"),
        "{line}"
    );
    server.stop();
}
