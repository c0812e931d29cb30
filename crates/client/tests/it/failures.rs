//! Servers that are not there, are slow, or fail.

use std::sync::Arc;
use std::time::Duration;

use kes_client::{Client, Endpoint, Error, ServerTrust};
use kes_testkit::{Failure, FaultyStore, TestServer};
use tokio::net::TcpListener;

use crate::canned::{Canned, json};
use crate::rig::{admin, client, nowhere, persistent};

#[tokio::test]
async fn another_server_answers_for_one_that_is_not_there() {
    let server = TestServer::default().start().await;
    let kes = client(&[nowhere(), server.address()], Some(kes_testkit::admin()));
    kes.create_key("my-key").await.unwrap();
    assert_eq!(admin(server.address()).list_keys("").await.unwrap(), ["my-key"]);
}

#[tokio::test]
async fn another_server_answers_for_one_that_fails() {
    let broken = Arc::new(FaultyStore::new());
    broken.fail(Failure::Unreachable);
    let broken = TestServer::over(broken).start().await;
    let server = TestServer::default().start().await;
    let kes = client(&[broken.address(), server.address()], Some(kes_testkit::admin()));
    kes.create_key("my-key").await.unwrap();
}

#[tokio::test]
async fn a_refusal_is_not_asked_for_twice() {
    let first = Canned::start(|_| json(404, r#"{"message":"key does not exist"}"#)).await;
    let second = Canned::start(|_| json(200, "{}")).await;
    let error = client(&[first.address, second.address], None)
        .delete_key("a")
        .await
        .unwrap_err();
    assert_eq!(error.status(), Some(404));
    assert!(second.requests().is_empty());
}

#[tokio::test]
async fn the_last_failure_is_the_one_reported() {
    let failing = Canned::start(|_| json(502, r#"{"message":"failed to read key"}"#)).await;
    let error = persistent(&[failing.address, nowhere()], 0)
        .describe_key("a")
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Transport { .. }), "{error:?}");
    let error = persistent(&[nowhere(), failing.address], 0)
        .describe_key("a")
        .await
        .unwrap_err();
    assert_eq!(
        (error.status(), error.to_string().as_str()),
        (Some(502), "failed to read key")
    );
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_is_given_up_on() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Endpoint::parse(&silent.local_addr().unwrap().to_string()).unwrap();
    let kes = Client::builder(vec![endpoint])
        .trust(ServerTrust::dangerous_anything())
        .timeout(Duration::from_secs(3))
        .build()
        .unwrap();
    let error = kes.version().await.unwrap_err();
    assert!(
        matches!(error, Error::TimedOut { after, .. } if after == Duration::from_secs(3)),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_server_that_wants_a_certificate_refuses_a_client_without() {
    let server = TestServer::default().start().await;
    let error = client(&[server.address()], None).version().await.unwrap_err();
    // The alert may be lost when the server closes while the client still writes.
    assert!(
        matches!(error, Error::Refused { .. } | Error::Transport { .. }),
        "{error:?}"
    );
}

#[test]
fn a_client_has_at_least_one_server() {
    assert!(
        Client::builder(Vec::new())
            .trust(ServerTrust::none())
            .build()
            .is_err()
    );
}
