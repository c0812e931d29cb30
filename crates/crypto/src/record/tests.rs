use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use time::macros::datetime;

use super::*;

/// Keys 00..1f and 40..5f.
const AES: &str = "CiQKIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4fEAESJAogQEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZXWFlaW1xdXl8QARoLCICMxrEGEJWa7zo=";
const CHACHA: &str = "CiQKIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4fEAISJAogQEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZXWFlaW1xdXl8QARoLCICMxrEGEJWa7zo=";
const LEGACY: &str = r#"{"bytes":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}"#;
const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const UNKNOWN: Timestamp = datetime!(0001-01-01 00:00 UTC);

fn decode(value: impl AsRef<[u8]>) -> KeyVersion {
    KeyVersion::decode(value.as_ref()).unwrap()
}

fn error(value: impl AsRef<[u8]>) -> CorruptRecord {
    KeyVersion::decode(value.as_ref()).unwrap_err()
}

fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// A field of a protobuf message with bytes in it.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, u8::try_from(content.len()).unwrap()], content].concat()
}

/// A `SecretKey` or `HMACKey`.
fn key(bytes: &[u8], kind: u8) -> Vec<u8> {
    [field(1, bytes), vec![0x10, kind]].concat()
}

#[test]
fn the_published_records_are_read_and_written_byte_for_byte() {
    for (text, algorithm) in [(AES, Algorithm::Aes256), (CHACHA, Algorithm::ChaCha20)] {
        let record = decode(text);
        assert_eq!(record.algorithm, Some(algorithm));
        assert_eq!(record.keys.cipher, std::array::from_fn(|i| i as u8));
        assert_eq!(record.keys.hmac, Some(std::array::from_fn(|i| 0x40 + i as u8)));
        assert_eq!(record.created_at(), datetime!(2024-05-01 00:00:00.123456789 UTC));
        assert_eq!(record.created_by(), "");
        assert_eq!(record.encode().expose_secret(), text.as_bytes());
    }
}

#[test]
fn a_record_with_a_creator_has_the_length_it_always_had() {
    let creator = "ab".repeat(32);
    let record = KeyVersion::generate(
        Algorithm::Aes256,
        datetime!(2024-05-01 00:00:00.123456789 UTC),
        &creator,
    )
    .unwrap();
    let text = record.encode();
    assert_eq!(text.len(), 208);
    assert!(text.expose_secret().starts_with(b"CiQKI"));
    assert_eq!(decode(text.expose_secret()).created_by(), creator);
}

#[test]
fn white_space_and_line_ends_do_not_matter() {
    for text in [AES, LEGACY, KEY] {
        let (head, tail) = AES.split_at(60);
        for edited in [
            format!("{text}\n"),
            format!("{text}\r\n\r\n"),
            format!(" \t{text} \n"),
            format!("{head}\n{tail}"),
            format!("{head}\r\n{tail}\r\n"),
        ] {
            assert_eq!(decode(edited).keys.cipher, decode(KEY).keys.cipher);
        }
    }
}

#[test]
fn legacy_json_of_every_year_is_read() {
    let time = datetime!(2023-01-02 03:04:05.678 UTC);
    for (members, algorithm, created_at, created_by) in [
        ("", None, UNKNOWN, ""),
        (r#","algorithm":"""#, None, UNKNOWN, ""),
        (
            r#","algorithm":null,"created_at":null,"created_by":null"#,
            None,
            UNKNOWN,
            "",
        ),
        (
            r#","algorithm":"AES256-GCM_SHA256""#,
            Some(Algorithm::Aes256),
            UNKNOWN,
            "",
        ),
        (r#","algorithm":"AES256""#, Some(Algorithm::Aes256), UNKNOWN, ""),
        (
            r#","algorithm":"XCHACHA20-POLY1305""#,
            Some(Algorithm::ChaCha20),
            UNKNOWN,
            "",
        ),
        (
            r#","algorithm":"ChaCha20""#,
            Some(Algorithm::ChaCha20),
            UNKNOWN,
            "",
        ),
        (r#","created_at":"2023-01-02T03:04:05.678Z""#, None, time, ""),
        (
            r#","created_at":"2023-01-02T05:34:05.678+02:30","created_by":"ab""#,
            None,
            time,
            "ab",
        ),
        (r#","created_at":"0001-01-01T00:00:00Z""#, None, UNKNOWN, ""),
        (r#","version":"v1","other":{"bytes":[1]}"#, None, UNKNOWN, ""),
    ] {
        let record = decode(format!(r#"{{"bytes":"{KEY}"{members}}}"#));
        assert_eq!(record.keys.cipher, decode(AES).keys.cipher, "{members}");
        assert_eq!(record.algorithm, algorithm, "{members}");
        assert_eq!(
            record.algorithm(),
            algorithm.unwrap_or(Algorithm::Aes256),
            "{members}"
        );
        assert_eq!(
            (record.created_at(), record.created_by()),
            (created_at, created_by),
            "{members}"
        );
        assert!(record.created_at().offset().is_utc());
        assert_eq!(record.hmac(b"message"), Err(NoHmacKey), "{members}");
    }
    let escaped = decode(LEGACY.replace('A', r"\u0041"));
    assert_eq!(escaped.keys.cipher, decode(LEGACY).keys.cipher);
}

#[test]
fn the_very_first_forms_are_read() {
    for text in [KEY.to_owned(), format!(r#"{{"name":"my-key","secret":"{KEY}"}}"#)] {
        let record = decode(text);
        assert_eq!(record.keys.cipher, decode(AES).keys.cipher);
        assert_eq!((record.algorithm, record.keys.hmac), (None, None));
        assert_eq!((record.created_at(), record.created_by()), (UNKNOWN, ""));
    }
}

#[test]
fn a_legacy_record_is_written_as_one() {
    assert_eq!(
        decode(LEGACY).encode().expose_secret(),
        format!(r#"{{"version":"v1","bytes":"{KEY}","created_at":"0001-01-01T00:00:00Z"}}"#).as_bytes()
    );
    let full = format!(
        r#"{{"version":"v1","bytes":"{KEY}","algorithm":"ChaCha20","created_at":"2023-01-02T03:04:05.678Z","created_by":"ab"}}"#
    );
    assert_eq!(decode(&full).encode().expose_secret(), full.as_bytes());
}

#[test]
fn unknown_fields_are_ignored_and_the_last_of_a_field_counts() {
    let message = [
        field(15, b"unknown"),
        vec![14 << 3, 0x96, 0x01],
        [&[13 << 3 | 1][..], &[0; 8]].concat(),
        [&[12 << 3 | 5][..], &[0; 4]].concat(),
        field(1, &key(&[9; 32], 2)),
        field(2, &key(&[2; 32], 1)),
        field(4, b"first"),
        // A message that comes twice is merged.
        field(1, &[0x10, 1]),
        field(4, b"last"),
        // A known number with another type is an unknown field.
        vec![4 << 3, 1],
    ]
    .concat();
    let record = decode(base64(&message));
    assert_eq!(
        (record.keys.cipher, record.algorithm()),
        ([9; 32], Algorithm::Aes256)
    );
    assert_eq!(record.created_by(), "last");
    assert_eq!(
        record.created_at(),
        Timestamp::UNIX_EPOCH,
        "an absent time is the epoch"
    );
}

#[test]
fn times_before_1970_survive() {
    let time = datetime!(1900-01-01 00:00:00.000000001 UTC);
    let record = KeyVersion::generate(Algorithm::Aes256, time, "").unwrap();
    assert_eq!(decode(record.encode().expose_secret()).created_at(), time);
}

#[test]
fn a_corrupt_record_is_refused_and_says_why() {
    use CorruptRecord as C;

    let secret_key = field(1, &key(&[1; 32], 1));
    let hmac_key = field(2, &key(&[2; 32], 1));
    let with_time = |time: &[u8]| base64(&[&secret_key[..], &hmac_key, &field(3, time)].concat());
    let minus_one = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    for (value, expected) in [
        (String::new(), C::Empty),
        (" \r\n".into(), C::Empty),
        ("{".into(), C::Json),
        (r#"{"bytes":1}"#.into(), C::Json),
        (format!("{LEGACY}x"), C::Json),
        ("{}".into(), C::Missing("secret key")),
        (r#"{"bytes":null}"#.into(), C::Missing("secret key")),
        (r#"{"bytes":""}"#.into(), C::KeySize("secret key")),
        (r#"{"bytes":"AAEC"}"#.into(), C::KeySize("secret key")),
        (r#"{"bytes":"?"}"#.into(), C::KeySize("secret key")),
        (
            LEGACY.replace('}', r#","algorithm":"AES128"}"#),
            C::Algorithm("secret key"),
        ),
        (LEGACY.replace('}', r#","created_at":""}"#), C::CreatedAt),
        (LEGACY.replace('}', r#","created_at":"yesterday"}"#), C::CreatedAt),
        (
            LEGACY.replace('}', r#","created_at":"0000-01-01T00:00:00+01:00"}"#),
            C::CreatedAt,
        ),
        (
            r#"{"local_key":{},"kms_key":"my-key","ciphertext":"AAAA"}"#.into(),
            C::Sealed,
        ),
        ("null".into(), C::Protobuf),
        ("[]".into(), C::Base64),
        ("CiQKI".into(), C::Base64),
        (AES.replace('/', "_").replace('=', ""), C::Base64),
        (base64(b"\xff"), C::Protobuf),
        (base64(b"\x00\x00"), C::Protobuf),
        (base64(b"\x0b\x0c"), C::Protobuf),
        (base64(&secret_key[..20]), C::Protobuf),
        (
            base64(&[&secret_key[..], &hmac_key, &field(4, b"\xff")].concat()),
            C::Protobuf,
        ),
        (base64(&secret_key), C::Missing("HMAC key")),
        (base64(&hmac_key), C::Missing("secret key")),
        (
            base64(&[&field(1, &[])[..], &hmac_key].concat()),
            C::KeySize("secret key"),
        ),
        (
            base64(&[&secret_key[..], &field(2, &key(&[2; 33], 1))].concat()),
            C::KeySize("HMAC key"),
        ),
        (
            base64(&[&field(1, &key(&[1; 32], 0))[..], &hmac_key].concat()),
            C::Algorithm("secret key"),
        ),
        (
            base64(&[&field(1, &key(&[1; 32], 3))[..], &hmac_key].concat()),
            C::Algorithm("secret key"),
        ),
        (
            base64(&[&secret_key[..], &field(2, &key(&[2; 32], 2))].concat()),
            C::Algorithm("HMAC key"),
        ),
        (
            with_time(&[&[0x08][..], &minus_one[..9], &[0x00]].concat()),
            C::CreatedAt,
        ),
        (with_time(&[&[0x10][..], &minus_one].concat()), C::CreatedAt),
    ] {
        assert_eq!(error(&value), expected, "{value}");
    }
}

#[test]
fn an_imported_key_must_have_32_bytes() {
    for length in [0, 16, 31, 33, 64] {
        let key = vec![7; length];
        let error = KeyVersion::import(&key, Algorithm::Aes256, UNKNOWN, "").unwrap_err();
        assert_eq!(error, ImportError::KeySize);
    }
    let [one, other] =
        [(); 2].map(|()| KeyVersion::import(&[7; 32], Algorithm::ChaCha20, UNKNOWN, "").unwrap());
    assert_eq!((one.keys.cipher, one.algorithm()), ([7; 32], Algorithm::ChaCha20));
    assert_ne!(one.keys.hmac, other.keys.hmac, "the HMAC key is new");
}

#[test]
fn hmac_is_what_openssl_computes() {
    let hmac = decode(AES).hmac(b"message").unwrap();
    let hex: String = hmac.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        hex,
        "69b2615da8c2d460d244229059d990f0b7b522e38a12f000fad733b379e43873"
    );
}

/// Ciphertexts of `attack at dawn!!` with the context `ctx/1` under the key of the published records.
mod ciphertexts {
    use super::*;

    const PLAINTEXT: &[u8] = b"attack at dawn!!";
    const CONTEXT: &[u8] = b"ctx/1";

    const AES_RAW: &str = "lYlCCGFRByxV3WnGpLqgOMSSNVuN8TcMW8FvnI8db0ggISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7";
    const AES_RAW_7B: &str =
        "e7O0WcvK/GHzd68vjR31i8M9ktQ0fLZJNryBnFt0c5AgISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OQEs";
    const AES_MSGPACK: &str = "lbFBRVMyNTYtR0NNX1NIQTI1NtkgNjMwZGNkMjk2NmM0MzM2NjkxMTI1NDQ4YmJiMjViNGbEECAhIiMkJSYnKCkqKywtLi/EDDAxMjM0NTY3ODk6O8QglYlCCGFRByxV3WnGpLqgOMSSNVuN8TcMW8FvnI8db0g=";
    const AES_JSON: &str = r#"{"aead":"AES-256-GCM-HMAC-SHA-256","id":"630dcd2966c4336691125448bbb25b4f","iv":"ICEiIyQlJicoKSorLC0uLw==","nonce":"MDEyMzQ1Njc4OTo7","bytes":"lYlCCGFRByxV3WnGpLqgOMSSNVuN8TcMW8FvnI8db0g="}"#;
    const CHACHA_RAW: &str =
        "yjWLNrS7oMoX8tYCiOC/kFjSN0lm4oG7g8Xc/tvXyUogISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7";
    const CHACHA_MSGPACK: &str = "lbJYQ0hBQ0hBMjAtUE9MWTEzMDXZIDYzMGRjZDI5NjZjNDMzNjY5MTEyNTQ0OGJiYjI1YjRmxBAgISIjJCUmJygpKissLS4vxAwwMTIzNDU2Nzg5OjvEIMo1iza0u6DKF/LWAojgv5BY0jdJZuKBu4PF3P7b18lK";
    const CHACHA_JSON: &str = r#"{"aead":"ChaCha20Poly1305","id":"630dcd2966c4336691125448bbb25b4f","iv":"ICEiIyQlJicoKSorLC0uLw==","nonce":"MDEyMzQ1Njc4OTo7","bytes":"yjWLNrS7oMoX8tYCiOC/kFjSN0lm4oG7g8Xc/tvXyUo="}"#;

    fn bytes(text: &str) -> Vec<u8> {
        if text.starts_with('{') {
            text.into()
        } else {
            STANDARD.decode(text).unwrap()
        }
    }

    fn opens(record: &KeyVersion, ciphertext: &[u8]) -> bool {
        match record.open(ciphertext, CONTEXT) {
            Ok(plaintext) => {
                assert_eq!(plaintext.expose_secret(), PLAINTEXT);
                assert_eq!(record.open(ciphertext, b"ctx/2").unwrap_err(), DecryptError);
                true
            }
            Err(DecryptError) => false,
        }
    }

    #[test]
    fn the_published_ciphertexts_are_written_byte_for_byte() {
        let mut random: [u8; 28] = std::array::from_fn(|i| 0x20 + i as u8);
        let seal = |record: &str, random: &[u8; 28]| {
            let mut out = Vec::new();
            decode(record).seal_with(random, PLAINTEXT, CONTEXT, &mut out);
            out
        };
        assert_eq!(seal(AES, &random), bytes(AES_RAW));
        assert_eq!(seal(CHACHA, &random), bytes(CHACHA_RAW));
        random[26..].copy_from_slice(&[0x01, 0x2c]);
        assert_eq!(seal(AES, &random), bytes(AES_RAW_7B));
    }

    #[test]
    fn what_a_key_without_an_algorithm_opens_is_for_the_ciphertext_to_say() {
        let (generic, aes, chacha) = (decode(LEGACY), decode(AES), decode(CHACHA));
        for (text, by_generic, by_aes, by_chacha) in [
            (AES_RAW, true, true, false),
            (AES_RAW_7B, true, true, false),
            (AES_MSGPACK, true, true, false),
            (AES_JSON, true, true, false),
            (CHACHA_RAW, false, false, true),
            (CHACHA_MSGPACK, true, false, true),
            (CHACHA_JSON, true, false, true),
        ] {
            let ciphertext = bytes(text);
            assert_eq!(opens(&generic, &ciphertext), by_generic, "{text}");
            assert_eq!(opens(&aes, &ciphertext), by_aes, "{text}");
            assert_eq!(opens(&chacha, &ciphertext), by_chacha, "{text}");
        }
        let mut sealed = generic.seal(PLAINTEXT, CONTEXT).unwrap();
        assert!(opens(&aes, &sealed), "it seals with AES");
        sealed.clear();
        assert!(!opens(&generic, &sealed));
    }

    /// A MessagePack ciphertext with these lengths in the headers of its binaries.
    fn msgpack(algorithm: &[u8], key_id: &[u8], header: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
        let raw = bytes(AES_RAW);
        let (sealed, random) = raw.split_at(32);
        let (iv, nonce) = random.split_at(16);
        let binary = |content: &[u8]| [header(content), content.to_vec()].concat();
        [
            &[0x95],
            algorithm,
            key_id,
            &binary(iv),
            &binary(nonce),
            &binary(sealed),
        ]
        .concat()
    }

    #[test]
    fn msgpack_is_read_with_every_width_of_length() {
        let aes = decode(AES);
        let bin8 = |content: &[u8]| vec![0xc4, content.len() as u8];
        let bin16 = |content: &[u8]| vec![0xc5, 0, content.len() as u8];
        let bin32 = |content: &[u8]| vec![0xc6, 0, 0, 0, content.len() as u8];
        for algorithm in [
            &b"\xa6AES256"[..],
            b"\xd9\x06AES256",
            b"\xda\x00\x06AES256",
            b"\xdb\x00\x00\x00\x06AES256",
        ] {
            for key_id in [&b"\xa0"[..], b"\xd9\x00", b"\xa3any"] {
                assert!(opens(&aes, &msgpack(algorithm, key_id, bin8)));
                assert!(opens(&aes, &msgpack(algorithm, key_id, bin16)));
                assert!(opens(&aes, &msgpack(algorithm, key_id, bin32)));
            }
        }

        let good = msgpack(b"\xa6AES256", b"\xa0", bin8);
        for bad in [
            msgpack(b"\xa6aes256", b"\xa0", bin8),
            msgpack(b"\xc4\x06AES256", b"\xa0", bin8),
            msgpack(b"\xa6AES256", b"\xc0", bin8),
            msgpack(b"\xa6AES256", b"\xa0", |content| vec![0xa0 | content.len() as u8]),
            [&good[..], &[0]].concat(),
            [&[0x94], &good[1..]].concat(),
            [&[0xdc, 0, 5], &good[1..]].concat(),
            good[..good.len() - 1].to_vec(),
        ] {
            assert!(!opens(&aes, &bad), "{bad:x?}");
        }
    }

    #[test]
    fn json_is_read_as_leniently_as_it_was() {
        let aes = decode(AES);
        for good in [
            AES_JSON.replace(r#","id":"630dcd2966c4336691125448bbb25b4f""#, ""),
            AES_JSON.replace(
                r#""id":"630dcd2966c4336691125448bbb25b4f""#,
                r#""id":"","new":[{}]"#,
            ),
            AES_JSON.replace(':', " :\n "),
            AES_JSON.replace('{', r#"{"aead":"ChaCha20Poly1305","iv":"AAAA","#),
            AES_JSON.replace("Lw==", r"Lw\n=="),
            format!("{AES_JSON}\n"),
        ] {
            assert!(opens(&aes, good.as_bytes()), "{good}");
        }
        for bad in [
            AES_JSON.replace("AES-256-GCM-HMAC-SHA-256", "AES-256-GCM"),
            AES_JSON.replace("AES-256-GCM-HMAC-SHA-256", "AES256"),
            AES_JSON.replace(r#""iv":"ICEiIyQlJicoKSorLC0uLw==","#, ""),
            AES_JSON.replace("ICEiIyQlJicoKSorLC0uLw==", "ICEiIyQlJicoKSorLC0u"),
            AES_JSON.replace("MDEyMzQ1Njc4OTo7", "MDEyMzQ1Njc4OTo7AA=="),
            AES_JSON.replace("Jico", "Ji+o"),
            AES_JSON.replace("lYlC", ""),
            format!("{AES_JSON}x"),
            format!(" {AES_JSON}"),
            AES_JSON.replace('}', ""),
        ] {
            assert!(!opens(&aes, bad.as_bytes()), "{bad}");
        }
    }
}

#[test]
fn a_key_is_small_in_memory() {
    // On the heap beside it: both keys, and the identity of 64 bytes.
    assert_eq!((size_of::<KeyVersion>(), size_of::<Keys>()), (48, 65));
}

#[test]
fn debug_output_shows_no_key() {
    let record = decode(AES);
    let shown = format!("{record:?}");
    assert!(
        shown.starts_with("KeyVersion { algorithm: Some(Aes256), created_at: 2024"),
        "{shown}"
    );
    assert!(!shown.contains("keys") && !shown.contains("30, 31"), "{shown}");
    let text = format!("{:?}", record.encode());
    assert_eq!(text, "SecretBytes(120 bytes)");
}
