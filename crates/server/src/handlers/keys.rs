//! Keys: create, import, describe, delete; generate, encrypt, decrypt, authenticate.

use http::StatusCode;
use kes_crypto::Algorithm;
use kes_keyring::{KeyInfo, Scope};
use kes_types::KeyName;
use kes_types::wire::{
    DecryptRequest, EncryptRequest, GenerateRequest, HmacRequest, ImportRequest, KeyDescription,
};

use super::answer::Json;
use super::{Permitted, Reply};
use crate::error::ApiError;

pub(super) async fn create(request: &mut Permitted<'_>) -> Result<Reply, ApiError> {
    let name = KeyName::parse(request.resource)?;
    request
        .snapshot
        .keyring()
        .create(&Scope::default(), &name, request.caller.identity())
        .await?;
    Ok(Reply::Empty)
}

pub(super) async fn import(request: &mut Permitted<'_>) -> Result<Reply, ApiError> {
    let name = KeyName::parse(request.resource)?;
    let (body, _memory) = request.body().await?;
    let ImportRequest { key, cipher } = ImportRequest::parse(&body)?;
    let algorithm = match cipher.as_str() {
        "" => Algorithm::Aes256,
        cipher => Algorithm::parse(cipher).map_err(|_| {
            let shown: String = cipher.chars().take(64).filter(|c| !c.is_control()).collect();
            ApiError::new(
                StatusCode::NOT_ACCEPTABLE,
                format!("algorithm '{shown}' is not supported"),
            )
        })?,
    };
    let by = request.caller.identity();
    request
        .snapshot
        .keyring()
        .import(&Scope::default(), &name, &key.0, algorithm, by)
        .await?;
    Ok(Reply::Empty)
}

pub(super) async fn describe(request: &mut Permitted<'_>) -> Result<Reply, ApiError> {
    let name = KeyName::parse(request.resource)?;
    let info = request
        .snapshot
        .keyring()
        .describe(&Scope::default(), &name)
        .await?;
    let KeyInfo {
        name,
        algorithm,
        created_at,
        created_by,
        version: _,
    } = info;
    Reply::json(&KeyDescription {
        name: name.to_string(),
        algorithm: algorithm.to_string(),
        created_at,
        created_by: created_by.to_string(),
    })
}

pub(super) async fn delete(request: &mut Permitted<'_>) -> Result<Reply, ApiError> {
    let name = KeyName::parse(request.resource)?;
    request
        .snapshot
        .keyring()
        .delete(&Scope::default(), &name)
        .await?;
    Ok(Reply::Empty)
}

pub(super) async fn generate(request: &mut Permitted<'_>) -> Result<Reply, ApiError> {
    let name = KeyName::parse(request.resource)?;
    let (body, _memory) = request.body().await?;
    let GenerateRequest { context, version } = GenerateRequest::parse(&body)?;
    let key = request
        .snapshot
        .keyring()
        .generate(&Scope::default(), &name, &version, &context.0)
        .await?;
    let fields = [
        ("plaintext", key.plaintext.expose_secret()),
        ("ciphertext", key.ciphertext.as_slice()),
    ];
    Ok(match key.version {
        None => Reply::secrets(&fields),
        Some(version) => return versioned(&fields, &version.to_string()),
    })
}

/// A data key that says which version of its key encrypted it.
fn versioned(fields: &[(&str, &[u8])], version: &str) -> Result<Reply, ApiError> {
    let version = serde_json::to_string(version).map_err(ApiError::internal)?;
    let size: usize = fields
        .iter()
        .map(|(name, bytes)| name.len() + bytes.len().div_ceil(3) * 4 + 6)
        .sum();
    let mut json = Json::with_capacity(size + version.len() + 16);
    json.object(fields);
    json.append_raw_field("version", &version);
    Ok(json.finish())
}

pub(super) async fn encrypt(request: &mut Permitted<'_>) -> Result<Reply, ApiError> {
    let name = KeyName::parse(request.resource)?;
    let (body, _memory) = request.body().await?;
    let EncryptRequest {
        plaintext,
        context,
        version,
    } = EncryptRequest::parse(&body)?;
    let keyring = request.snapshot.keyring();
    let encrypted = keyring
        .encrypt(&Scope::default(), &name, &version, &plaintext.0, &context.0)
        .await?;
    Ok(Reply::secrets(&[("ciphertext", &encrypted.ciphertext)]))
}

pub(super) async fn decrypt(request: &mut Permitted<'_>) -> Result<Reply, ApiError> {
    let name = KeyName::parse(request.resource)?;
    let (body, _memory) = request.body().await?;
    let DecryptRequest {
        ciphertext,
        context,
        version,
    } = DecryptRequest::parse(&body)?;
    let keyring = request.snapshot.keyring();
    let decrypted = keyring
        .decrypt(&Scope::default(), &name, &version, &ciphertext.0, &context.0)
        .await?;
    Ok(Reply::secrets(&[(
        "plaintext",
        decrypted.plaintext.expose_secret(),
    )]))
}

pub(super) async fn decrypt_bulk(request: &mut Permitted<'_>) -> Result<Reply, ApiError> {
    let name = KeyName::parse(request.resource)?;
    let (body, _memory) = request.body().await?;
    let items = DecryptRequest::parse_bulk(&body)?;
    let items: Vec<(&[u8], &[u8])> = items
        .iter()
        .map(|item| (item.ciphertext.0.as_slice(), item.context.0.as_slice()))
        .collect();
    let decrypted = request
        .snapshot
        .keyring()
        .decrypt_bulk(&Scope::default(), &name, &items)
        .await?;
    let size: usize = decrypted
        .iter()
        .map(|item| item.plaintext.len().div_ceil(3) * 4 + 18)
        .sum();
    let mut json = Json::with_capacity(size + 2);
    json.raw("[");
    for (index, item) in decrypted.iter().enumerate() {
        if index > 0 {
            json.raw(",");
        }
        json.object(&[("plaintext", item.plaintext.expose_secret())]);
    }
    json.raw("]");
    Ok(json.finish())
}

pub(super) async fn hmac(request: &mut Permitted<'_>) -> Result<Reply, ApiError> {
    let name = KeyName::parse(request.resource)?;
    let (body, _memory) = request.body().await?;
    let HmacRequest { message, version } = HmacRequest::parse(&body)?;
    let mac = request
        .snapshot
        .keyring()
        .hmac(&Scope::default(), &name, &version, &message.0)
        .await?;
    Ok(Reply::secrets(&[("hmac", &mac.hmac)]))
}
