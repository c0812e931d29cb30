//! The audit log: one JSON line a request, whatever became of it.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use kes_keyring::service::{Auditor, Unrecorded};
use kes_types::wire::AuditResponse;
use kes_types::{EnclaveName, Monotonic, Principal, Timestamp, Verb};
use serde::Serialize;

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
    pub(crate) ip: IpAddr,
    pub(crate) principal: Option<&'a Principal>,
    pub(crate) enclave: Option<&'a EnclaveName>,
    pub(crate) started: Monotonic,
    pub(crate) recorded: AtomicBool,
}

/// What the log says of a request whose client went away before it was answered.
const CLIENT_CLOSED: u16 = 499;

/// [`kes_types::wire::AuditEvent`] as it is written: without copies.
#[derive(Serialize)]
struct Event<'a> {
    #[serde(with = "time::serde::rfc3339")]
    time: Timestamp,
    request: Request<'a>,
    response: AuditResponse,
}

#[derive(Serialize)]
struct Request<'a> {
    ip: IpAddr,
    method: &'a str,
    path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    enclave: Option<&'a str>,
}

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
        let event = Event {
            time: self.shared.clock.now() - took,
            request: Request {
                ip: self.ip,
                method: self.method,
                path: self.path,
                identity: self.principal.map(|principal| principal.identity.as_str()),
                enclave: self.enclave.map(EnclaveName::as_str),
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

#[cfg(test)]
mod tests {
    use kes_types::wire::{AuditEvent, AuditRequest};
    use kes_types::{Clock as _, ManualClock};

    use super::*;

    #[test]
    fn an_event_is_what_clients_read() {
        let response = AuditResponse { code: 200, time: 7 };
        let time = ManualClock::default().now();
        let request = Request {
            ip: IpAddr::from([127, 0, 0, 1]),
            method: "GET",
            path: "/v1/\"quoted\"",
            identity: Some("somebody"),
            enclave: None,
        };
        let line = serde_json::to_string(&Event {
            time,
            request,
            response,
        })
        .unwrap();
        assert!(!line.contains("enclave"), "{line}");
        let expected = AuditRequest {
            ip: "127.0.0.1".to_owned(),
            method: "GET".to_owned(),
            path: "/v1/\"quoted\"".to_owned(),
            identity: "somebody".to_owned(),
            enclave: String::new(),
        };
        let read: AuditEvent = serde_json::from_str(&line).unwrap();
        assert_eq!(
            read,
            AuditEvent {
                time,
                request: expected,
                response
            }
        );
    }
}
