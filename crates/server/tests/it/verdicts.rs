//! What `kes_server::Authorization` says in advance is what the server then answers.

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use kes_server::{Asking, Authorization, AuthorizationSettings, PolicySettings, RouteSettings, Verdict};
use kes_testkit::{
    Credentials, FakeOwnStore, Protocol, Running, TestClient, TestConnection, TestServer, admin, app,
};
use kes_types::{Identity, Policy, PolicyName, Rule, Verb};

/// Rules as policies have them: those that allow, and those that deny.
const POLICIES: [(&[&str], &[&str]); 9] = [
    (&[], &[]),
    (&["*"], &[]),
    (&["/v1/key/*", "/v1/status"], &["/v1/key/*/internal*"]),
    (
        &["/v1/key/*"],
        &["/v1/key/decrypt/internal", "/v1/key/list/internal*"],
    ),
    (&["/v1/key/list", "/v1/key/bulk/decrypt/a"], &[]),
    (
        &["/v1/key/list/app-*", "/v1/key/decrypt/*"],
        &["/v1/key/[d-e]*/a"],
    ),
    (&["/v1/key/create/a?", "/v1/policy/*", "/v1/identity/list/"], &[]),
    (&["/v1/*"], &["*"]),
    (
        &["/v1/store/info", "/v1/key/undelete/*", "/v1/metrics", "/v1/api"],
        &["/version", "/v1/identity/self/describe"],
    ),
];

const PATHS: [&str; 62] = [
    "/",
    "/version",
    "/version/",
    "/v1/ready",
    "/v1/status",
    "/v1/status/",
    "/v1/%73tatus",
    "/v1/metrics",
    "/v1/api",
    "/v1/nothing",
    "/v1/key",
    "/v1/key/create",
    "/v1/key/create/",
    "/v1/key/create/a",
    "/v1/key/create/ab",
    "/v1/key/create/%61b",
    "/v1/key/create/a%2Fb",
    "/v1/key/create/a/b",
    "/v1/key/create/../delete/a",
    "/v1/key/create/internal-1",
    "/v1/key/create/%69nternal-1",
    "/v1/key/create/bad.name",
    "/v1/key/import/a",
    "/v1/key/describe/a",
    "/v1/key/describe/internal",
    "/v1/key/delete/a",
    "/v1/key/list",
    "/v1/key/list/",
    "/v1/key/list/*",
    "/v1/key/list/**",
    "/v1/key/list/app-",
    "/v1/key/list/app-*",
    "/v1/key/list/app-x",
    "/v1/key/list/~4.app-x",
    "/v1/key/list/~0.app-x",
    "/v1/key/list/internal",
    "/v1/key/generate/a",
    "/v1/key/encrypt/a",
    "/v1/key/decrypt/a",
    "/v1/key/decrypt/internal",
    "/v1/key/decrypt/internal-1",
    "/v1/key/bulk/decrypt",
    "/v1/key/bulk/decrypt/",
    "/v1/key/bulk/decrypt/a",
    "/v1/key/bulk/decrypt/internal",
    "/v1/key/hmac/a",
    "/v1/policy/describe/app",
    "/v1/policy/read/app",
    "/v1/policy/read/other",
    "/v1/policy/list",
    "/v1/policy/list/*",
    "/v1/identity/describe/nobody",
    "/v1/identity/self/describe",
    "/v1/identity/list",
    "/v1/identity/list/a",
    "/v1/log/error",
    "/v1/log/audit",
    "/v1/key/undelete/a",
    "/v1/store/info",
    "/v1/store/backup",
    "/v1/store",
    "//v1/status",
];

const METHODS: [&str; 6] = ["GET", "PUT", "POST", "DELETE", "HEAD", "PATCH"];

fn policy(allow: &[&str], deny: &[&str]) -> PolicySettings {
    let rules = |rules: &[&str]| rules.iter().map(|rule| Rule::parse(rule).unwrap()).collect();
    PolicySettings {
        name: PolicyName::parse("app").unwrap(),
        policy: Policy {
            allow: rules(allow),
            deny: rules(deny),
        },
        identities: vec![app().identity()],
    }
}

/// A server, and what says in advance what it answers.
async fn both(mut server: TestServer, policies: Vec<PolicySettings>) -> (Running, Authorization) {
    server.settings.policies = policies;
    let proxies = server
        .settings
        .proxy
        .as_ref()
        .map(|proxy| proxy.identities.clone());
    let authorization = Authorization::new(AuthorizationSettings {
        admin: server.settings.admin.clone(),
        policies: server.settings.policies.clone(),
        routes: server.settings.routes.clone(),
        proxies: proxies.into_iter().flatten().collect(),
        has_maintenance: server.maintenance.is_some(),
    });
    (server.start().await, authorization.unwrap())
}

/// What a server says of a path that it does not have; names that do not exist are spoken of otherwise.
const NO_ROUTE: &str = r#"{"message":"not found"}"#;

/// Asks for every path with every method, and compares.
async fn compare(client: TestClient, who: Asking<'_>, authorization: &Authorization) -> usize {
    let client = client.over(Protocol::Http2);
    let mut connection = client.connect().await.unwrap();
    let mut compared = 0;
    for path in PATHS {
        for method in METHODS {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let verdict = authorization.judge(who, &method, path).unwrap();
            let (status, body) = ask(&mut connection, &method, path).await;
            // A HEAD has no body to tell by.
            let has_no_route = status == 404 && (body == NO_ROUTE || method == Method::HEAD);
            let said = match status {
                403 | 405 => Some(status),
                400 if body.contains("tls") => Some(status),
                404 if has_no_route => Some(status),
                _ => None,
            };
            assert_eq!(
                said,
                verdict.status(),
                "{who:?} {method} {path}: {status} {body} {verdict:?}"
            );
            compared += 1;
        }
    }
    compared
}

/// The status of an answer, and its body where it is an error.
async fn ask(connection: &mut TestConnection, method: &Method, path: &str) -> (u16, String) {
    let mut request = Request::new(Full::new(Bytes::new()));
    *request.method_mut() = method.clone();
    *request.uri_mut() = path.parse().unwrap();
    let (parts, body) = connection.stream(request).await.unwrap().into_parts();
    let status = parts.status.as_u16();
    // Logs that are followed have no end.
    if parts.status.is_success() {
        return (status, String::new());
    }
    let body = body.collect().await.unwrap().to_bytes();
    assert_eq!(body.is_empty(), method == Method::HEAD, "{method} {path}");
    (status, String::from_utf8_lossy(&body).trim().to_owned())
}

#[tokio::test]
async fn a_verdict_on_a_policy_is_the_answer_of_the_server() {
    let mut compared = 0;
    for (allow, deny) in POLICIES {
        let policies = vec![policy(allow, deny)];
        let (running, authorization) = both(TestServer::default(), policies).await;
        let (name, user) = (PolicyName::parse("app").unwrap(), app().identity());
        for who in [Asking::Policy(&name), Asking::Identity(&user)] {
            compared += compare(running.app(), who, &authorization).await;
        }
    }
    assert_eq!(compared, POLICIES.len() * 2 * PATHS.len() * METHODS.len());
}

#[tokio::test]
async fn a_verdict_on_the_admin_and_on_strangers_is_the_answer_of_the_server() {
    for store in [None, Some(FakeOwnStore::new())] {
        let server = store
            .as_ref()
            .map_or_else(TestServer::default, TestServer::keeping);
        let (running, authorization) = both(server, vec![policy(&["*"], &[])]).await;
        let stranger = Credentials::self_signed("stranger");
        let clients = [
            (running.admin(), admin().identity()),
            (running.app(), app().identity()),
            (running.client(&stranger), stranger.identity()),
        ];
        for (client, identity) in clients {
            compare(client, Asking::Identity(&identity), &authorization).await;
        }
    }
}

#[tokio::test]
async fn a_verdict_on_who_has_no_certificate_is_the_answer_of_the_server() {
    let mut server = TestServer::default();
    for verb in [Verb::Ready, Verb::Status] {
        let settings = RouteSettings {
            skip_auth: true,
            timeout: None,
        };
        server.settings.routes.insert(verb, settings);
    }
    let (running, authorization) = both(server, vec![policy(&["*"], &[])]).await;
    compare(running.anonymous(), Asking::Nobody, &authorization).await;

    let (running, authorization) = both(TestServer::default(), Vec::new()).await;
    let verdict = authorization.judge(Asking::Nobody, &Method::GET, "/version");
    assert_eq!(verdict, Ok(Verdict::NoConnection));
    assert!(running.anonymous().try_send("GET", "/version", "").await.is_err());
}

#[tokio::test]
async fn a_verdict_on_a_proxy_that_forwards_nobody_is_the_answer_of_the_server() {
    let proxy = Credentials::self_signed("proxy");
    let mut server = TestServer::default();
    server.settings.proxy = Some(kes_server::ProxySettings {
        identities: [proxy.identity()].into_iter().collect(),
        header: http::HeaderName::from_static("x-tls-client-cert"),
    });
    let (running, authorization) = both(server, vec![policy(&["*"], &[])]).await;
    let identity: Identity = proxy.identity();
    compare(
        running.client(&proxy),
        Asking::Identity(&identity),
        &authorization,
    )
    .await;
}
