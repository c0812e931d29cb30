//! The audit log: one JSON line a request, whatever became of it.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use kes_keyring::service::{Auditor, Unrecorded};
use kes_types::wire::{AuditEvent, AuditRequest, AuditResponse};
use kes_types::{EnclaveName, Monotonic, Principal, Verb};

use crate::error::ApiError;
use crate::log::Level;
use crate::state::{Shared, Snapshot};

/// What the audit log says of one request, and where it goes.
pub(crate) struct RequestAudit<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) verb: Option<Verb>,
    pub(crate) ip: Option<IpAddr>,
    pub(crate) principal: Option<&'a Principal>,
    pub(crate) enclave: Option<&'a EnclaveName>,
    pub(crate) started: Monotonic,
    pub(crate) recorded: AtomicBool,
}

/// What the log says of a request whose client went away before it was answered.
const CLIENT_CLOSED: u16 = 499;

impl RequestAudit<'_> {
    fn to_console(&self) -> bool {
        self.snapshot.log.audit <= Level::INFO
    }

    /// The event as a line, if anybody wants it.
    fn line(&self, code: u16) -> Option<Vec<u8>> {
        // A scraper that asks every few seconds would bury everything else.
        if self.verb == Some(Verb::Metrics) && code == 200 {
            return None;
        }
        self.shared.metrics.audit_event();
        if !self.to_console() && !self.shared.audit.is_followed() {
            return None;
        }
        let took = self.shared.clock.monotonic().since(self.started);
        let event = AuditEvent {
            time: self.shared.clock.now() - took,
            request: AuditRequest {
                ip: self.ip.map(|ip| ip.to_string()).unwrap_or_default(),
                method: self.method.to_owned(),
                path: self.path.to_owned(),
                identity: self
                    .principal
                    .map(|principal| principal.identity.to_string())
                    .unwrap_or_default(),
                enclave: self.enclave.map(ToString::to_string).unwrap_or_default(),
            },
            response: AuditResponse {
                code,
                time: u64::try_from(took.as_nanos()).unwrap_or(u64::MAX),
            },
        };
        let mut line = Vec::with_capacity(384);
        // Writing to memory what holds no maps cannot fail.
        serde_json::to_writer(&mut line, &event).ok()?;
        line.push(b'\n');
        Some(line)
    }
}

impl Auditor for RequestAudit<'_> {
    type Failure = ApiError;

    async fn record(&self, outcome: Result<(), &ApiError>) -> Result<(), Unrecorded> {
        if let Some(line) = self.line(outcome.map_or_else(|error| error.status.as_u16(), |()| 200)) {
            self.shared.audit.publish(line, self.to_console()).await;
        }
        self.recorded.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn lost(&self) {
        self.recorded.store(true, Ordering::Relaxed);
        self.shared.metrics.audit_event_lost();
    }
}

/// Records a request that is given up half-way because its client went away.
impl Drop for RequestAudit<'_> {
    fn drop(&mut self) {
        if *self.recorded.get_mut() {
            return;
        }
        let Some(line) = self.line(CLIENT_CLOSED) else {
            return;
        };
        if self.to_console() && !self.shared.audit.offer_to_console(&line) {
            self.shared.metrics.audit_event_lost();
        }
        if self.shared.audit.is_followed() {
            self.shared.audit.fan_out(&line.into());
        }
    }
}
