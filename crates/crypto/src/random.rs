//! Random bytes from the provider's generator.

/// The random number generator failed, so nothing that depends on it was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the random number generator failed")]
pub struct RandomError;

/// Fills `out` with cryptographically secure random bytes.
///
/// # Errors
/// When there is no randomness to be had; `out` must not be used then.
pub fn fill_random(out: &mut [u8]) -> Result<(), RandomError> {
    aws_lc_rs::rand::fill(out).map_err(|_| RandomError)
}
