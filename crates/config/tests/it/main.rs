//! Configuration files through the public functions, as a server reads them.

#![allow(clippy::unwrap_used, reason = "all of it is tests, also the helpers")]

mod bad_values;
mod documents;
mod embedded;
mod environment;
mod eras;
mod everything;
mod keystores;
mod policies;
mod robustness;
mod secrecy;

use kes_config::{Loaded, Overrides, Settings};

/// The environment of the tests.
fn environment(name: &str) -> Option<String> {
    let value = match name {
        "ADMIN" => "AA11223344556677889900aabbccddeeff00112233445566778899aabbccddee",
        "EMPTY" => "",
        "BLANK" => " \n",
        "SEAL" => "the seal's key",
        "FIVE_MINUTES" => "5m",
        "TRUE" => "true",
        "PORT" => ":1234",
        "FOLDER" => "/keys",
        "TEMPLATE" => "${FOLDER}",
        "YAML" => "[a, b]",
        _ => return None,
    };
    Some(value.to_owned())
}

fn load(text: &str) -> Result<Loaded, Vec<String>> {
    load_with(text, &Overrides::default())
}

fn load_with(text: &str, overrides: &Overrides) -> Result<Loaded, Vec<String>> {
    kes_config::parse(text, "kes.yml", overrides, &environment)
        .map_err(|error| error.errors.iter().map(ToString::to_string).collect())
}

/// The settings of a text without errors and warnings.
fn settings(text: &str) -> Settings {
    let loaded = load(text).unwrap_or_else(|errors| panic!("{text}\n{errors:#?}"));
    assert_eq!(loaded.warnings, [], "{text}");
    loaded.settings
}

/// The errors of a text that has some.
fn errors(text: &str) -> Vec<String> {
    load(text)
        .err()
        .unwrap_or_else(|| panic!("this is fine:\n{text}"))
}

fn warnings(text: &str) -> Vec<String> {
    let loaded = load(text).unwrap_or_else(|errors| panic!("{text}\n{errors:#?}"));
    loaded.warnings.iter().map(ToString::to_string).collect()
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
