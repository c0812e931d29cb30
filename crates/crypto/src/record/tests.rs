use time::macros::datetime;

use super::*;

const RECORD_AES: &str = "CiQKIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4fEAESJAogQEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZXWFlaW1xdXl8QARoLCICMxrEGEJWa7zo=";
const RECORD_CHACHA: &str = "CiQKIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4fEAISJAogQEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZXWFlaW1xdXl8QARoLCICMxrEGEJWa7zo=";

#[test]
fn the_published_record_is_read_and_written_byte_for_byte() {
    for (text, algorithm) in [
        (RECORD_AES, Algorithm::Aes256),
        (RECORD_CHACHA, Algorithm::ChaCha20),
    ] {
        let record = KeyVersion::decode(text.as_bytes()).unwrap();
        assert_eq!(record.algorithm, Some(algorithm));
        assert_eq!(record.keys.cipher, std::array::from_fn(|i| i as u8));
        assert_eq!(record.keys.hmac, Some(std::array::from_fn(|i| 0x40 + i as u8)));
        assert_eq!(record.created_at(), datetime!(2024-05-01 00:00:00.123456789 UTC));
        assert_eq!(record.created_by(), "");
        assert_eq!(record.encode().expose_secret(), text.as_bytes());
    }
}
