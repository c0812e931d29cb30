//! PEM in, DER out: certificates and private keys as people keep them in files.
//!
//! Written here and not taken from a library, because one that zeroes what it decodes, reads the headers of encrypted keys
//! and skips what it must skip was not to be had.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::{RandomError, fill_random};

mod block;
mod der;
mod rfc1423;

use block::{Block, Blocks};

/// What is wrong with a PEM file. Never quotes it, but for the labels of blocks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// There is no `CERTIFICATE` block.
    #[error("there is no certificate")]
    NoCertificate,
    /// There is no `PRIVATE KEY` block.
    #[error("there is no private key")]
    NoKey,
    /// A file of certificates holds something else.
    #[error("there is a block of type '{0}' where only certificates belong")]
    UnexpectedBlock(String),
    /// A block is broken.
    #[error("{0}")]
    Malformed(&'static str),
    /// The key is encrypted in a way that nobody should use, or that is not known here.
    #[error("the encryption of the private key is not supported")]
    UnsupportedEncryption,
    /// The key is encrypted, and no password was given.
    #[error("the private key is encrypted and needs a password")]
    PasswordRequired,
    /// The password does not decrypt the key.
    #[error("the password of the private key is wrong")]
    WrongPassword,
    /// There is no randomness for an encryption.
    #[error(transparent)]
    Random(#[from] RandomError),
}

/// A private key in DER. `Debug` shows its form and size only.
pub enum PrivateKeyDer {
    /// PKCS#8, for any kind of key.
    Pkcs8(Zeroizing<Vec<u8>>),
    /// PKCS#1, an RSA key.
    Pkcs1(Zeroizing<Vec<u8>>),
    /// SEC1, a key on an elliptic curve.
    Sec1(Zeroizing<Vec<u8>>),
}

impl PrivateKeyDer {
    /// The key itself. Whoever calls this answers for where it goes.
    #[must_use]
    pub fn expose_secret(&self) -> &[u8] {
        match self {
            Self::Pkcs8(der) | Self::Pkcs1(der) | Self::Sec1(der) => der,
        }
    }
}

impl fmt::Debug for PrivateKeyDer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let form = match self {
            Self::Pkcs8(_) => "Pkcs8",
            Self::Pkcs1(_) => "Pkcs1",
            Self::Sec1(_) => "Sec1",
        };
        write!(f, "{form}({} bytes)", self.expose_secret().len())
    }
}

/// The certificates in `pem`, in their order. Text before a block is ignored.
///
/// # Errors
/// When there is none, or anything else: another block, which may be a private key in the wrong file, or text at the end,
/// which may be a block cut short.
pub fn certificates(pem: &[u8]) -> Result<Vec<Vec<u8>>, PemError> {
    let mut found = Vec::new();
    let mut blocks = Blocks::new(pem);
    while let Some(mut block) = blocks.next_block()? {
        if block.label != "CERTIFICATE" {
            return Err(PemError::UnexpectedBlock(block.label.into()));
        }
        found.push(std::mem::take(&mut *block.der));
    }
    if found.is_empty() {
        return Err(PemError::NoCertificate);
    }
    if blocks.skipped_text() {
        return Err(PemError::Malformed("there is text after the last certificate"));
    }
    Ok(found)
}

/// The first private key in `pem`; blocks of other types are skipped. `password` is for a key that is encrypted, in either of
/// the two ways there are: the headers of RFC 1423, or `ENCRYPTED PRIVATE KEY`.
///
/// # Errors
/// Says what is wrong with the file or the password.
pub fn private_key(pem: &[u8], password: Option<&[u8]>) -> Result<PrivateKeyDer, PemError> {
    let mut blocks = Blocks::new(pem);
    while let Some(block) = blocks.next_block()? {
        if block.label == "ENCRYPTED PRIVATE KEY" {
            return decrypt_pkcs8(&block.der, password.ok_or(PemError::PasswordRequired)?);
        }
        if block.label == "PRIVATE KEY" || block.label.ends_with(" PRIVATE KEY") {
            return match encryption(&block) {
                None => der::classify(block.der).ok_or(PemError::Malformed(
                    "the private key is neither PKCS#8 nor PKCS#1 nor SEC1",
                )),
                Some(dek_info) => {
                    let password = password.ok_or(PemError::PasswordRequired)?;
                    let der = rfc1423::decrypt(dek_info, password, block.der)?;
                    der::classify(der).ok_or(PemError::WrongPassword)
                }
            };
        }
    }
    Err(PemError::NoKey)
}

/// `der` as a PEM block with `label`.
#[must_use]
pub fn encode(label: &str, der: &[u8]) -> Zeroizing<String> {
    encode_with_headers(label, "", der)
}

/// The PKCS#8 key `pkcs8_der`, encrypted with `password`, as a `PRIVATE KEY` block with the headers of RFC 1423: the form that
/// clients of the reference read. Its key derivation is a single MD5, so the password has to be strong.
///
/// # Errors
/// When there is no randomness.
pub fn encrypt_private_key(pkcs8_der: &[u8], password: &[u8]) -> Result<Zeroizing<String>, PemError> {
    let mut iv = [0; 16];
    fill_random(&mut iv)?;
    let hex: String = iv.iter().map(|byte| format!("{byte:02x}")).collect();
    let headers = format!("Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,{hex}\n\n");
    let encrypted = rfc1423::encrypt_aes256(&iv, password, pkcs8_der);
    Ok(encode_with_headers("PRIVATE KEY", &headers, &encrypted))
}

/// The `DEK-Info` of a block that is encrypted as RFC 1423 has it.
fn encryption<'a>(block: &Block<'a>) -> Option<&'a str> {
    let header = |name: &str| {
        block
            .headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, v)| *v)
    };
    header("DEK-Info")
}

fn decrypt_pkcs8(der: &[u8], password: &[u8]) -> Result<PrivateKeyDer, PemError> {
    if !der::is_encrypted(der) {
        return Err(PemError::Malformed(
            "the encrypted private key is not valid PKCS#8",
        ));
    }
    let info =
        pkcs8::EncryptedPrivateKeyInfoRef::try_from(der).map_err(|_| PemError::UnsupportedEncryption)?;
    match info
        .encryption_algorithm
        .decrypt(password, info.encrypted_data.as_bytes())
    {
        Ok(der) => der::classify(Zeroizing::new(der)).ok_or(PemError::WrongPassword),
        Err(pkcs8::pkcs5::Error::DecryptFailed) => Err(PemError::WrongPassword),
        Err(_) => Err(PemError::UnsupportedEncryption),
    }
}

fn encode_with_headers(label: &str, headers: &str, der: &[u8]) -> Zeroizing<String> {
    const LINE: usize = 64;
    let base64 = Zeroizing::new(STANDARD.encode(der));
    let frame = "-----BEGIN -----\n-----END -----\n".len() + 2 * label.len() + headers.len();
    // Room for all of it, so that the text does not move and leave a copy.
    let mut text = Zeroizing::new(String::with_capacity(
        frame + base64.len() + base64.len() / LINE + 1,
    ));
    text.push_str("-----BEGIN ");
    text.push_str(label);
    text.push_str("-----\n");
    text.push_str(headers);
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at_checked(LINE).unwrap_or((rest, ""));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str("-----END ");
    text.push_str(label);
    text.push_str("-----\n");
    text
}
