//! Every key of the configuration file, as data: what `docs/configuration.md` prints.
//!
//! The readers in `schema` do not use this table, they are held to it: the tests read a file with every key of it, and fail if a
//! reader asks for a key that is not here, if a default is another one, or if a value is refused that should not be.

mod keys;
mod older;

pub use self::keys::GROUPS;
pub use self::older::OLDER;

/// Keys that belong together.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// The section, as a heading.
    pub title: &'static str,
    /// What is said about all of them, in Markdown.
    pub about: &'static str,
    /// The keys, in the order in which they are written.
    pub keys: &'static [Key],
}

/// A key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Where it stands. `<name>` is chosen by whoever writes the file, and `[]` follows a list.
    pub path: &'static str,
    /// What may be written, in Markdown.
    pub accepts: &'static str,
    /// What counts without it.
    pub default: Without,
    /// Whether an environment variable may stand for the value, or for an item of the list.
    pub variable: bool,
    /// What it does, in Markdown.
    pub meaning: &'static str,
    /// A value for the tests that is not the default.
    sample: &'static str,
    /// Values that are refused.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "for tests, beside what they are about")
    )]
    refused: &'static [&'static str],
}

impl Key {
    /// A value that can be written, in YAML.
    #[must_use]
    pub const fn example(&self) -> &'static str {
        self.sample
    }
}

/// What counts without a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Without {
    /// It must be there, in a section that is there.
    Required,
    /// It must be there if the keys beside it are; this is what counts without any of them.
    Together(&'static str),
    /// The value that stands here.
    Is(&'static str),
    /// What no value says, in Markdown.
    Says(&'static str),
}

/// A key of an older release that is still read.
#[derive(Clone, Copy, Debug)]
pub struct Older {
    /// What was written.
    pub path: &'static str,
    /// The last release that documented it, or where it comes from.
    pub until: &'static str,
    /// What is written today; empty if nothing is.
    pub now: &'static str,
    /// What else there is to say, in Markdown.
    pub note: &'static str,
}

#[cfg(test)]
mod tests;
