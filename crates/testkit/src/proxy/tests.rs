//! Each fault is what it says, seen by a client that asks and by the service that is asked.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::{soon, until};

/// A service that answers everything, and a proxy in front of it.
fn service() -> (FaultProxy, FaultProxy) {
    let service = FaultProxy::start("http://127.0.0.1:1");
    service.always(Fault::Says(
        Answer::of(201, "text/plain", "a body").with_header("x-own", "yes"),
    ));
    let proxy = FaultProxy::start(&service.endpoint());
    (service, proxy)
}

fn request(method: Method, target: &str, body: &'static str) -> ProxiedRequest {
    let mut headers = HeaderMap::new();
    headers.insert("x-asked", "this".parse().unwrap());
    ProxiedRequest {
        method,
        target: target.to_owned(),
        headers,
        body: Bytes::from_static(body.as_bytes()),
        at: Instant::now(),
    }
}

async fn ask(proxy: &FaultProxy) -> io::Result<Answer> {
    let request = request(Method::PUT, "/path?query=1", "asked");
    soon("an answer", forward(proxy.shared.address, &request)).await
}

/// The bytes that come for a request, and whether the connection was reset.
async fn raw(proxy: &FaultProxy) -> (String, bool) {
    let mut stream = TcpStream::connect(proxy.shared.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut bytes = Vec::new();
    let ended = soon("the end", stream.read_to_end(&mut bytes)).await;
    (String::from_utf8_lossy(&bytes).into_owned(), ended.is_err())
}

#[tokio::test]
async fn without_a_rule_everything_passes_as_it_is() {
    let (service, proxy) = service();
    let answer = ask(&proxy).await.unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (201, "a body"));
    assert_eq!(answer.headers["x-own"], "yes");
    for seen in [service.requests(), proxy.requests()] {
        assert_eq!(seen.len(), 1);
        assert_eq!((&seen[0].method, seen[0].path()), (&Method::PUT, "/path"));
        assert_eq!(seen[0].target, "/path?query=1");
        assert_eq!(seen[0].header("x-asked"), Some("this"));
    }
}

#[tokio::test]
async fn a_rule_sees_the_request_and_its_body() {
    let (service, proxy) = service();
    proxy.set(|request| {
        assert_eq!(request.body, "asked");
        Fault::Says(Answer::of(418, "text/plain", request.target.clone()))
    });
    let answer = ask(&proxy).await.unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (418, "/path?query=1"));
    assert_eq!((service.count(), proxy.count()), (0, 1));
    proxy.heal();
    assert_eq!(ask(&proxy).await.unwrap().status, 201);
}

#[tokio::test]
async fn what_is_scripted_comes_before_the_rule_and_once() {
    let (_service, proxy) = service();
    proxy.always(Fault::Says(Answer::of(500, "text/plain", "")));
    proxy.once(
        |request| request.path() == "/other",
        Fault::Says(Answer::of(400, "text/plain", "")),
    );
    proxy.once(|_| true, Fault::Pass);
    assert_eq!(ask(&proxy).await.unwrap().status, 201);
    assert_eq!(ask(&proxy).await.unwrap().status, 500);
    assert_eq!(proxy.count_of(|request| request.method == Method::PUT), 2);
}

#[tokio::test]
async fn connections_end_as_they_are_told_to_and_the_service_is_asked_or_not() {
    let (service, proxy) = service();
    let whole =
        "HTTP/1.1 201 As-It-Is\r\ncontent-type: text/plain\r\nx-own: yes\r\ncontent-length: 6\r\n\r\na body";
    for (fault, comes, reset, asked) in [
        (Fault::Reset, "", true, 0),
        (Fault::Lose, "", true, 1),
        (Fault::Cut, &whole[..12], false, 1),
        (Fault::Half, &whole[..whole.len() - 3], false, 1),
    ] {
        service.forget();
        proxy.always(fault.clone());
        assert_eq!(raw(&proxy).await, (comes.to_owned(), reset), "{fault:?}");
        assert_eq!(service.count(), asked, "{fault:?}");
        ask(&proxy).await.unwrap_err();
    }
    proxy.always(Fault::Garbage);
    assert!(!raw(&proxy).await.0.starts_with("HTTP"));
    ask(&proxy).await.unwrap_err();

    service.forget();
    proxy.always(Fault::SaysAfter(Answer::of(503, "text/plain", "no")));
    assert_eq!(ask(&proxy).await.unwrap().status, 503);
    assert_eq!(service.count(), 1);

    // What has no body is cut in its head.
    service.always(Fault::Says(Answer::of(204, "text/plain", "")));
    proxy.always(Fault::Half);
    assert!(!raw(&proxy).await.0.contains("\r\n\r\n"));
}

#[tokio::test]
async fn what_hangs_is_under_way_until_its_client_gives_up() {
    let (service, proxy) = service();
    let proxy = Arc::new(proxy);
    for (fault, asked) in [(Fault::Hang, 0), (Fault::Swallow, 1)] {
        proxy.always(fault.clone());
        let asking = tokio::spawn({
            let proxy = Arc::clone(&proxy);
            async move { ask(&proxy).await }
        });
        until("the request has come", async || {
            proxy.under_way() == 1 && service.count() == asked
        })
        .await;
        asking.abort();
        until("it is given up", async || {
            (proxy.under_way(), proxy.connections()) == (0, 0)
        })
        .await;
    }
    assert_eq!(proxy.most_at_once(), 1);
}

#[tokio::test]
async fn what_is_held_goes_on_when_the_gate_opens() {
    let (service, proxy) = service();
    let (gate, proxy) = (Gate::new(), Arc::new(proxy));
    proxy.once(|_| true, Fault::Hold(gate.clone(), Box::new(Fault::Lose)));
    let asking = tokio::spawn({
        let proxy = Arc::clone(&proxy);
        async move { ask(&proxy).await }
    });
    soon("the request", gate.reached()).await;
    assert_eq!(service.count(), 0);
    gate.open();
    asking.await.unwrap().unwrap_err();
    assert_eq!(service.count(), 1);
}

#[tokio::test]
async fn a_delay_passes_before_the_request_does() {
    let (_service, proxy) = service();
    let time = Duration::from_millis(50);
    proxy.always(Fault::Delay(time));
    let began = Instant::now();
    assert_eq!(ask(&proxy).await.unwrap().status, 201);
    assert!(began.elapsed() >= time);
}

#[tokio::test]
async fn refused_connections_are_refused_and_then_accepted_on_the_same_port() {
    let (_service, proxy) = service();
    let mut kept = TcpStream::connect(proxy.shared.address).await.unwrap();
    until("the connection is known", async || proxy.connections() == 1).await;
    for _ in 0..3 {
        proxy.refuse().await;
        assert_eq!(proxy.connections(), 0);
        let refused = ask(&proxy).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        proxy.accept();
        assert_eq!(ask(&proxy).await.unwrap().status, 201);
    }
    // It was cut.
    assert!(!matches!(soon("the end", kept.read(&mut [0])).await, Ok(1)));
}

#[tokio::test]
async fn connections_are_kept_and_bodies_in_chunks_are_whole() {
    let (service, proxy) = service();
    service.set(|request| Fault::Says(Answer::of(200, "text/plain", request.body.clone())));
    let mut stream = TcpStream::connect(proxy.shared.address).await.unwrap();
    for _ in 0..2 {
        let request = b"PUT / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\nabcde") {
            let read = soon("an answer", stream.read_buf(&mut answer)).await.unwrap();
            assert_ne!(read, 0, "{}", String::from_utf8_lossy(&answer));
        }
    }
    assert_eq!((proxy.connections(), proxy.count()), (1, 2));
}

#[tokio::test]
async fn bursts_are_measured() {
    let (_service, proxy) = service();
    for _ in 0..5 {
        ask(&proxy).await.unwrap();
    }
    assert_eq!(proxy.busiest(Duration::from_secs(3600)), 5);
    assert_eq!(proxy.busiest(Duration::ZERO), 1);
    proxy.forget();
    assert_eq!(proxy.busiest(Duration::from_secs(3600)), 0);
}

#[tokio::test]
async fn a_service_that_is_not_there_is_a_bad_gateway() {
    let proxy = FaultProxy::start("http://127.0.0.1:1/");
    assert_eq!(ask(&proxy).await.unwrap().status, 502);
}

#[tokio::test]
async fn what_is_remembered_has_no_long_body_and_says_no_more_than_what_was_asked() {
    let (_service, proxy) = service();
    ask(&proxy).await.unwrap();
    let long = request(Method::PUT, "/long", include_str!("tests.rs"));
    forward(proxy.shared.address, &long).await.unwrap();
    let remembered = proxy.requests();
    assert_eq!(
        (&remembered[0].body[..], &remembered[1].body[..]),
        (&b"asked"[..], &b""[..])
    );
    assert_eq!(format!("{:?}", remembered[0]), "PUT /path?query=1");
}
