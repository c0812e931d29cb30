//! What several of these tests need.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kes_server::RouteSettings;
use kes_testkit::TestServer;
use kes_types::Verb;

pub(crate) fn b64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Gives every route that has a time-out this one.
pub(crate) fn with_timeout(mut server: TestServer, timeout: Duration) -> TestServer {
    for verb in Verb::ALL {
        if !matches!(verb, Verb::ErrorLog | Verb::AuditLog) {
            let settings = RouteSettings {
                skip_auth: false,
                timeout: Some(timeout),
            };
            server.settings.routes.insert(verb, settings);
        }
    }
    server
}

/// Lets time pass without waiting for it: what is due by then happens next.
pub(crate) async fn skip(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}
