//! The environment variables, as one value, so that nothing below `main` depends on those of the process.

use std::collections::{BTreeMap, BTreeSet};

/// Environment variables. One that is empty or blank counts as unset.
#[derive(Clone, Default)]
pub(crate) struct Environment {
    variables: BTreeMap<String, String>,
    /// Those that are set to something that is no text.
    unreadable: BTreeSet<String>,
}

impl Environment {
    /// The variables of this process.
    pub(crate) fn of_process() -> Self {
        let mut environment = Self::default();
        for (name, value) in std::env::vars_os() {
            // Nothing asks for a name that is no text.
            let Ok(name) = name.into_string() else { continue };
            match value.into_string() {
                Ok(value) => {
                    environment.variables.insert(name, value);
                }
                Err(_) => {
                    environment.unreadable.insert(name);
                }
            }
        }
        environment
    }

    /// Fails if one of `names` is set to something that is no text, so that nobody takes it for unset.
    pub(crate) fn check(&self, names: &[&str]) -> anyhow::Result<()> {
        match names.iter().find(|name| self.unreadable.contains(**name)) {
            None => Ok(()),
            Some(name) => Err(anyhow::anyhow!("{name}: the value is not UTF-8 text")),
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.variables
            .get(name)
            .map(|value| value.trim())
            .filter(|value| !value.is_empty())
    }

    /// A variable as it is, even if it is empty.
    pub(crate) fn raw(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// A variable with the spaces around it, such as a password.
    pub(crate) fn get_exact(&self, name: &str) -> Option<&str> {
        self.variables
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// The same with one more variable.
    #[cfg(test)]
    pub(crate) fn and(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The first of `names` that is set, and its value.
    pub(crate) fn first<'a>(&'a self, names: &[&'static str]) -> Option<(&'static str, &'a str)> {
        names.iter().find_map(|name| Some((*name, self.get(name)?)))
    }
}

#[cfg(test)]
impl<const N: usize> From<[(&str, &str); N]> for Environment {
    fn from(variables: [(&str, &str); N]) -> Self {
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self {
            variables: variables.into(),
            unreadable: BTreeSet::new(),
        }
    }
}

/// Names only: some of the values are secrets.
impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.variables.keys()).finish()
    }
}
