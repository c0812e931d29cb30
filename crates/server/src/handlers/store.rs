//! The key store, where the server keeps it itself: bring back a deleted key, describe, back up.

use std::sync::Arc;

use kes_keyring::{Scope, Upkeep};
use kes_keystore::{SealInfo, StoreInfo};
use kes_types::KeyName;
use kes_types::wire::{StoreInfoResponse, StoreSeal};

use super::{Permitted, Reply};
use crate::backup::Transfer;
use crate::error::ApiError;

pub(super) async fn undelete(request: &mut Permitted<'_>) -> Result<Reply, ApiError> {
    let name = KeyName::parse(request.resource)?;
    upkeep(request)?.undelete(&Scope::default(), &name).await?;
    Ok(Reply::Empty)
}

pub(super) async fn info(request: &mut Permitted<'_>) -> Result<Reply, ApiError> {
    let StoreInfo {
        kind,
        location,
        format,
        id,
        seals,
        keys,
        deleted,
        undelete,
        size,
        last_backup,
    } = upkeep(request)?.info().await?;
    let seal = |SealInfo { kind, check, source }| StoreSeal { kind, check, source };
    Reply::json(&StoreInfoResponse {
        kind: kind.to_owned(),
        location,
        format,
        id,
        seals: seals.into_iter().map(seal).collect(),
        keys,
        deleted_keys: deleted,
        undelete_seconds: undelete.as_secs(),
        size,
        last_backup,
    })
}

pub(super) async fn backup(request: &mut Permitted<'_>) -> Result<Reply, ApiError> {
    let backup = upkeep(request)?.backup().await?;
    let (shared, lease) = (request.shared, Arc::clone(&request.snapshot.lease));
    let transfer = Transfer::new(backup, lease, shared.streams.ended(), &shared.tasks);
    Ok(Reply::Backup(Box::new(transfer)))
}

/// What the snapshot's key store can do. Without that, there is no route to ask for it.
fn upkeep<'a>(request: &Permitted<'a>) -> Result<Upkeep<'a>, ApiError> {
    request
        .snapshot
        .keyring()
        .upkeep()
        .ok_or_else(ApiError::not_found)
}
