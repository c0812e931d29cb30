//! Telling the forms of a private key apart.

use zeroize::Zeroizing;

use crate::encoding::Reader;
use crate::pem::PrivateKeyDer;

const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const SEQUENCE: u8 = 0x30;

/// Tells by its second member what `der` is; labels lie, and what a wrong password leaves is no key at all.
pub(super) fn classify(der: Zeroizing<Vec<u8>>) -> Option<PrivateKeyDer> {
    match second_member(&der)? {
        SEQUENCE => Some(PrivateKeyDer::Pkcs8(der)),
        INTEGER => Some(PrivateKeyDer::Pkcs1(der)),
        OCTET_STRING => Some(PrivateKeyDer::Sec1(der)),
        _ => None,
    }
}

/// Whether `der` has the shape of an `EncryptedPrivateKeyInfo`, by whatever algorithm.
pub(super) fn is_encrypted(der: &[u8]) -> bool {
    matches!(first_members(der), Some([(SEQUENCE, _), (OCTET_STRING, _)]))
}

/// The tag of what follows the version number.
fn second_member(der: &[u8]) -> Option<u8> {
    match first_members(der)? {
        [(INTEGER, [_version]), (tag, _)] => Some(tag),
        _ => None,
    }
}

/// Tag and content of the first two members of a sequence that fills `der`.
fn first_members(der: &[u8]) -> Option<[(u8, &[u8]); 2]> {
    let mut outer = Reader::new(der);
    let (SEQUENCE, body) = element(&mut outer)? else {
        return None;
    };
    if !outer.is_empty() {
        return None;
    }
    let mut members = Reader::new(body);
    Some([element(&mut members)?, element(&mut members)?])
}

fn element<'a>(reader: &mut Reader<'a>) -> Option<(u8, &'a [u8])> {
    let tag = reader.byte()?;
    let length = match reader.byte()? {
        short @ 0..=0x7f => short.into(),
        0x81 => reader.byte()?.into(),
        0x82 => u16::from_be_bytes(reader.array()?).into(),
        _ => return None,
    };
    Some((tag, reader.take(length)?))
}
