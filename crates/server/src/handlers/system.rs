//! The server itself: version, readiness, state, measurements, routes.

use kes_types::wire::{StatusResponse, VersionResponse};

use super::{Permitted, Reply};
use crate::error::ApiError;
use crate::log::chain;
use crate::metrics::Readings;
use crate::state::{Shared, Snapshot};
use crate::system::{self, Usage};

pub(crate) fn version(snapshot: &Snapshot) -> Result<Reply, ApiError> {
    let build = &snapshot.build;
    Reply::json(&VersionResponse {
        version: build.version.clone(),
        commit: build.commit.clone(),
    })
}

pub(crate) async fn ready(snapshot: &Snapshot) -> Result<Reply, ApiError> {
    snapshot.keyring().ready().await.map_err(ApiError::not_ready)?;
    Ok(Reply::Empty)
}

pub(super) async fn status(request: &mut Permitted<'_>) -> Result<Reply, ApiError> {
    let usage = Usage::now();
    let mut status = StatusResponse {
        version: request.snapshot.build.version.clone(),
        os: system::os().to_owned(),
        arch: system::arch().to_owned(),
        uptime: request
            .shared
            .clock
            .monotonic()
            .since(request.shared.started)
            .as_secs(),
        num_cpu: usage.cpus,
        num_cpu_used: usage.usable_cpus,
        mem_heap_used: usage.heap,
        mem_stack_used: usage.stack,
        ..StatusResponse::default()
    };
    match request.snapshot.keyring().latency().await {
        Ok(latency) => {
            status.keystore_latency = Some(u64::try_from(latency.as_millis()).unwrap_or(u64::MAX).max(1))
        }
        Err(error) => {
            tracing::warn!(cause = chain(&error), "the key store does not answer");
            status.keystore_unreachable = true;
        }
    }
    Reply::json(&status)
}

pub(crate) fn metrics(shared: &Shared, snapshot: &Snapshot) -> Reply {
    let cache = snapshot.keyring().stats();
    let store = snapshot.keyring().upkeep().map(|store| store.gauges());
    Reply::Metrics(shared.metrics.encode(&Readings {
        usage: Usage::now(),
        uptime: shared.clock.monotonic().since(shared.started),
        error_events: shared.error_log.count(),
        error_events_dropped: shared.error_log.dropped(),
        cache_hits: cache.hits,
        cache_misses: cache.misses,
        cache_entries: cache.entries as u64,
        cache_evicted: cache.evicted,
        online: cache.online,
        store: store.as_ref(),
        now: shared.clock.now(),
        certificate_expires: snapshot.tls.leaf.expires().unix_timestamp(),
        version: &snapshot.build.version,
        commit: &snapshot.build.commit,
    }))
}

pub(super) fn api(request: &Permitted<'_>) -> Result<Reply, ApiError> {
    Reply::json(&request.snapshot.routes.describe())
}
