//! Files made by OpenSSL.

use kes_crypto::ApiKey;
use kes_crypto::pem::{PemError, PrivateKeyDer, certificates, encode, encrypt_private_key, private_key};

use crate::{fixtures, read};

const PASSWORD: &[u8] = b"correct horse";

fn file(name: &str) -> Vec<u8> {
    read(&fixtures().join("pem").join(name))
}

/// The form and the bytes of the key in `name`, which is not encrypted.
fn plain(name: &str) -> (&'static str, Vec<u8>) {
    take(&private_key(&file(name), None).unwrap())
}

fn take(key: &PrivateKeyDer) -> (&'static str, Vec<u8>) {
    match key {
        PrivateKeyDer::Pkcs8(der) => ("PKCS#8", der.to_vec()),
        PrivateKeyDer::Pkcs1(der) => ("PKCS#1", der.to_vec()),
        PrivateKeyDer::Sec1(der) => ("SEC1", der.to_vec()),
    }
}

#[test]
fn keys_of_every_form_are_read() {
    for (name, form) in [
        ("rsa-pkcs1.pem", "PKCS#1"),
        ("rsa-pkcs8.pem", "PKCS#8"),
        ("ec-params-sec1.pem", "SEC1"),
        ("ec-pkcs8.pem", "PKCS#8"),
        ("ed25519-pkcs8.pem", "PKCS#8"),
        ("certificate-and-key.pem", "SEC1"),
    ] {
        assert_eq!(plain(name).0, form, "{name}");
    }
    assert_eq!(plain("certificate-and-key.pem"), plain("ec-params-sec1.pem"));
    let (_, ed25519) = plain("ed25519-pkcs8.pem");
    let key = ApiKey::from_pkcs8(&ed25519).unwrap();
    assert_eq!(key.private_key_pkcs8().as_slice(), ed25519);
    assert!(ApiKey::from_pkcs8(&plain("ec-pkcs8.pem").1).is_err());
}

/// Every encrypted file with the one that holds the same key unencrypted.
const ENCRYPTED: [(&str, &str); 16] = [
    ("rsa-aes-128-cbc.pem", "rsa-pkcs1.pem"),
    ("rsa-aes-192-cbc.pem", "rsa-pkcs1.pem"),
    ("rsa-aes-256-cbc.pem", "rsa-pkcs1.pem"),
    ("rsa-des-ede3-cbc.pem", "rsa-pkcs1.pem"),
    ("ec-aes-128-cbc.pem", "ec-params-sec1.pem"),
    ("ec-aes-192-cbc.pem", "ec-params-sec1.pem"),
    ("ec-aes-256-cbc.pem", "ec-params-sec1.pem"),
    ("ec-des-ede3-cbc.pem", "ec-params-sec1.pem"),
    ("rsa-go-aes256.pem", "rsa-pkcs8.pem"),
    ("ec-go-aes256.pem", "ec-pkcs8.pem"),
    ("ed25519-go-aes256.pem", "ed25519-pkcs8.pem"),
    ("ec-pbes2-aes-128-cbc.pem", "ec-pkcs8.pem"),
    ("ec-pbes2-aes-256-cbc.pem", "ec-pkcs8.pem"),
    ("ec-pbes2-des-ede3-cbc.pem", "ec-pkcs8.pem"),
    ("ec-pbes2-sha1.pem", "ec-pkcs8.pem"),
    ("ec-pbes2-scrypt.pem", "ec-pkcs8.pem"),
];

#[test]
fn an_encrypted_key_opens_with_its_password_only() {
    for (name, same) in ENCRYPTED {
        let pem = file(name);
        let key = private_key(&pem, Some(PASSWORD)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(take(&key) == plain(same), "{name}");
        assert_eq!(
            private_key(&pem, None).unwrap_err(),
            PemError::PasswordRequired,
            "{name}"
        );
        // Deriving keys as PBES2 has it is slow, on purpose.
        let tries = if name.contains("pbes2") { 1 } else { 3 };
        for wrong in [&b"correct hors"[..], b"", b"incorrect"].into_iter().take(tries) {
            assert_eq!(
                private_key(&pem, Some(wrong)).unwrap_err(),
                PemError::WrongPassword,
                "{name}"
            );
        }
    }
}

#[test]
fn a_password_for_a_key_that_is_not_encrypted_does_no_harm() {
    let key = private_key(&file("ec-pkcs8.pem"), Some(PASSWORD)).unwrap();
    assert_eq!(take(&key), plain("ec-pkcs8.pem"));
}

#[test]
fn windows_line_ends_and_indentation_do_not_matter() {
    for (name, same) in ENCRYPTED.into_iter().filter(|(name, _)| !name.contains("pbes2")) {
        let text = String::from_utf8(file(name)).unwrap();
        for edited in [
            text.replace('\n', "\r\n"),
            format!("# key\n  {}", text.replace('\n', "\n  ")),
        ] {
            let key = private_key(edited.as_bytes(), Some(PASSWORD)).unwrap();
            assert!(take(&key) == plain(same), "{name}");
        }
    }
}

#[test]
fn encryption_that_is_not_known_is_named_as_such() {
    for name in ["rsa-camellia.pem", "ec-pbes1.pem"] {
        assert_eq!(
            private_key(&file(name), Some(PASSWORD)).unwrap_err(),
            PemError::UnsupportedEncryption,
            "{name}"
        );
    }
}

#[test]
fn a_key_that_we_encrypt_has_the_form_of_the_reference_and_opens_again() {
    let (_, der) = plain("ed25519-pkcs8.pem");
    let pem = encrypt_private_key(&der, PASSWORD).unwrap();
    let lines: Vec<_> = pem.lines().collect();
    assert_eq!(
        lines[..2],
        ["-----BEGIN PRIVATE KEY-----", "Proc-Type: 4,ENCRYPTED"]
    );
    let iv = lines[2].strip_prefix("DEK-Info: AES-256-CBC,").unwrap();
    assert!(
        iv.len() == 32 && iv.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')),
        "{iv}"
    );
    assert_eq!((lines[3], lines[4].len()), ("", 64));
    assert_eq!(*lines.last().unwrap(), "-----END PRIVATE KEY-----");
    assert_eq!(
        take(&private_key(pem.as_bytes(), Some(PASSWORD)).unwrap()),
        ("PKCS#8", der)
    );

    let again = encrypt_private_key(b"\x30\x00", PASSWORD).unwrap();
    assert_ne!(
        again.lines().nth(2),
        pem.lines().nth(2),
        "the IV is new each time"
    );
}

#[test]
fn what_is_encoded_reads_back_and_looks_like_that_of_openssl() {
    let text = String::from_utf8(file("ec-pkcs8.pem")).unwrap();
    assert_eq!(*encode("PRIVATE KEY", &plain("ec-pkcs8.pem").1), text);
    let certificate = encode("CERTIFICATE", &[7; 48]);
    assert_eq!(
        certificate.lines().count(),
        3,
        "a full line has no empty one after it"
    );
    assert_eq!(certificates(certificate.as_bytes()).unwrap(), [vec![7; 48]]);
}

#[test]
fn a_chain_is_read_in_its_order_with_text_between() {
    let chain = certificates(&file("chain.pem")).unwrap();
    assert_eq!(chain.len(), 2);
    let has = |der: &[u8], name: &[u8]| der.windows(name.len()).any(|part| part == name);
    assert!(has(&chain[0], b"leaf") && has(&chain[1], b"ca"));
    assert!(certificates(&[&b"\xef\xbb\xbf caf\xe9\n"[..], &file("chain.pem"), b"\n \r\n"].concat()).is_ok());
}

#[test]
fn a_file_of_certificates_holds_nothing_else() {
    let label = |label: &str| PemError::UnexpectedBlock(label.into());
    assert_eq!(certificates(b"").unwrap_err(), PemError::NoCertificate);
    assert_eq!(certificates(b"text").unwrap_err(), PemError::NoCertificate);
    assert_eq!(
        certificates(&file("certificate-and-key.pem")).unwrap_err(),
        label("EC PARAMETERS")
    );
    assert_eq!(
        certificates(&file("rsa-pkcs1.pem")).unwrap_err(),
        label("RSA PRIVATE KEY")
    );
    let with_garbage = [&file("chain.pem")[..], b"garbage\n"].concat();
    assert!(matches!(
        certificates(&with_garbage).unwrap_err(),
        PemError::Malformed(_)
    ));
}

#[test]
fn a_file_without_a_usable_key_says_why() {
    assert_eq!(private_key(b"", None).unwrap_err(), PemError::NoKey);
    assert_eq!(
        private_key(&file("chain.pem"), None).unwrap_err(),
        PemError::NoKey
    );

    let key = |headers: &str, body: &str| {
        format!("-----BEGIN PRIVATE KEY-----\n{headers}{body}\n-----END PRIVATE KEY-----\n")
    };
    let encrypted = |info: &str| key(&format!("Proc-Type: 4,ENCRYPTED\nDEK-Info: {info}\n\n"), "AAAA");
    for malformed in [
        key("", "no base64!"),
        key("", ""),
        key("", "AAAA"),
        "-----BEGIN PRIVATE KEY-----\nAAAA\n".into(),
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END CERTIFICATE-----\n".into(),
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----".into(),
        encode("OPENSSH PRIVATE KEY", b"openssh-key-v1\0").to_string(),
        encrypted("AES-256-CBC"),
        encrypted("AES-256-CBC,0"),
        encrypted("AES-256-CBC,xx"),
        encrypted("AES-256-CBC,0011"),
        encrypted("DES-EDE3-CBC,00112233445566778899aabbccddeeff"),
    ] {
        let error = private_key(malformed.as_bytes(), Some(PASSWORD)).unwrap_err();
        assert!(matches!(error, PemError::Malformed(_)), "{malformed}: {error:?}");
    }
    let des = encrypted("DES-CBC,0011223344556677");
    assert_eq!(
        private_key(des.as_bytes(), Some(PASSWORD)).unwrap_err(),
        PemError::UnsupportedEncryption
    );
}

#[test]
fn debug_output_of_a_key_shows_its_form_and_size_only() {
    let key = private_key(&file("ed25519-pkcs8.pem"), None).unwrap();
    assert_eq!(format!("{key:?}"), "Pkcs8(48 bytes)");
}
