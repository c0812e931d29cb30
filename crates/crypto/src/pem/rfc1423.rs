//! The encryption of PEM blocks after RFC 1423, as OpenSSL made it the custom.

use aes::{Aes128, Aes192, Aes256};
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{
    BlockCipherDecrypt, BlockModeDecrypt as _, BlockModeEncrypt as _, KeyInit, KeyIvInit as _,
};
use des::TdesEde3;
use md5::{Digest as _, Md5};
use zeroize::{Zeroize as _, Zeroizing};

use crate::pem::PemError;

/// Decrypts `data` as the header `DEK-Info: <dek_info>` says.
pub(super) fn decrypt(
    dek_info: &str,
    password: &[u8],
    data: Zeroizing<Vec<u8>>,
) -> Result<Zeroizing<Vec<u8>>, PemError> {
    let (cipher, iv) = dek_info
        .split_once(',')
        .ok_or(PemError::Malformed("the DEK-Info header has no IV"))?;
    let iv = hex(iv.trim()).ok_or(PemError::Malformed(
        "the IV of the DEK-Info header is not hexadecimal",
    ))?;
    match cipher.trim().to_ascii_uppercase().as_str() {
        "AES-128-CBC" => decrypt_cbc::<Aes128>(&iv, password, data),
        "AES-192-CBC" => decrypt_cbc::<Aes192>(&iv, password, data),
        "AES-256-CBC" => decrypt_cbc::<Aes256>(&iv, password, data),
        "DES-EDE3-CBC" => decrypt_cbc::<TdesEde3>(&iv, password, data),
        _ => Err(PemError::UnsupportedEncryption),
    }
}

/// Encrypts `data` with AES-256-CBC.
pub(super) fn encrypt_aes256(iv: &[u8; 16], password: &[u8], data: &[u8]) -> Zeroizing<Vec<u8>> {
    const BLOCK: usize = 16;
    let key = derive_key::<Aes256>(iv, password);
    let mut buffer = Zeroizing::new(Vec::with_capacity(data.len() + BLOCK));
    buffer.extend_from_slice(data);
    buffer.resize((data.len() / BLOCK + 1) * BLOCK, 0);
    cbc::Encryptor::<Aes256>::new_from_slices(&key, iv)
        .expect("key and IV have the lengths of AES-256")
        .encrypt_padded::<Pkcs7>(&mut buffer, data.len())
        .expect("there is room for the padding");
    buffer
}

fn decrypt_cbc<C: BlockCipherDecrypt + KeyInit>(
    iv: &[u8],
    password: &[u8],
    mut data: Zeroizing<Vec<u8>>,
) -> Result<Zeroizing<Vec<u8>>, PemError> {
    let key = derive_key::<C>(iv, password);
    let cipher = cbc::Decryptor::<C>::new_from_slices(&key, iv)
        .map_err(|_| PemError::Malformed("the IV of the DEK-Info header has the wrong length"))?;
    let length = match cipher.decrypt_padded::<Pkcs7>(&mut data) {
        Ok(plaintext) => plaintext.len(),
        Err(_) => return Err(PemError::WrongPassword),
    };
    data.truncate(length);
    Ok(data)
}

/// MD5 over the digest before, the password and the first half of the IV, until there is enough.
fn derive_key<C: KeyInit>(iv: &[u8], password: &[u8]) -> Zeroizing<Vec<u8>> {
    let salt = iv.get(..8).unwrap_or(iv);
    let mut key = Zeroizing::new(Vec::with_capacity(C::key_size() + 16));
    let mut digest = md5::digest::Output::<Md5>::default();
    let mut previous: &[u8] = &[];
    while key.len() < C::key_size() {
        digest = Md5::new()
            .chain_update(previous)
            .chain_update(password)
            .chain_update(salt)
            .finalize();
        key.extend_from_slice(&digest);
        previous = &digest;
    }
    digest.zeroize();
    key.truncate(C::key_size());
    key
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.chars().map(|c| c.to_digit(16)).collect::<Option<Vec<_>>>()?;
    let (pairs, []) = digits.as_chunks::<2>() else {
        return None;
    };
    pairs
        .iter()
        .map(|[high, low]| u8::try_from(high << 4 | low).ok())
        .collect()
}
