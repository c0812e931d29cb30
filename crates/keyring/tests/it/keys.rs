//! Using a key.

use kes_keyring::{KeyringError, Scope};

use crate::rig::{Rig, named};

#[tokio::test(start_paused = true)]
async fn a_data_key_opens_with_its_context_only() {
    let rig = Rig::new();
    rig.put("key", "first");
    let (scope, name) = (Scope::default(), named("key"));
    let data_key = rig
        .ring
        .generate(&scope, &name, "", b"bucket/object")
        .await
        .unwrap();
    assert_eq!((data_key.plaintext.len(), data_key.version), (32, None));
    let opened = rig
        .ring
        .decrypt(&scope, &name, "", &data_key.ciphertext, b"bucket/object")
        .await
        .unwrap();
    assert!(opened.plaintext.ct_eq(&data_key.plaintext));
    let opened = rig
        .ring
        .decrypt(&scope, &name, "", &data_key.ciphertext, b"bucket/other")
        .await;
    assert!(matches!(opened, Err(KeyringError::Decrypt(_))));
    let another = rig
        .ring
        .generate(&scope, &name, "", b"bucket/object")
        .await
        .unwrap();
    assert!(!another.plaintext.ct_eq(&data_key.plaintext));
}

#[tokio::test(start_paused = true)]
async fn several_ciphertexts_open_all_or_none() {
    let rig = Rig::new();
    rig.put("key", "first");
    let (scope, name) = (Scope::default(), named("key"));
    let one = rig
        .ring
        .encrypt(&scope, &name, "", b"one", b"1")
        .await
        .unwrap()
        .ciphertext;
    let two = rig
        .ring
        .encrypt(&scope, &name, "", b"two", b"2")
        .await
        .unwrap()
        .ciphertext;
    let opened = rig
        .ring
        .decrypt_bulk(&scope, &name, &[(&one[..], &b"1"[..]), (&two[..], &b"2"[..])])
        .await
        .unwrap();
    let texts: Vec<_> = opened
        .iter()
        .map(|opened| opened.plaintext.expose_secret())
        .collect();
    assert_eq!(texts, [&b"one"[..], b"two"]);

    let opened = rig
        .ring
        .decrypt_bulk(&scope, &name, &[(&one[..], &b"1"[..]), (&two[..], &b"1"[..])])
        .await;
    assert!(matches!(opened, Err(KeyringError::Decrypt(_))));
    assert!(
        rig.ring
            .decrypt_bulk(&scope, &name, &[])
            .await
            .unwrap()
            .is_empty()
    );
    let missing = rig.ring.decrypt_bulk(&scope, &named("missing"), &[]).await;
    assert!(matches!(missing, Err(KeyringError::NotFound)));
}

#[tokio::test(start_paused = true)]
async fn a_version_that_a_key_has_not_is_refused() {
    let rig = Rig::new();
    rig.put("key", "first");
    let (scope, name) = (Scope::default(), named("key"));
    let sealed = rig
        .ring
        .encrypt(&scope, &name, "", b"text", b"")
        .await
        .unwrap()
        .ciphertext;
    for version in ["1", "v1", " ", "latest"] {
        assert!(matches!(
            rig.ring.generate(&scope, &name, version, b"").await,
            Err(KeyringError::NoSuchVersion)
        ));
        assert!(matches!(
            rig.ring.encrypt(&scope, &name, version, b"", b"").await,
            Err(KeyringError::NoSuchVersion)
        ));
        assert!(matches!(
            rig.ring.decrypt(&scope, &name, version, &sealed, b"").await,
            Err(KeyringError::NoSuchVersion)
        ));
        assert!(matches!(
            rig.ring.hmac(&scope, &name, version, b"").await,
            Err(KeyringError::NoSuchVersion)
        ));
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_authentication_code_depends_on_key_and_message() {
    let rig = Rig::new();
    rig.put("key", "first");
    rig.put("other", "first");
    let scope = Scope::default();
    let mac = async |name, message| {
        rig.ring
            .hmac(&scope, &named(name), "", message)
            .await
            .unwrap()
            .hmac
    };
    let code = mac("key", b"message").await;
    assert_eq!(mac("key", b"message").await, code);
    assert_ne!(mac("key", b"Message").await, code);
    assert_ne!(mac("other", b"message").await, code);
}

#[tokio::test(start_paused = true)]
async fn a_key_stored_before_there_were_hmac_keys_encrypts_only() {
    let rig = Rig::new();
    rig.store.put(
        "key",
        br#"{"bytes":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=","algorithm":"AES256-GCM_SHA256"}"#,
    );
    let (scope, name) = (Scope::default(), named("key"));
    rig.ring.generate(&scope, &name, "", b"").await.unwrap();
    let mac = rig.ring.hmac(&scope, &name, "", b"").await;
    assert!(matches!(mac, Err(KeyringError::NoHmacKey)), "{mac:?}");
}

#[tokio::test(start_paused = true)]
async fn no_debug_output_shows_a_secret() {
    let rig = Rig::new();
    rig.put("key", "first");
    let data_key = rig
        .ring
        .generate(&Scope::default(), &named("key"), "", b"")
        .await
        .unwrap();
    assert!(format!("{data_key:?}").contains("SecretBytes(32 bytes)"));
    let bytes = format!("{:?}", data_key.plaintext.expose_secret());
    assert!(!format!("{data_key:?} {:?}", rig.ring).contains(&bytes));
}
