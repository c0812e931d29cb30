//! Every broken configuration of the tests of `kes-config`, as files, before `kes doctor` and `kes policy test`: what the
//! tests say of the errors is what `kes doctor` finds, line and key included.

#[path = "../../../config/tests/it/bad_values.rs"]
mod bad_values;
#[path = "../../../config/tests/it/embedded.rs"]
mod embedded;
#[path = "../../../config/tests/it/keystores.rs"]
mod keystores;
#[path = "../../../config/tests/it/policies.rs"]
mod policies;
#[path = "../../../config/tests/it/environment.rs"]
mod variables;

use kes_config::{Loaded, Overrides, Settings};
use serde_json::Value;

use crate::kes::{Ran, command};

/// The environment of the tests of `kes-config`.
const ENVIRONMENT: [(&str, &str); 10] = [
    (
        "ADMIN",
        "AA11223344556677889900aabbccddeeff00112233445566778899aabbccddee",
    ),
    ("EMPTY", ""),
    ("BLANK", " \n"),
    ("SEAL", "the seal's key"),
    ("FIVE_MINUTES", "5m"),
    ("TRUE", "true"),
    ("PORT", ":1234"),
    ("FOLDER", "/keys"),
    ("TEMPLATE", "${FOLDER}"),
    ("YAML", "[a, b]"),
];

fn environment(name: &str) -> Option<String> {
    let variable = ENVIRONMENT.iter().find(|(variable, _)| *variable == name);
    variable.map(|(_, value)| (*value).to_owned())
}

fn load_with(text: &str, overrides: &Overrides) -> Result<Loaded, Vec<String>> {
    kes_config::parse(text, "kes.yml", overrides, &environment)
        .map_err(|error| error.errors.iter().map(ToString::to_string).collect())
}

fn load(text: &str) -> Result<Loaded, Vec<String>> {
    load_with(text, &Overrides::default())
}

fn settings(text: &str) -> Settings {
    load(text).unwrap().settings
}

fn warnings(text: &str) -> Vec<String> {
    let loaded = load(text).unwrap();
    loaded.warnings.iter().map(ToString::to_string).collect()
}

/// What `kes doctor` says is wrong with a text in which something is.
fn errors(text: &str) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("kes.yml"), text).unwrap();
    let run = |arguments: &[&str]| -> Ran {
        let mut command = command(folder.path(), arguments);
        command.envs(ENVIRONMENT).output().unwrap().into()
    };
    let examined = run(&["doctor", "--config=kes.yml", "--offline", "--json"]);
    assert_eq!(
        (examined.code, examined.stderr.as_str()),
        (Some(1), ""),
        "{text}\n{examined:?}"
    );
    let report: Value = serde_json::from_str(&examined.stdout).unwrap();
    assert_eq!(report["verdict"], "error", "{text}");
    let errors: Vec<_> = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|finding| finding["check"] == "configuration" && finding["severity"] == "error")
        .map(|finding| {
            assert!(finding["remedy"].is_string(), "{finding}");
            let part = |name: &str, end: &str| match &finding[name] {
                Value::Null => String::new(),
                Value::String(text) => format!("{text}{end}"),
                other => format!("{other}{end}"),
            };
            let what = finding["what"].as_str().unwrap();
            format!(
                "{}{} {}{what}",
                part("file", ":"),
                part("line", ":"),
                part("key", ": ")
            )
        })
        .collect();
    let told = load(text).unwrap_err();
    // On a terminal nothing of a file moves the cursor.
    assert_eq!(errors, told, "{text}");

    let tested = run(&[
        "policy",
        "test",
        "--config=kes.yml",
        "--policy=a",
        "GET",
        "/version",
    ]);
    assert_eq!(
        (tested.code, tested.stdout.as_str()),
        (Some(1), ""),
        "{text}\n{tested:?}"
    );
    for error in &told {
        assert!(
            tested.stderr.contains(&format!("Error: {error}\n")),
            "{text}\n{}",
            tested.stderr
        );
    }
    errors
}

/// `rest` after the four lines that every file needs.
fn minimal(rest: &str) -> String {
    format!(
        "admin: {{identity: disabled}}\ntls: {{key: a.key, cert: a.crt}}\nkeystore: {{fs: {{path: /keys}}}}\n{rest}"
    )
}

/// A digest that ends in `n`.
fn digest(n: u8) -> String {
    format!("{n:064x}")
}
