//! Readers for the encodings that records and ciphertexts share.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

pub(crate) mod json;

/// Standard base64 with padding. Excess bits in the last character are ignored, as the reference does.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// Decodes base64 that may be broken into lines. Neither step leaves a copy behind.
pub(crate) fn base64(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let is_line_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
    if text.iter().any(is_line_end) {
        let mut joined = Zeroizing::new(Vec::with_capacity(text.len()));
        joined.extend(text.iter().filter(|byte| !is_line_end(byte)));
        return unbroken_base64(&joined);
    }
    unbroken_base64(text)
}

fn unbroken_base64(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    // With room for the decoder's estimate the vector does not move, which would leave a copy.
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len() / 4 * 3 + 3));
    BASE64.decode_vec(text, &mut bytes).ok()?;
    Some(bytes)
}

/// Takes a byte string apart from its front.
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(crate) fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// A protobuf varint.
    pub(crate) fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..70).step_by(7) {
            let byte = self.byte()?;
            if shift == 63 && byte > 1 {
                return None;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_may_be_broken_into_lines_and_must_be_padded() {
        for good in [&b"AAEC/w=="[..], b"AAEC/w==\n", b"AA\r\nEC\n/w=\n=", b"AAEC/x=="] {
            assert_eq!(base64(good).unwrap().as_slice(), [0, 1, 2, 255], "{good:?}");
        }
        for bad in [
            &b"AAEC/w"[..],
            b"AAEC/w=",
            b"AAEC_w==",
            b"AAEC /w==",
            b"AAEC/w==A",
            b"=",
        ] {
            assert!(base64(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn a_varint_has_at_most_64_bits() {
        assert_eq!(Reader::new(&[0x96, 0x01]).varint(), Some(150));
        let mut longest = [0xff; 10];
        longest[9] = 1;
        assert_eq!(Reader::new(&longest).varint(), Some(u64::MAX));
        longest[9] = 2;
        assert_eq!(Reader::new(&longest).varint(), None);
        assert_eq!(Reader::new(&[0x80; 11]).varint(), None);
        assert_eq!(Reader::new(&[0x80]).varint(), None);
    }
}
