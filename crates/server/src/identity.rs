//! Who a client certificate says that the client is.

use kes_types::Identity;
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// What a client's certificates say about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// It sent none, or none that could be its own.
    Anonymous,
    /// The public key whose private key it has proven to have.
    Known(Identity),
    /// It sent several that could be its own.
    Ambiguous,
}

/// Reads the certificates of a finished handshake, in the order in which the client sent them.
///
/// Of several, the one that is not a CA's is the client's. The handshake proves possession of the *first* one's private
/// key only, so a client whose own certificate is not the first has proven nothing and is anonymous: otherwise anybody
/// could put a CA certificate of their own before somebody else's public certificate.
pub(crate) fn of_certificates(certificates: &[CertificateDer<'_>]) -> Peer {
    let (first, others) = match certificates {
        [] => return Peer::Anonymous,
        [only] => {
            return parse(only).map_or(Peer::Anonymous, |certificate| Peer::Known(certificate.identity));
        }
        [first, others @ ..] => (first, others),
    };
    let Some(first) = parse(first) else {
        return Peer::Anonymous;
    };
    let mut leaves = usize::from(!first.is_ca);
    for other in others {
        match parse(other) {
            Some(other) => leaves += usize::from(!other.is_ca),
            None => return Peer::Anonymous,
        }
    }
    match leaves {
        1 if !first.is_ca => Peer::Known(first.identity),
        0 | 1 => Peer::Anonymous,
        _ => Peer::Ambiguous,
    }
}

/// The identity of a single certificate, whoever vouches for it.
pub(crate) fn of_certificate(der: &[u8]) -> Option<Identity> {
    parse(der).map(|certificate| certificate.identity)
}

struct Certificate {
    identity: Identity,
    is_ca: bool,
}

fn parse(der: &[u8]) -> Option<Certificate> {
    let (rest, certificate) = X509Certificate::from_der(der).ok()?;
    if !rest.is_empty() {
        return None;
    }
    let is_ca = match certificate.basic_constraints() {
        Ok(constraints) => constraints.is_some_and(|constraints| constraints.value.ca),
        Err(_) => return None,
    };
    Some(Certificate {
        identity: kes_crypto::identity_of_spki(certificate.public_key().raw),
        is_ca,
    })
}
