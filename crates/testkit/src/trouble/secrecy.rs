//! What is told when things go wrong, and what must not be in it.

use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::join_all;
use serde_json::json;

use super::failures::connect_at_last;
use super::log::Log;
use super::*;

/// No credential and no key is in an error, a log, a `Debug`, an answer or a metric, in whatever form, whatever goes wrong.
pub async fn no_secret_is_told_whatever_happens(rig: impl Rig) {
    const HANGING: &str = "hanging requests";
    let log = Log::of_the_process();
    let trial = Trial::new(rig).await;
    let brief = Patience {
        attempt: Duration::from_secs(1),
        operation: Duration::from_secs(2),
        ..PATIENT
    };
    let mut told = trial.rig.told().await;

    // A key whose bytes are known here, and what is stored of it. All tests of a process share the log, in which the tests of
    // this promise tell theirs.
    static EXAMINED: AtomicUsize = AtomicUsize::new(0);
    let number = EXAMINED.fetch_add(1, Ordering::Relaxed);
    let key = format!("a key nobody may see: no. {number:06}").into_bytes();
    let told_of = format!("told-{number}");
    let store = trial.connect(PATIENT).await;
    told.push(format!("{store} {store:?}"));
    let running = server(Arc::clone(&store)).start().await;
    let client = running.app();
    // For requests that hang: in so little time nothing has to succeed.
    let hasty_store = connect_at_last(&trial.rig, brief).await;
    told.push(format!("{hasty_store} {hasty_store:?}"));
    let hasty = server(Arc::clone(&hasty_store)).start().await;
    let import = json!({"key": STANDARD.encode(&key)}).to_string();
    client.put("/v1/key/import/imported", import.clone()).await.ok();
    let generated = client.put("/v1/key/generate/imported", "").await.ok().json();
    let ciphertext = generated["ciphertext"].as_str().unwrap();
    let stored = trial.direct.get(&name("imported")).await.unwrap();
    let mut secrets = vec![
        ("the key", key),
        ("the stored value", stored.value.expose_secret().to_vec()),
        (
            "a value",
            value(&format!("new-{told_of}")).expose_secret().to_vec(),
        ),
        (
            "a data key",
            generated["plaintext"].as_str().unwrap().as_bytes().to_vec(),
        ),
    ];

    let mut problems = trial.problems();
    let page = "<html>Please log in.</html>";
    for (label, fault) in [
        (HANGING, Fault::Hang),
        ("a page", Fault::Says(Answer::of(200, "text/html", page))),
        ("a refusal", Fault::Says(Answer::of(403, "text/html", page))),
        ("nothing there", Fault::Says(Answer::of(404, "text/html", page))),
    ] {
        problems.push(Problem {
            label,
            fault: Some(fault),
            allowed: &[],
        });
    }
    // Services and what stands before them like to quote what they were sent.
    let echo = |request: &ProxiedRequest| {
        let headers: Vec<_> = request.headers.iter().collect();
        let text = format!("{headers:?} {}", String::from_utf8_lossy(&request.body));
        let body = json!({"errors": [text], "message": text, "__type": text}).to_string();
        Fault::Says(Answer::of(400, "application/json", body))
    };
    let labels = problems.iter().map(|problem| problem.label).chain(["an echo"]);
    let labels: Vec<_> = labels.collect();
    for (number, label) in labels.into_iter().enumerate() {
        match problems.get(number) {
            Some(problem) => trial.fail(problem).await,
            None => trial.proxy().set(echo),
        }
        let (store, running) = match label {
            HANGING => (&hasty_store, &hasty),
            _ => (&store, &running),
        };
        let asked = StoreOp::ALL.map(|op| trial.ask(store, op, &told_of));
        for (op, asked) in StoreOp::ALL.into_iter().zip(join_all(asked).await) {
            // A page may pass for the success of a delete: there is nothing in it to tell.
            if let Err(error) = asked {
                told.push(format!("{op} with {label}: {} {error:?}", chain(&error)));
            }
        }
        if let Err(error) = ends("connecting", brief.operation, trial.rig.connect(brief)).await {
            told.push(format!("connecting with {label}: {} {error:?}", chain(&*error)));
        }
        let decrypt = json!({"ciphertext": ciphertext}).to_string();
        let (import, admin) = (import.clone(), running.admin());
        let requests = [
            ("PUT", "/v1/key/import/another", import),
            ("PUT", "/v1/key/create/another", String::new()),
            ("PUT", "/v1/key/decrypt/cold", decrypt),
            ("DELETE", "/v1/key/delete/another", String::new()),
            ("GET", "/v1/key/list/", String::new()),
            ("GET", "/v1/ready", String::new()),
            ("GET", "/v1/status", String::new()),
            ("GET", "/v1/metrics", String::new()),
        ];
        let answers = requests.map(|(method, path, body)| admin.send(method, path, body));
        for answer in join_all(answers).await {
            told.push(answer.text());
        }
        trial.heal();
    }
    for (running, store) in [(running, &store), (hasty, &hasty_store)] {
        for event in running.audit().await {
            told.push(event.to_string());
        }
        drop(running);
        store.close().await;
    }

    // The log has everything that happened in it, of other tests of the process too.
    tracing::debug!(target: "kes_testkit", "this is the last line of {store}");
    let lines = log.text().await;
    for heard in ["/v1/key/decrypt/cold", "this is the last line of"] {
        assert!(lines.contains(heard), "the log was not heard");
    }
    told.push(lines);
    secrets.extend(trial.rig.secrets());
    for (what, secret) in &secrets {
        for form in forms(secret) {
            for text in &told {
                let shown: String = text.chars().take(2000).collect();
                assert!(!text.contains(&form), "{what} is told, as {form}, in: {shown}");
            }
        }
    }
}

/// How a secret may look in a text.
pub(super) fn forms(secret: &[u8]) -> Vec<String> {
    assert!(secret.len() >= 8, "too short to be searched for");
    let mut forms = Vec::new();
    if let Ok(text) = std::str::from_utf8(secret) {
        forms.push(text.to_owned());
        // As it is quoted in a `Debug` or in JSON.
        let quoted = format!("{text:?}");
        forms.push(quoted.trim_matches('"').to_owned());
        let percent = |byte: u8| match byte {
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        };
        forms.push(secret.iter().copied().map(percent).collect());
    }
    // In base64 whatever stands before it; its first and last characters depend on the neighbours.
    for before in 0..3 {
        let mut shifted = vec![0; before];
        shifted.extend_from_slice(secret);
        let encoded = STANDARD.encode(&shifted);
        let whole = &encoded[if before == 0 { 0 } else { 4 }..shifted.len() / 3 * 4];
        forms.push(whole.to_owned());
        forms.push(whole.replace('+', "-").replace('/', "_"));
    }
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    forms.push(hex.to_uppercase());
    forms.push(hex);
    let list = format!("{:?}", secret);
    forms.push(list.trim_matches(['[', ']']).to_owned());
    forms.sort();
    forms.dedup();
    forms
}
