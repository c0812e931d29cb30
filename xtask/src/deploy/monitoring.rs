//! The rules for Prometheus and the dashboard for Grafana.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use kes_peers::Debian;
use serde_json::{Value, json};

use super::server::Running;
use super::{Work, printed};
use crate::cargo;

const RULES: &str = "deploy/prometheus/alerts.yml";
const DASHBOARD: &str = "deploy/grafana/kes.json";

fn promtool(arguments: &[&str]) -> Result<String> {
    let mut command = Debian::unpack(&["prometheus"])?.command("promtool")?;
    printed(command.args(arguments).current_dir(cargo::root()))
}

pub(super) fn rules(_: &mut Work) -> Result<()> {
    promtool(&["check", "rules", RULES])?;
    promtool(&["test", "rules", "deploy/prometheus/alerts.test.yml"])?;
    // No rule is without a test.
    let tests = fs::read_to_string(cargo::root().join("deploy/prometheus/alerts.test.yml"))?;
    let rules = fs::read_to_string(cargo::root().join(RULES))?;
    for alert in rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
    {
        let is_tested = tests
            .lines()
            .any(|line| line.trim() == format!("alertname: {alert}"));
        ensure!(is_tested, "no test raises {alert}");
    }
    Ok(())
}

/// The queries of all panels, with something in the place of Grafana's variables.
fn queries() -> Result<Vec<String>> {
    let text = fs::read_to_string(cargo::root().join(DASHBOARD))?;
    let dashboard: Value = serde_json::from_str(&text).with_context(|| format!("reading {DASHBOARD}"))?;
    let panels = dashboard["panels"].as_array().context("no panels")?;
    let mut queries = Vec::new();
    let mut ids = BTreeSet::new();
    for panel in panels {
        ensure!(
            ids.insert(panel["id"].as_u64()),
            "two panels have the id {}",
            panel["id"]
        );
        for target in panel["targets"].as_array().into_iter().flatten() {
            let query = target["expr"].as_str().context("a target without expr")?;
            let query = query
                .replace("$__rate_interval", "5m")
                .replace("$job", "kes")
                .replace("$instance", ".*");
            ensure!(!query.contains('$'), "a variable that is not known: {query}");
            queries.push(query);
        }
    }
    ensure!(queries.len() > 20, "only {} queries", queries.len());
    Ok(queries)
}

pub(super) fn dashboard(work: &mut Work) -> Result<()> {
    // promtool reads what YAML is, and JSON is that.
    let rules: Vec<Value> = queries()?
        .iter()
        .enumerate()
        .map(|(index, query)| json!({ "record": format!("query:{index}"), "expr": query }))
        .collect();
    let file = work.empty("dashboard")?.join("queries.yml");
    fs::write(
        &file,
        json!({ "groups": [{ "name": "dashboard", "rules": rules }] }).to_string(),
    )?;
    promtool(&["check", "rules", &file.to_string_lossy()])?;
    Ok(())
}

/// The rules and the dashboard against what a server says.
pub(super) fn names(work: &mut Work) -> Result<()> {
    let folder = work.empty("metrics")?;
    let running = Running::start(&work.kes()?, &folder, |kes| Command::new(kes))?;
    running.admin(&["key", "create", "my-key"])?;
    running.admin(&["key", "dek", "my-key"])?;
    running.admin(&["store", "backup", "keys.backup"])?;
    let metrics = running.metrics()?;
    let exported: BTreeSet<&str> = metrics
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(['{', ' ']).next())
        .collect();
    let rules = fs::read_to_string(cargo::root().join(RULES))?;
    let asked = queries()?.join("\n") + &rules;
    for name in names_in(&asked) {
        ensure!(exported.contains(name), "no server has a metric '{name}'");
    }
    // What is exported is a whole document of its format, too.
    let file = folder.join("metrics");
    fs::write(&file, &metrics)?;
    let mut check = Debian::unpack(&["prometheus"])?.command("promtool")?;
    let script = "\"$1\" check metrics < \"$2\"";
    let promtool = check.get_program().to_owned();
    check = Command::new("sh");
    let finished = kes_peers::process::run(
        check.args(["-c", script, "sh"]).arg(promtool).arg(&file),
        kes_peers::process::PATIENCE,
    )?;
    // It has opinions on names, such as that of a counter, and some of ours are given; what it cannot read is another matter.
    let said = format!("{}{}", finished.stdout, finished.stderr);
    ensure!(!said.contains("error while linting"), "{said}");
    Ok(())
}

/// The names of our metrics in a text.
fn names_in(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with("kes_"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_end_where_their_label_begins() {
        let names = names_in("sum(rate(kes_a_total{job=\"kes\"}[5m])) / kes_b + up{job=\"kes\"}");
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["kes_a_total", "kes_b"]);
    }
}
