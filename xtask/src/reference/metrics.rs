//! The metrics of a server, from what one says about them.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use kes_peers::process::{self, PATIENCE, Server};

use super::{code, row};
use crate::pasted::Pasted;

/// Names, types, labels and meanings.
pub(super) fn table(kes: &Path) -> Result<String> {
    let mut text = row(["Metric", "Type", "Labels", "Meaning"]);
    text.push_str("|---|---|---|---|\n");
    for metric in read(&asked(kes)?) {
        let labels: Vec<_> = metric.labels.iter().map(|label| code(label)).collect();
        text.push_str(&row([
            &code(&metric.name),
            &metric.kind,
            &labels.join(", "),
            metric.meaning.trim_end_matches('.'),
        ]));
    }
    Ok(text)
}

/// The metrics of a server that keeps its keys itself, after a backup.
fn asked(kes: &Path) -> Result<String> {
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name);
    let port = process::free_port()?;
    let command = |arguments: &[&str]| {
        let mut command = Command::new(kes);
        command
            .args(arguments)
            .current_dir(folder.path())
            .env_clear()
            .env("HOME", folder.path());
        command
    };
    let address = format!("127.0.0.1:{port}");
    let mut init = command(&["init", "server", "--addr", &address]);
    let pasted = Pasted::from_output(&process::run(&mut init, PATIENCE)?.expect_success()?)?;
    let config = at("server/config.yml");
    let open = "api:\n  /v1/metrics:\n    skip_auth: on\n";
    fs::write(&config, format!("{}\n{open}", fs::read_to_string(&config)?))?;

    let mut server = Server::start("kes", &mut command(&["server", "server"]), &at("log"), &at("log"))?;
    process::wait_until("the server to answer", PATIENCE, || {
        server.check_alive()?;
        Ok(TcpStream::connect(&address).ok())
    })
    .with_context(|| process::file_tail(&at("log"), 20))?;
    // The age of the last backup is there when there has been one.
    let mut backup = command(&["store", "backup", "backup"]);
    for name in ["KES_SERVER", "KES_API_KEY", "MINIO_KMS_KES_CAPATH"] {
        backup.env(name, pasted.get(name)?);
    }
    process::run(&mut backup, PATIENCE)?.expect_success()?;
    let mut curl = Command::new("curl");
    curl.args([
        "--silent",
        "--show-error",
        "--fail",
        "--cacert",
        "server/server.crt",
    ])
    .arg(format!("https://{address}/v1/metrics"))
    .current_dir(folder.path());
    let metrics = process::run(&mut curl, PATIENCE)?.expect_success()?;
    server.stop()?;
    Ok(metrics)
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Metric {
    name: String,
    kind: String,
    labels: Vec<String>,
    meaning: String,
}

fn read(text: &str) -> Vec<Metric> {
    let mut metrics: Vec<Metric> = Vec::new();
    for line in text.lines() {
        if let Some((name, meaning)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            metrics.push(Metric {
                name: name.to_owned(),
                meaning: meaning.to_owned(),
                ..Metric::default()
            });
        } else if let (Some((_, kind)), Some(metric)) = (
            line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')),
            metrics.last_mut(),
        ) {
            metric.kind = kind.to_owned();
        } else if let (Some((_, rest)), Some(metric)) = (line.split_once('{'), metrics.last_mut()) {
            let labels = rest.split_once('}').map_or("", |(labels, _)| labels);
            for label in labels.split(',').filter_map(|label| label.split_once('=')) {
                let label = label.0.to_owned();
                // Buckets are part of every histogram.
                if label != "le" && !metric.labels.contains(&label) {
                    metric.labels.push(label);
                }
            }
        }
    }
    metrics
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_have_a_type_labels_and_a_meaning() {
        let text = "# HELP a Number of a.\n# TYPE a counter\na{code=\"200\"} 1\na{code=\"201\",b=\"c\"} 1\n\
                    # HELP t Time.\n# TYPE t histogram\nt_bucket{le=\"1\"} 0\n";
        let seen: Vec<_> = read(text)
            .into_iter()
            .map(|metric| (metric.name, metric.kind, metric.labels.join(" "), metric.meaning))
            .collect();
        let metric = |texts: [&str; 4]| {
            let [name, kind, labels, meaning] = texts.map(str::to_owned);
            (name, kind, labels, meaning)
        };
        assert_eq!(
            seen,
            [
                metric(["a", "counter", "code b", "Number of a."]),
                metric(["t", "histogram", "", "Time."])
            ]
        );
    }
}
