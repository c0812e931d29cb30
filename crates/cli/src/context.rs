//! What every command is given.

use std::collections::BTreeSet;
use std::sync::Arc;

use kes_types::Clock;

use crate::environment::Environment;
use crate::output::{ColorWhen, Output};

/// What every command is given.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    pub(crate) environment: Environment,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) output: &'a mut Output,
    /// What was said of former spellings.
    said: BTreeSet<String>,
}

impl<'a> Context<'a> {
    pub(crate) fn new(environment: Environment, clock: Arc<dyn Clock>, output: &'a mut Output) -> Self {
        Self {
            environment,
            clock,
            output,
            said: BTreeSet::new(),
        }
    }

    pub(crate) fn set_color(&mut self, when: ColorWhen) {
        self.output.set_color(when, &self.environment);
    }

    pub(crate) fn warn(&self, message: &str) {
        self.output.note("Warning:", message);
    }

    /// Says that `old` still works but `new` is the way now; only the first time, since one line of each is enough.
    pub(crate) fn deprecated(&mut self, old: &str, new: &str) {
        if self.said.insert(old.to_owned()) {
            self.output.note("deprecated:", &format!("{old}: {new}"));
        }
    }

    /// Enclaves are gone. Whoever names one should know that it makes no difference.
    pub(crate) fn warn_about_enclave(&self, option: Option<&str>) {
        let named = option
            .map(str::trim)
            .filter(|name| !name.is_empty())
            .or(self.environment.get("KES_ENCLAVE"));
        if let Some(name) = named.filter(|name| *name != "default") {
            self.warn(&format!("enclaves do not exist any more: '{name}' is ignored"));
        }
    }
}
