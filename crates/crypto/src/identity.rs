//! From a public key to the identity it gives its owner.

use aws_lc_rs::digest::{SHA256, digest};
use kes_types::Identity;

/// The identity of whoever owns the public key in `spki_der`, the DER `SubjectPublicKeyInfo` of a certificate.
#[must_use]
pub fn identity_of_spki(spki_der: &[u8]) -> Identity {
    let hash = digest(&SHA256, spki_der);
    Identity::from_digest(hash.as_ref().try_into().expect("SHA-256 has 32 bytes"))
}
