//! Requests through proxies.

use kes_keystore_http::{BadHttp, Failure, Http, HttpSettings, Proxies, Url};
use kes_testkit::PATIENCE;

use crate::rig::{Server, answer, get, settings};

fn through(proxy: &str, no_proxy: &str) -> Http {
    Http::new(HttpSettings {
        proxies: Proxies::Through {
            proxy: proxy.into(),
            no_proxy: no_proxy.into(),
        },
        ..settings()
    })
    .unwrap()
}

fn url(url: &str) -> Url {
    url.parse().unwrap()
}

#[tokio::test]
async fn a_proxy_is_asked_instead_of_the_server() {
    let proxy = Server::start(|_| answer("200 OK", "from the proxy")).await;
    let http = through(&format!("http://user:hunter2@{}", proxy.address), "");
    let request = get(url("http://vault.example:8200/v1/x"));
    let answer = http.send(request, PATIENCE).await.unwrap();
    assert_eq!(answer.body.expose_secret(), b"from the proxy");
    let request = proxy.requests().remove(0);
    assert!(
        request.starts_with("GET http://vault.example:8200/v1/x HTTP/1.1\r\n"),
        "{request}"
    );
    assert!(
        request.contains("proxy-authorization: Basic dXNlcjpodW50ZXIy\r\n"),
        "{request}"
    );
}

#[tokio::test]
async fn a_proxy_that_makes_no_tunnel_is_told() {
    let proxy = Server::start(|_| answer("502 Bad Gateway", "")).await;
    let http = through(&format!("http://user:hunter2@{}", proxy.address), "");
    let request = get(url("https://vault.example:8200/v1/x?token=secret"));
    let error = http.send(request, PATIENCE).await.unwrap_err();
    assert_eq!(error.failure(), Failure::Connect, "{error}");
    assert!(!error.may_have_arrived());
    let text = error.to_string();
    assert!(text.starts_with("vault.example:8200: cannot connect: "), "{text}");
    assert!(
        text.ends_with(&format!("(through the proxy {})", proxy.address)),
        "{text}"
    );
    assert!(!text.contains("hunter2") && !text.contains("secret"), "{text}");
    let request = proxy.requests().remove(0);
    assert!(
        request.starts_with("CONNECT vault.example:8200 HTTP/1.1\r\n"),
        "{request}"
    );
}

#[tokio::test]
async fn no_proxy_is_asked_for_what_is_excepted_or_on_this_machine() {
    let proxy = Server::start(|_| answer("200 OK", "from the proxy")).await;
    let server = Server::start(|_| answer("200 OK", "from the server")).await;
    let http = through(&format!("http://{}", proxy.address), "vault.example");
    let here = format!("http://localhost:{}/", server.address.port());
    for target in [server.url("/"), url(&here)] {
        let answer = http.send(get(target), PATIENCE).await.unwrap();
        assert_eq!(answer.body.expose_secret(), b"from the server");
    }
    // Too long for a name, so that nobody is asked.
    let excepted = format!("http://{}.vault.example/", "a".repeat(64));
    let error = http.send(get(url(&excepted)), PATIENCE).await.unwrap_err();
    assert_eq!(error.failure(), Failure::Dns, "{error}");
    assert_eq!(proxy.requests().len(), 0);
}

#[test]
fn a_proxy_that_is_no_url_is_refused_unquoted() {
    let settings = HttpSettings {
        proxies: Proxies::Through {
            proxy: "http://user:hunter2@[".into(),
            no_proxy: String::new(),
        },
        ..settings()
    };
    assert!(!format!("{settings:?}").contains("hunter2"));
    let error = Http::new(settings).unwrap_err();
    assert!(matches!(error, BadHttp::Proxy("https")), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}
