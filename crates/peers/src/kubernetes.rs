//! The API server of a Kubernetes cluster, with an etcd in the same process.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::http::{self, Answer};
use crate::install::go_source;
use crate::peer::{Peer, on_free_port};
use crate::process::free_port;

/// A running API server, with the namespace `default` and the roles of a new cluster. What it keeps ends with it.
///
/// Secrets, RBAC and the tokens of service accounts are those of a real cluster, but no controllers run: nothing is collected, and
/// no service account is made that a test does not make.
#[derive(Debug)]
pub struct Kubernetes {
    _peer: Peer,
    endpoint: String,
    ca: PathBuf,
    plain: u16,
}

impl Kubernetes {
    /// Starts one.
    ///
    /// # Errors
    ///
    /// If it cannot be built or does not come up.
    pub fn start() -> Result<Self> {
        let program = install()?;
        on_free_port(|port| {
            let folder = tempfile::tempdir()?;
            let plain = free_port()?;
            let mut command = Command::new(&program);
            command.arg(folder.path());
            command.args([port.to_string(), plain.to_string()]);
            let ca = folder.path().join("ca.pem");
            let (peer, ()) = Peer::start("the Kubernetes API server", folder, &mut command, |printed| {
                // Ready is not enough: the first namespace comes a moment later.
                let up =
                    |path| send(plain, "GET", path, ADMIN, None).is_ok_and(|answer| answer.status == 200);
                let forwards = printed.lines().any(|line| line == "forwarding");
                (forwards && up("/readyz") && up("/api/v1/namespaces/default")).then_some(())
            })?;
            Ok(Self {
                _peer: peer,
                endpoint: format!("https://127.0.0.1:{port}"),
                ca,
                plain,
            })
        })
    }

    /// The address that a client is given, such as `https://127.0.0.1:16443`.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The bearer token of somebody who may do everything.
    #[must_use]
    pub fn admin_token(&self) -> &'static str {
        ADMIN
    }

    /// The file with the CA that the server's certificate is from, in PEM.
    #[must_use]
    pub fn ca(&self) -> &Path {
        &self.ca
    }

    /// Asks for `path`, such as `/api/v1/namespaces/default/secrets`, and gives the status and the body.
    ///
    /// # Errors
    ///
    /// If there is no answer, or one that is not JSON.
    pub fn call(&self, method: &str, path: &str, token: &str, body: Option<&Value>) -> Result<(u16, Value)> {
        let answer = send(self.plain, method, path, token, body)?;
        Ok((answer.status, answer.json()?))
    }

    /// Asks as the administrator, and gives the body.
    ///
    /// # Errors
    ///
    /// If the server refuses.
    pub fn admin(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        let body = Some(body).filter(|body| !body.is_null());
        let (status, answer) = self.call(method, path, ADMIN, body)?;
        ensure!(
            (200..300).contains(&status),
            "{method} {path}: status {status}: {answer}"
        );
        Ok(answer)
    }

    /// Makes the service account `name` in the namespace `default`, with this cluster role everywhere: `system:auth-delegator` lets
    /// it ask whose a token is, which Vault does with the token that it is shown.
    ///
    /// # Errors
    ///
    /// If there is one.
    pub fn service_account(&self, name: &str, role: &str) -> Result<()> {
        let account = json!({ "metadata": { "name": name } });
        self.admin("POST", "/api/v1/namespaces/default/serviceaccounts", &account)?;
        let binding = json!({
            "metadata": { "name": name },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role },
            "subjects": [{ "kind": "ServiceAccount", "name": name, "namespace": "default" }],
        });
        self.admin(
            "POST",
            "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
            &binding,
        )?;
        Ok(())
    }

    /// A new token of a service account in the namespace `default`, as a pod finds it in its file. It lives for ten minutes, the
    /// shortest time there is.
    ///
    /// # Errors
    ///
    /// If there is no such account.
    pub fn token(&self, account: &str) -> Result<String> {
        let path = format!("/api/v1/namespaces/default/serviceaccounts/{account}/token");
        let answer = self.admin("POST", &path, &json!({ "spec": { "expirationSeconds": 600 } }))?;
        let token = answer.pointer("/status/token").and_then(Value::as_str);
        Ok(token.context("a TokenRequest without a token")?.to_owned())
    }
}

fn send(port: u16, method: &str, path: &str, token: &str, body: Option<&Value>) -> Result<Answer> {
    let authorization = format!("Bearer {token}");
    let headers = [
        ("Authorization", authorization.as_str()),
        ("Accept", "application/json"),
    ];
    http::send(port, method, path, &headers, body)
}

fn install() -> Result<PathBuf> {
    let sources = [
        ("main.go", include_str!("../kubernetes/main.go")),
        ("go.mod", include_str!("../kubernetes/go.mod")),
        ("go.sum", include_str!("../kubernetes/go.sum")),
    ];
    go_source("kubernetes", "1.36.3", &sources, |_| Ok(()))
}

/// As `main.go` says it in `tokens.csv`.
const ADMIN: &str = "admin";
