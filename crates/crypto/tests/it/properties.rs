//! What holds for all inputs.

use kes_crypto::{Algorithm, ApiKey, DecryptError, KeyVersion, pem};
use kes_types::Timestamp;
use proptest::collection::vec;
use proptest::prelude::*;
use time::macros::datetime;

const NOW: Timestamp = datetime!(2024-05-01 00:00:00.5 UTC);

fn algorithm() -> impl Strategy<Value = Algorithm> {
    prop_oneof![Just(Algorithm::Aes256), Just(Algorithm::ChaCha20)]
}

fn key(algorithm: Algorithm) -> KeyVersion {
    KeyVersion::generate(algorithm, NOW, "").unwrap()
}

proptest! {
    #[test]
    fn what_is_sealed_opens(
        algorithm in algorithm(),
        plaintext in vec(any::<u8>(), 0..2000),
        context in vec(any::<u8>(), 0..300),
        before in vec(any::<u8>(), 0..20),
    ) {
        let key = key(algorithm);
        let mut out = before.clone();
        key.seal_into(&plaintext, &context, &mut out).unwrap();
        let (head, ciphertext) = out.split_at(before.len());
        prop_assert_eq!(head, before);
        prop_assert_eq!(ciphertext.len(), plaintext.len() + 44);
        let opened = key.open(ciphertext, &context).unwrap();
        prop_assert_eq!(opened.expose_secret(), plaintext);
    }

    #[test]
    fn a_record_reads_back_as_it_was_written(
        algorithm in algorithm(),
        seconds in -62_135_596_800_i64..253_402_300_800,
        nanos in 0_u32..1_000_000_000,
        created_by in prop_oneof!["[0-9a-f]{64}", any::<String>()],
    ) {
        let created_at = Timestamp::from_unix_timestamp(seconds).unwrap().replace_nanosecond(nanos).unwrap();
        let key = KeyVersion::generate(algorithm, created_at, &created_by).unwrap();
        let again = KeyVersion::decode(key.encode().expose_secret()).unwrap();
        prop_assert_eq!(again.algorithm(), algorithm);
        prop_assert_eq!(again.created_at(), created_at);
        prop_assert_eq!(again.created_by(), created_by);
        prop_assert_eq!(again.hmac(b"message").unwrap(), key.hmac(b"message").unwrap());
        prop_assert!(again.open(&key.seal(b"secret", b"").unwrap(), b"").is_ok());
        let (first, second) = (key.encode(), again.encode());
        prop_assert!(first.ct_eq(&second));
    }

    #[test]
    fn any_value_is_a_record_or_an_error(
        value in prop_oneof![
            vec(any::<u8>(), 0..300),
            "[A-Za-z0-9+/]{40,260}={0,2}".prop_map(String::into_bytes),
            r#"\{("(bytes|secret|algorithm|created_at|x)":("[A-Za-z0-9+/=:.-]{0,44}"|null|1|\{\}),?){0,4}\}"#
                .prop_map(String::into_bytes),
        ],
    ) {
        let _ = KeyVersion::decode(&value);
    }

    #[test]
    fn any_record_with_a_changed_byte_is_a_record_or_an_error(at in 0_usize..208, byte: u8) {
        let mut value = key(Algorithm::Aes256).encode().expose_secret().to_vec();
        let at = at % value.len();
        value[at] = byte;
        let _ = KeyVersion::decode(&value);
    }

    #[test]
    fn any_bytes_are_no_ciphertext(
        first in prop_oneof![Just(0x95), Just(b'{'), any::<u8>()],
        rest in vec(any::<u8>(), 0..300),
    ) {
        let ciphertext = [vec![first], rest].concat();
        prop_assert_eq!(key(Algorithm::Aes256).open(&ciphertext, b"").unwrap_err(), DecryptError);
    }

    #[test]
    fn any_text_is_an_api_key_or_an_error(text in any::<String>()) {
        let _ = ApiKey::parse(&text);
    }

    #[test]
    fn any_bytes_are_a_pem_file_or_an_error(
        label in prop_oneof![Just("PRIVATE KEY"), Just("ENCRYPTED PRIVATE KEY"), Just("CERTIFICATE")],
        headers in "((Proc-Type: 4,ENCRYPTED|DEK-Info: AES-256-CBC,[0-9A-F]{0,32}|[a-z: ]{0,9})\n){0,3}\n?",
        der in vec(any::<u8>(), 0..80),
        raw in vec(any::<u8>(), 0..80),
    ) {
        let block = pem::encode(label, &der);
        let (begin, rest) = block.split_once('\n').unwrap();
        for input in [format!("{begin}\n{headers}{rest}").as_bytes(), &raw] {
            let _ = pem::private_key(input, Some(b"password"));
            let _ = pem::certificates(input);
        }
    }

    #[test]
    fn a_private_key_opens_after_encryption(seed: [u8; 32], password in vec(any::<u8>(), 1..100)) {
        let der = [&[0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20][..], &seed].concat();
        let pem = pem::encrypt_private_key(&der, &password).unwrap();
        let key = pem::private_key(pem.as_bytes(), Some(&password)).unwrap();
        prop_assert_eq!(key.expose_secret(), der);
    }
}

#[test]
fn a_changed_missing_or_added_byte_anywhere_is_not_authentic() {
    for algorithm in [Algorithm::Aes256, Algorithm::ChaCha20] {
        let key = key(algorithm);
        let ciphertext = key.seal(b"attack at dawn", b"context").unwrap();
        for i in 0..ciphertext.len() {
            for bit in 0..8 {
                let mut altered = ciphertext.clone();
                altered[i] ^= 1 << bit;
                assert_eq!(key.open(&altered, b"context").unwrap_err(), DecryptError);
            }
            assert_eq!(key.open(&ciphertext[..i], b"context").unwrap_err(), DecryptError);
            assert_eq!(
                key.open(&ciphertext[i + 1..], b"context").unwrap_err(),
                DecryptError
            );
        }
        let longer = [&ciphertext[..], &[0]].concat();
        assert_eq!(key.open(&longer, b"context").unwrap_err(), DecryptError);
        for context in [&b""[..], b"contex", b"context\0", b"Context"] {
            assert_eq!(key.open(&ciphertext, context).unwrap_err(), DecryptError);
        }
        assert_eq!(
            self::key(algorithm).open(&ciphertext, b"context").unwrap_err(),
            DecryptError
        );
    }
}

#[test]
fn no_two_ciphertexts_are_the_same() {
    let key = key(Algorithm::Aes256);
    assert_ne!(key.seal(b"", b"").unwrap(), key.seal(b"", b"").unwrap());
}

#[test]
fn a_data_key_is_new_each_time_and_opens() {
    for algorithm in [Algorithm::Aes256, Algorithm::ChaCha20] {
        let key = key(algorithm);
        let (plaintext, ciphertext) = key.seal_data_key(b"context").unwrap();
        assert_eq!((plaintext.len(), ciphertext.len()), (32, 76));
        assert!(key.open(&ciphertext, b"context").unwrap().ct_eq(&plaintext));
        assert!(key.open(&ciphertext, b"").is_err());

        let (other, other_ciphertext) = key.seal_data_key(b"context").unwrap();
        assert!(!other.ct_eq(&plaintext));
        // No random bytes are used twice, neither between the calls nor within one.
        let random = |ciphertext: &[u8]| ciphertext[48..].to_vec();
        assert_ne!(random(&ciphertext), random(&other_ciphertext));
        assert_ne!(random(&ciphertext)[..12], plaintext.expose_secret()[..12]);
    }
}
