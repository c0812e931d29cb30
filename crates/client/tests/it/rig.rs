//! Clients of servers in the test's own process.

use std::net::SocketAddr;
use std::time::Duration;

use kes_client::{Client, Credentials, Endpoint, ServerTrust};

/// The credentials as the client library takes them.
pub(crate) fn credentials(of: &kes_testkit::Credentials) -> Credentials {
    Credentials::from_der(of.chain(), &of.key()).unwrap()
}

/// A client of these servers with these credentials that believes any server.
pub(crate) fn client(servers: &[SocketAddr], credentials: Option<&kes_testkit::Credentials>) -> Client {
    client_that_trusts(servers, credentials, ServerTrust::dangerous_anything())
}

pub(crate) fn client_that_trusts(
    servers: &[SocketAddr],
    credentials: Option<&kes_testkit::Credentials>,
    trust: ServerTrust,
) -> Client {
    let endpoints = servers
        .iter()
        .map(|server| Endpoint::parse(&server.to_string()).unwrap())
        .collect();
    let builder = Client::builder(endpoints).trust(trust);
    match credentials {
        Some(credentials) => builder.credentials(self::credentials(credentials)),
        None => builder,
    }
    .build()
    .unwrap()
}

/// A client without credentials of these servers that asks them again so often, almost at once.
pub(crate) fn persistent(servers: &[SocketAddr], retries: u32) -> Client {
    let endpoints = servers
        .iter()
        .map(|server| Endpoint::parse(&server.to_string()).unwrap());
    Client::builder(endpoints.collect())
        .trust(ServerTrust::dangerous_anything())
        .retries(retries)
        .retry_wait(Duration::from_millis(1))
        .build()
        .unwrap()
}

/// The admin of the test server at `server`.
pub(crate) fn admin(server: SocketAddr) -> Client {
    client(&[server], Some(kes_testkit::admin()))
}

/// An address where nothing listens.
pub(crate) fn nowhere() -> SocketAddr {
    // A port that was free a moment ago may be another test's by now; this one is never given out.
    SocketAddr::from(([127, 0, 0, 1], 1))
}
