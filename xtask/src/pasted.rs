//! What a server prints for its users to paste into a shell.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use kes_peers::process::{PATIENCE, run};

/// The variables that pasting sets.
#[derive(Clone, Debug)]
pub(crate) struct Pasted(BTreeMap<String, String>);

impl Pasted {
    /// Lets a shell read the lines of `output` that export something.
    pub(crate) fn from_output(output: &str) -> Result<Self> {
        let lines = exports(output);
        ensure!(!lines.is_empty(), "the server has printed no line to paste");
        let mut shell = Command::new("bash");
        shell
            .args(["-euc", &format!("{lines}env -0")])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default());
        let environment = run(&mut shell, PATIENCE)?.expect_success()?;
        Ok(Self(
            environment
                .split('\0')
                .filter_map(|variable| variable.split_once('='))
                .filter(|(name, _)| name.contains("KES"))
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        ))
    }

    pub(crate) fn get(&self, name: &str) -> Result<&str> {
        let value = self.0.get(name).map(String::as_str);
        value.with_context(|| format!("what the server printed does not set {name}"))
    }

    /// The variables of MinIO Server.
    pub(crate) fn for_minio(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        all.filter(|(name, _)| name.starts_with("MINIO_"))
    }
}

/// The lines that a program prints for pasting into a shell: those that export variables, each ended.
pub(crate) fn exports(text: &str) -> String {
    text.lines()
        .map(str::trim_start)
        .filter(|line| line.starts_with("export "))
        .map(|line| format!("{line}\n"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_what_is_printed() {
        let pasted =
            Pasted::from_output("Version 1\n  export KES_SERVER=a KES_API_KEY='b c'\n# export KES_X=1\n")
                .unwrap();
        assert_eq!(pasted.get("KES_SERVER").unwrap(), "a");
        assert_eq!(pasted.get("KES_API_KEY").unwrap(), "b c");
        assert!(pasted.get("KES_X").is_err());
    }
}
