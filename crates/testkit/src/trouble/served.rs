//! What clients and operators of a server see when the key store under it is in trouble.

use futures_util::future::join3;

use super::*;
use crate::{Running, TestClient};

/// What hangs is given up soon: before the key ring gives up a sign of life, which would find the outage in place of the store.
const BRIEF: Patience = Patience {
    attempt: Duration::from_secs(3),
    operation: Duration::from_secs(4),
    ..PATIENT
};

pub(super) const FAILED_TO_READ: &str = "failed to read key";

/// For everything that can go wrong: keys that are cached work, the others are answered with the documented errors, and
/// readiness, state and metrics tell. When it is over, they tell that too.
pub async fn the_server_says_what_is_going_on(rig: impl Rig) {
    let trial = Trial::new(rig).await;
    let hanging = Problem {
        label: "hanging requests",
        fault: Some(Fault::Hang),
        allowed: &[Class::Unreachable],
    };
    for (number, problem) in trial.problems().iter().chain([&hanging]).enumerate() {
        let label = problem.label;
        let patience = if label == hanging.label { BRIEF } else { PATIENT };
        let running = server(trial.connect(patience).await).start().await;
        let client = running.app();
        let [warm, cold, old, new] = ["warm", "cold", "old", "new"].map(|key| format!("{key}-{number}"));
        for key in [&warm, &cold, &old] {
            client.put(&format!("/v1/key/create/{key}"), "").await.ok();
        }
        generate(&client, &warm).await.ok();
        assert!(online(&running).await);
        let failed = errors(&running).await;

        trial.fail(problem).await;
        let is_outage = problem.allowed == [Class::Unreachable];
        let ready = [
            (504, "key store is not reachable"),
            (502, "key store is unavailable"),
        ];
        let could_be = match (is_outage, problem.allowed.contains(&Class::Unreachable)) {
            (true, _) => &ready[..1],
            (false, true) => &ready[..],
            (false, false) => &ready[1..],
        };
        generate(&client, &cold).await.fails(502, FAILED_TO_READ);
        let (create, delete) = (format!("/v1/key/create/{new}"), format!("/v1/key/delete/{old}"));
        let (created, deleted, listed) = join3(
            client.put(&create, ""),
            client.delete(&delete),
            client.get("/v1/key/list/"),
        )
        .await;
        created.fails(502, "failed to create key");
        deleted.fails(502, "failed to delete key");
        listed.fails(502, "failed to list keys");
        generate(&client, &warm).await.ok();
        let answer = running.admin().get("/v1/ready").await;
        assert!(
            could_be.contains(&(answer.status, answer.message().as_str())),
            "readiness with {label}: {} {}",
            answer.status,
            answer.text()
        );
        let state = running.admin().get("/v1/status").await.ok().json();
        assert_eq!(state["keystore_unreachable"], true, "{label}");
        assert!(state.get("keystore_latency").is_none(), "{label}");
        assert!(
            errors(&running).await > failed,
            "no errors are counted with {label}"
        );
        if is_outage {
            until("metrics tell of the outage", async || !online(&running).await).await;
        } else if could_be.len() == 1 {
            assert!(online(&running).await, "{label} is not an outage");
        }

        trial.heal();
        until("the server is ready again", async || {
            running.admin().get("/v1/ready").await.status == 200
        })
        .await;
        assert!(online(&running).await);
        generate(&client, &cold).await.ok();
        let state = running.admin().get("/v1/status").await.ok().json();
        assert_ne!(state["keystore_unreachable"], true, "after {label}");
        assert!(state["keystore_latency"].is_u64(), "after {label}");
    }
}

pub(super) async fn generate(client: &TestClient, key: &str) -> Answer {
    client.put(&format!("/v1/key/generate/{key}"), "").await
}

/// Whether the metrics say that the key store is within reach.
pub(super) async fn online(running: &Running) -> bool {
    let metrics = running.admin().get("/v1/metrics").await.ok().text();
    metrics.contains("kes_keystore_online 1\n")
}

/// How many requests to the key store have failed, as the metrics have it.
async fn errors(running: &Running) -> u64 {
    let metrics = running.admin().get("/v1/metrics").await.ok().text();
    let counts = metrics
        .lines()
        .filter(|line| line.starts_with("kes_keystore_errors_total{"))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap());
    counts.sum()
}
