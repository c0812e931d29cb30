//! What every command is given.

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
    said_deprecated: bool,
}

impl<'a> Context<'a> {
    pub(crate) fn new(environment: Environment, clock: Arc<dyn Clock>, output: &'a mut Output) -> Self {
        Self {
            environment,
            clock,
            output,
            said_deprecated: false,
        }
    }

    pub(crate) fn set_color(&mut self, when: ColorWhen) {
        self.output.set_color(when, &self.environment);
    }

    pub(crate) fn warn(&self, message: &str) {
        self.output.note("Warning:", message);
    }

    /// Says that `old` still works but `new` is the way now; only the first time, since one such line is enough.
    pub(crate) fn deprecated(&mut self, old: &str, new: &str) {
        if !std::mem::replace(&mut self.said_deprecated, true) {
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
