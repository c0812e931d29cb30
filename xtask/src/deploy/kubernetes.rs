//! The manifests for Kubernetes, before a real API server.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use kes_peers::Kubernetes;
use serde_json::{Value, json};

use super::{Work, printed};
use crate::cargo;

const FILES: [&str; 4] = [
    "config.yaml",
    "secret-example.yaml",
    "deployment.yaml",
    "service.yaml",
];

fn kubectl(kubernetes: &Kubernetes, arguments: &[&str]) -> Result<String> {
    printed(
        Command::new(kes_peers::kubectl()?)
            .args([
                "--server",
                kubernetes.endpoint(),
                "--token",
                kubernetes.admin_token(),
            ])
            .arg("--certificate-authority")
            .arg(kubernetes.ca())
            .args(arguments)
            .env("KUBECONFIG", "/dev/null")
            .current_dir(cargo::root().join("deploy/kubernetes")),
    )
}

pub(super) fn manifests(_: &mut Work) -> Result<()> {
    let kubernetes = Kubernetes::start()?;
    // What is in a namespace can only be tried in one that exists.
    kubectl(
        &kubernetes,
        &["apply", "--validate=strict", "-f", "namespace.yaml"],
    )?;
    for file in FILES {
        kubectl(
            &kubernetes,
            &["apply", "--dry-run=server", "--validate=strict", "-f", file],
        )?;
    }
    let deployment = document(&kubernetes, "deployment.yaml", "Deployment")?;
    let template = &deployment["spec"]["template"];
    let pod = |change: &dyn Fn(&mut Value)| {
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "kes", "labels": template["metadata"]["labels"] },
            "spec": template["spec"],
        });
        change(&mut pod);
        let path = "/api/v1/namespaces/kes/pods?dryRun=All";
        kubernetes.call("POST", path, kubernetes.admin_token(), Some(&pod))
    };
    let (status, answer) = pod(&|_| {})?;
    ensure!(status == 201, "the pod is refused: {answer}");
    // So that this proves something: a pod that is a little less closed is refused.
    let (status, answer) = pod(&|pod| pod["spec"]["containers"][0]["securityContext"] = json!({}))?;
    ensure!(
        status == 403 && answer.to_string().contains("restricted"),
        "status {status}: {answer}"
    );
    // What one file names, another has.
    let labels = &template["metadata"]["labels"];
    let service = document(&kubernetes, "service.yaml", "Service")?;
    ensure!(
        service["spec"]["selector"] == *labels,
        "the service selects others than {labels}"
    );
    for kind in ["PodDisruptionBudget", "Deployment"] {
        let document = document(&kubernetes, "deployment.yaml", kind)?;
        let selected = &document["spec"]["selector"]["matchLabels"];
        ensure!(selected == labels, "{kind} selects {selected}, not {labels}");
    }
    Ok(())
}

/// The configuration in the manifests, checked by the server as it would be in the pod.
pub(super) fn configuration(work: &mut Work) -> Result<()> {
    let kubernetes = Kubernetes::start()?;
    let text = document(&kubernetes, "config.yaml", "ConfigMap")?;
    let text = text["data"]["config.yml"].as_str().context("no config.yml")?;
    let deployment = document(&kubernetes, "deployment.yaml", "Deployment")?;
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    let mounts = container["volumeMounts"].as_array().context("no mounts")?;
    let folder = work.empty("kubernetes")?;
    let kes = &work.kes()?;
    // Each path that the configuration names is under a mount.
    let mut config = text.to_owned();
    for path in [
        "/etc/kes/tls/tls.key",
        "/etc/kes/tls/tls.crt",
        "/etc/kes/vault/ca.crt",
        "/var/run/secrets/kes/token",
    ] {
        ensure!(text.contains(path), "the configuration does not name {path}");
        let mounted = mounts.iter().any(|mount| {
            mount["mountPath"]
                .as_str()
                .is_some_and(|mount| Path::new(path).starts_with(mount))
        });
        ensure!(mounted, "{path} is under no mount");
        let here = folder.join(path.trim_start_matches('/'));
        fs::create_dir_all(here.parent().context("a path has a folder")?)?;
        config = config.replace(path, &here.to_string_lossy());
    }
    let at = |path: &str| folder.join(path);
    printed(
        Command::new(kes)
            .args(["identity", "new", "--dns", "kes.kes.svc", "--key"])
            .arg(at("etc/kes/tls/tls.key"))
            .arg("--cert")
            .arg(at("etc/kes/tls/tls.crt"))
            .arg("kes.kes.svc"),
    )?;
    fs::copy(at("etc/kes/tls/tls.crt"), at("etc/kes/vault/ca.crt"))?;
    fs::write(at("var/run/secrets/kes/token"), "e30.e30.c2ln")?;
    fs::write(at("config.yml"), config)?;
    let secrets = document(&kubernetes, "secret-example.yaml", "Secret")?;
    let mut check = Command::new(kes);
    check
        .args(["server", "--check", "--strict", "--config"])
        .arg(at("config.yml"))
        .env("KES_HEALTH_ADDRESS", "10.1.2.3:7374");
    for (name, value) in secrets["stringData"].as_object().context("no identities")? {
        check.env(name, value.as_str().unwrap_or_default());
    }
    printed(&mut check)?;
    // The ports are those of the manifests.
    for (name, port) in [("https", 7373), ("health", 7374)] {
        let ports = container["ports"].as_array().context("no ports")?;
        let is_there = ports
            .iter()
            .any(|other| other["name"] == name && other["containerPort"] == port);
        ensure!(is_there, "the container has no port {name} with number {port}");
    }
    Ok(())
}

/// The first document of this kind in a file.
fn document(kubernetes: &Kubernetes, file: &str, kind: &str) -> Result<Value> {
    let printed = kubectl(
        kubernetes,
        &["create", "--dry-run=client", "--output=json", "-f", file],
    )?;
    // One document after the other, or a list of them.
    let documents = serde_json::Deserializer::from_str(&printed).into_iter::<Value>();
    for document in documents {
        let document = document?;
        let items = document["items"]
            .as_array()
            .cloned()
            .unwrap_or_else(|| vec![document]);
        if let Some(found) = items.into_iter().find(|item| item["kind"] == kind) {
            return Ok(found);
        }
    }
    anyhow::bail!("no {kind} in {file}")
}
