//! Files of certificates and private keys.
#![no_main]

use kes_crypto::pem;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|file: &[u8]| {
    if let Ok(certificates) = pem::certificates(file) {
        let written: String = certificates
            .iter()
            .map(|der| pem::encode("CERTIFICATE", der).to_string())
            .collect();
        assert_eq!(pem::certificates(written.as_bytes()), Ok(certificates));
    }
    // PBES2 takes as long as the file says; that it is left out keeps the fuzzer fast.
    let needle = b"ENCRYPTED PRIVATE KEY";
    if !file.windows(needle.len()).any(|part| part == needle) {
        let _ = pem::private_key(file, Some(b"correct horse"));
    }
});
