//! What the executable is made of, as a CycloneDX document.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use kes_peers::process::run;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{PATIENCE, Release, TARGET};
use crate::cargo;

/// What is needed of the packages that the executable is made of.
#[derive(Debug)]
pub(crate) struct Metadata {
    packages: BTreeMap<String, Package>,
    /// SHA-256 of a crate's archive, by name and version.
    checksums: BTreeMap<(String, String), String>,
    root: String,
}

/// One package.
#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) license: String,
    /// Where its sources are.
    pub(crate) folder: PathBuf,
    /// Whether any of it is in the executable, or it only helps to build that.
    pub(crate) linked: bool,
    /// Whether it is of this repository.
    pub(crate) own: bool,
    repository: Option<String>,
    needs: Vec<String>,
}

impl Metadata {
    /// Asks cargo, in the folder of the sources.
    pub(crate) fn read(source: &Path) -> Result<Self> {
        let output = cargo::command("metadata")
            .args(["--format-version", "1", "--locked", "--filter-platform", TARGET])
            .current_dir(source)
            .output()
            .context("starting cargo metadata")?;
        ensure!(
            output.status.success(),
            "cargo metadata: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let metadata: Value = serde_json::from_slice(&output.stdout).context("reading cargo metadata")?;
        let lock = fs::read_to_string(source.join("Cargo.lock")).context("reading Cargo.lock")?;
        Self::from(&metadata, &lock)
    }

    fn from(metadata: &Value, lock: &str) -> Result<Self> {
        let all = metadata["packages"].as_array().context("no packages")?;
        let nodes = metadata["resolve"]["nodes"].as_array().context("no graph")?;
        let by_id: BTreeMap<&str, &Value> = all
            .iter()
            .filter_map(|package| Some((package["id"].as_str()?, package)))
            .collect();
        let edges: BTreeMap<&str, &Value> = nodes
            .iter()
            .filter_map(|node| Some((node["id"].as_str()?, &node["deps"])))
            .collect();
        let root = by_id
            .iter()
            .find(|(_, package)| package["name"] == "kes-cli")
            .map(|(id, _)| *id)
            .context("there is no kes-cli")?;

        // A package is met up to twice: as a part of the executable, and as one of its tools.
        let mut met = BTreeSet::new();
        let mut open = vec![(root, true)];
        let mut needs: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        while let Some((id, linked)) = open.pop() {
            let package = by_id.get(id).with_context(|| format!("no package '{id}'"))?;
            let linked = linked && !is_macro(package);
            if !met.insert((id, linked)) {
                continue;
            }
            let dependencies = edges.get(id).and_then(|deps| deps.as_array());
            for dependency in dependencies.into_iter().flatten() {
                let Some(other) = dependency["pkg"].as_str() else {
                    continue;
                };
                let is = |kind: Value| {
                    let kinds = dependency["dep_kinds"].as_array();
                    kinds.is_some_and(|kinds| kinds.iter().any(|of| of["kind"] == kind))
                };
                let (normal, build) = (is(Value::Null), is(json!("build")));
                if normal {
                    open.push((other, linked));
                }
                if build {
                    open.push((other, false));
                }
                if normal || build {
                    needs.entry(id).or_default().insert(other);
                }
            }
        }

        let mut packages = BTreeMap::new();
        for id in met.iter().map(|(id, _)| *id).collect::<BTreeSet<_>>() {
            let package = by_id.get(id).with_context(|| format!("no package '{id}'"))?;
            let text = |field: &str| package[field].as_str().map(str::to_owned);
            let manifest = PathBuf::from(text("manifest_path").context("no manifest")?);
            packages.insert(
                id.to_owned(),
                Package {
                    name: text("name").context("no name")?,
                    version: text("version").context("no version")?,
                    license: text("license").unwrap_or_default().replace('/', " OR "),
                    folder: manifest.parent().context("a manifest is in a folder")?.to_owned(),
                    linked: met.contains(&(id, true)),
                    own: package["source"].is_null(),
                    repository: text("repository"),
                    needs: needs
                        .get(id)
                        .into_iter()
                        .flatten()
                        .map(|other| (*other).to_owned())
                        .collect(),
                },
            );
        }
        Ok(Self {
            packages,
            checksums: checksums(lock),
            root: root.to_owned(),
        })
    }

    /// The packages, sorted.
    pub(crate) fn packages(&self) -> impl Iterator<Item = &Package> {
        self.packages.values()
    }

    /// The document. Nothing in it depends on where or when it is made.
    pub(crate) fn sbom(&self, release: &Release) -> Result<String> {
        let root = self.packages.get(&self.root).context("there is no kes-cli")?;
        let mut components = Vec::new();
        let mut dependencies = Vec::new();
        for (id, package) in &self.packages {
            if *id != self.root {
                components.push(self.component(package, release));
            }
            let mut needs: Vec<String> = package
                .needs
                .iter()
                .filter_map(|id| self.packages.get(id))
                .map(Package::reference)
                .collect();
            if *id == self.root {
                needs.extend(LINKED_TOO.map(|(name, _)| format!("pkg:generic/{name}")));
            }
            needs.sort();
            dependencies.push(json!({ "ref": package.reference(), "dependsOn": needs }));
        }
        for (name, license) in LINKED_TOO {
            let version = version_of(name)?;
            components.push(json!({
                "type": "library", "bom-ref": format!("pkg:generic/{name}"), "name": name, "version": version,
                "scope": "required", "licenses": [{ "expression": license }],
                "purl": format!("pkg:generic/{name}@{version}"),
            }));
        }
        let by_reference = |field: &'static str| {
            move |a: &Value, b: &Value| {
                a[field]
                    .as_str()
                    .unwrap_or("")
                    .cmp(b[field].as_str().unwrap_or(""))
            }
        };
        components.sort_by(by_reference("bom-ref"));
        dependencies.sort_by(by_reference("ref"));
        let timestamp =
            OffsetDateTime::from_unix_timestamp(i64::try_from(release.time)?)?.format(&Rfc3339)?;
        let document = json!({
            "bomFormat": "CycloneDX",
            "specVersion": "1.5",
            "serialNumber": serial_number(&release.commit)?,
            "version": 1,
            "metadata": {
                "timestamp": timestamp,
                "tools": { "components": [{ "type": "application", "name": "cargo xtask dist" }] },
                "component": {
                    "type": "application", "bom-ref": root.reference(), "name": "kes", "version": root.version,
                    "licenses": [{ "expression": root.license }], "purl": root.reference(),
                    "properties": [{ "name": "commit", "value": release.commit }, { "name": "target", "value": TARGET }],
                },
            },
            "components": components,
            "dependencies": dependencies,
        });
        Ok(serde_json::to_string_pretty(&document)? + "\n")
    }

    fn component(&self, package: &Package, release: &Release) -> Value {
        let mut component = json!({
            "type": "library", "bom-ref": package.reference(), "name": package.name, "version": package.version,
            "scope": if package.linked { "required" } else { "excluded" }, "purl": package.reference(),
        });
        if !package.license.is_empty() {
            component["licenses"] = json!([{ "expression": package.license }]);
        }
        let key = (package.name.clone(), package.version.clone());
        if let Some(checksum) = self.checksums.get(&key) {
            component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
        }
        if package.own {
            component["properties"] = json!([{ "name": "commit", "value": release.commit }]);
        } else if let Some(url) = &package.repository {
            component["externalReferences"] = json!([{ "type": "vcs", "url": url }]);
        }
        component
    }
}

impl Package {
    fn reference(&self) -> String {
        format!("pkg:cargo/{}@{}", self.name, self.version.replace('+', "%2B"))
    }
}

fn is_macro(package: &Value) -> bool {
    let targets = package["targets"].as_array();
    targets.is_some_and(|targets| {
        targets.iter().any(|target| {
            let kinds = target["kind"].as_array();
            kinds.is_some_and(|kinds| kinds.iter().any(|kind| kind == "proc-macro"))
        })
    })
}

/// The checksums of a `Cargo.lock`.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let mut sums = BTreeMap::new();
    for package in lock.split("[[package]]").skip(1) {
        let field = |name: &str| {
            package
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(" = \"")?.strip_suffix('"'))
                .map(str::to_owned)
        };
        if let (Some(name), Some(version), Some(sum)) = (field("name"), field("version"), field("checksum")) {
            sums.insert((name, version), sum);
        }
    }
    sums
}

/// A number that only this commit has, in the form of a UUID of our own making (version 8).
fn serial_number(commit: &str) -> Result<String> {
    let digits: Vec<char> = commit.chars().filter(char::is_ascii_hexdigit).take(32).collect();
    ensure!(digits.len() == 32, "'{commit}' is no commit");
    let mut uuid = String::from("urn:uuid:");
    for (index, digit) in digits.into_iter().enumerate() {
        if [8, 12, 16, 20].contains(&index) {
            uuid.push('-');
        }
        uuid.push(match index {
            12 => '8',
            16 => 'a',
            _ => digit.to_ascii_lowercase(),
        });
    }
    Ok(uuid)
}

/// What is linked and is no package of cargo's: a static executable contains it.
const LINKED_TOO: [(&str, &str); 2] = [("glibc", "LGPL-2.1-or-later"), ("rust-std", "MIT OR Apache-2.0")];

fn version_of(library: &str) -> Result<String> {
    let mut command = match library {
        "glibc" => {
            let mut command = Command::new("getconf");
            command.arg("GNU_LIBC_VERSION");
            command
        }
        _ => {
            let mut command = Command::new("rustc");
            command.arg("--version").current_dir(cargo::root());
            command
        }
    };
    let said = run(&mut command, PATIENCE)?.expect_success()?;
    let version = said.split_whitespace().nth(1);
    Ok(version
        .with_context(|| format!("{library} says no version: '{said}'"))?
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, kind: &str) -> Value {
        json!({
            "id": name, "name": name, "version": "1.0.0", "license": "MIT/Apache-2.0", "source": "registry",
            "manifest_path": format!("/crates/{name}/Cargo.toml"), "targets": [{ "kind": [kind] }],
        })
    }

    fn needs(name: &str, others: &[(&str, Value)]) -> Value {
        let deps: Vec<Value> = others
            .iter()
            .map(|(other, kind)| json!({ "pkg": other, "dep_kinds": [{ "kind": kind }] }))
            .collect();
        json!({ "id": name, "deps": deps })
    }

    #[test]
    fn what_only_builds_or_tests_is_not_said_to_be_linked() {
        let names = [
            ("kes-cli", "bin"),
            ("lib", "lib"),
            ("derive", "proc-macro"),
            ("syn", "lib"),
            ("cc", "lib"),
            ("tests", "lib"),
        ];
        let metadata = json!({
            "packages": names.map(|(name, kind)| package(name, kind)),
            "resolve": { "nodes": [
                needs("kes-cli", &[("lib", Value::Null), ("tests", json!("dev"))]),
                needs("lib", &[("derive", Value::Null), ("cc", json!("build"))]),
                needs("derive", &[("syn", Value::Null)]),
                needs("syn", &[]), needs("cc", &[]), needs("tests", &[]),
            ] },
        });
        let metadata = Metadata::from(&metadata, "").unwrap();
        let found: Vec<(&str, bool)> = metadata
            .packages()
            .map(|package| (package.name.as_str(), package.linked))
            .collect();
        let expected = [
            ("cc", false),
            ("derive", false),
            ("kes-cli", true),
            ("lib", true),
            ("syn", false),
        ];
        assert_eq!(found, expected);
        assert!(
            metadata
                .packages()
                .all(|package| package.license == "MIT OR Apache-2.0")
        );
    }

    #[test]
    fn checksums_are_those_of_the_lock_file() {
        let lock = "version = 4\n\n[[package]]\nname = \"a\"\nversion = \"1.0\"\nchecksum = \"00ff\"\n\n\
                    [[package]]\nname = \"own\"\nversion = \"1.0\"\n";
        let expected = (("a".to_owned(), "1.0".to_owned()), "00ff".to_owned());
        assert_eq!(checksums(lock).into_iter().collect::<Vec<_>>(), [expected]);
    }

    #[test]
    fn a_serial_number_is_a_uuid_of_the_commit() {
        assert_eq!(
            serial_number("0123456789abcdef0123456789abcdef01234567").unwrap(),
            "urn:uuid:01234567-89ab-8def-a123-456789abcdef"
        );
        assert!(serial_number("HEAD").is_err());
    }
}
