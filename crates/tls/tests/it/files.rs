//! The files that trust and identity come from.

use std::error::Error as _;
use std::path::{Path, PathBuf};

use kes_testkit::{Credentials, KeyKind, TestCa};
use kes_tls::{BadIdentity, BadTrust, ClientIdentity, ServerTrust, certificates_at};
use tempfile::TempDir;

/// A file with this content.
fn file(dir: &TempDir, name: &str, content: &str) -> PathBuf {
    let path = dir.path().join(name);
    std::fs::write(&path, content).unwrap();
    path
}

/// Certificates and keys that OpenSSL made.
fn of_openssl(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../server/tests/certs")
        .join(name)
}

/// How many certificates there are.
fn trusted(path: &Path) -> usize {
    certificates_at(path).unwrap().len()
}

#[test]
fn the_ca_of_a_key_store_replaces_that_of_the_system() {
    let dir = tempfile::tempdir().unwrap();
    let ca = TestCa::new("ca");
    let path = file(&dir, "ca.pem", &ca.pem());
    let trust = ServerTrust::of_key_store(Some(&path)).unwrap();
    assert_eq!(trust.ca(), Some(path.as_path()));
    assert_eq!(format!("{trust:?}"), "ServerTrust(1 roots)");
    let found = certificates_at(&path).unwrap().remove(0);
    assert_eq!(found.path, path);
    assert_eq!(found.certificate, ca.credentials().chain().remove(0));
    assert_eq!(ServerTrust::of_key_store(None).unwrap().ca(), None);
}

#[test]
fn a_directory_of_certificates_may_be_one_that_kubernetes_mounts() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("..2026_11_21");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("ca.crt"), TestCa::new("one").pem()).unwrap();
    std::os::unix::fs::symlink(&data, dir.path().join("..data")).unwrap();
    std::os::unix::fs::symlink("..data/ca.crt", dir.path().join("ca.crt")).unwrap();
    std::fs::create_dir(dir.path().join("more")).unwrap();
    assert_eq!(trusted(dir.path()), 1);

    let two = TestCa::new("two").pem() + "\n" + &TestCa::new("three").pem();
    file(&dir, "more.pem", &two);
    assert_eq!(trusted(dir.path()), 3);
}

#[test]
fn what_is_no_ca_certificate_is_refused_by_its_path() {
    let dir = tempfile::tempdir().unwrap();
    let one = Credentials::self_signed("one");
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    type Right = fn(&BadTrust) -> bool;
    let cases: [(PathBuf, Right); 6] = [
        (dir.path().join("absent"), |error| {
            matches!(error, BadTrust::Read { .. })
        }),
        (file(&dir, "empty", ""), |error| {
            matches!(error, BadTrust::Content { .. })
        }),
        (file(&dir, "text", "hello"), |error| {
            matches!(error, BadTrust::Content { .. })
        }),
        (file(&dir, "key", &(one.chain_pem() + &one.key_pem())), |error| {
            matches!(error, BadTrust::Content { .. })
        }),
        (
            file(&dir, "cut", &one.chain_pem().replace("-----END", "")),
            |error| matches!(error, BadTrust::Content { .. }),
        ),
        (file(&dir, "broken", broken), |error| {
            matches!(error, BadTrust::Malformed(_))
        }),
    ];
    for (path, is_right) in cases {
        let error = ServerTrust::of_key_store(Some(&path)).unwrap_err();
        assert!(is_right(&error), "{error:?}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }

    // One bad file spoils the directory, and is named.
    let error = ServerTrust::of_key_store(Some(dir.path())).unwrap_err();
    assert!(error.to_string().contains("/broken"), "{error}");
    let empty = tempfile::tempdir().unwrap();
    let error = ServerTrust::of_key_store(Some(empty.path())).unwrap_err();
    assert!(matches!(error, BadTrust::Empty(_)), "{error:?}");
}

#[test]
fn an_identity_is_of_any_kind_of_key() {
    let dir = tempfile::tempdir().unwrap();
    for kind in KeyKind::ALL {
        let client = Credentials::with_key(kind);
        let key = file(&dir, "key.pem", &client.key_pem());
        let cert = file(&dir, "cert.pem", &client.chain_pem());
        ClientIdentity::from_files(&key, &cert).unwrap_or_else(|error| panic!("{kind:?}: {error}"));
    }
    for name in ["pkcs1", "sec1", "v1-client", "v1-rsa-client"] {
        let (key, cert) = (format!("{name}.key"), format!("{name}.crt"));
        ClientIdentity::from_files(&of_openssl(&key), &of_openssl(&cert))
            .unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn an_identity_that_cannot_work_is_refused_by_its_paths() {
    let dir = tempfile::tempdir().unwrap();
    let [one, other] = ["one", "other"].map(Credentials::self_signed);
    let key = file(&dir, "key.pem", &one.key_pem());
    let cert = file(&dir, "cert.pem", &one.chain_pem());
    let others = file(&dir, "other.pem", &other.chain_pem());
    let absent = dir.path().join("absent");
    let text = file(&dir, "text", "hello");
    let broken = file(
        &dir,
        "broken",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    );
    let encrypted = of_openssl("pkcs1-aes128.key");

    type Right = fn(&BadIdentity) -> bool;
    let cases: [(&Path, &Path, &Path, Right); 8] = [
        (&absent, &cert, &absent, |e| matches!(e, BadIdentity::Read { .. })),
        (&key, &absent, &absent, |e| matches!(e, BadIdentity::Read { .. })),
        (&text, &cert, &text, |e| matches!(e, BadIdentity::Content { .. })),
        (&key, &text, &text, |e| matches!(e, BadIdentity::Content { .. })),
        (&key, &key, &key, |e| matches!(e, BadIdentity::Content { .. })),
        (&encrypted, &cert, &encrypted, |e| {
            matches!(e, BadIdentity::Content { .. })
        }),
        (&key, &broken, &broken, |e| {
            matches!(e, BadIdentity::Certificate(_))
        }),
        (&key, &others, &others, |e| {
            matches!(e, BadIdentity::Mismatch { .. })
        }),
    ];
    for (key, cert, culprit, is_right) in cases {
        let error = ClientIdentity::from_files(key, cert).unwrap_err();
        assert!(is_right(&error), "{error:?}");
        let text = format!("{error}: {:?}", error.source());
        assert!(text.contains(culprit.to_str().unwrap()), "{text}");
    }
}

#[test]
fn debug_output_shows_no_key() {
    let dir = tempfile::tempdir().unwrap();
    let client = Credentials::self_signed("client");
    let key = file(&dir, "key.pem", &client.key_pem());
    let cert = file(&dir, "cert.pem", &client.chain_pem());
    let identity = ClientIdentity::from_files(&key, &cert).unwrap();
    assert_eq!(format!("{identity:?}"), "ClientIdentity(1 certificates)");
    let tls = kes_tls::client_tls(ServerTrust::none(), Some(&identity)).unwrap();
    let key = client.key();
    let bytes: Vec<String> = key.secret_der().iter().take(40).map(u8::to_string).collect();
    assert!(!format!("{tls:?}").contains(&bytes.join(", ")));
}
