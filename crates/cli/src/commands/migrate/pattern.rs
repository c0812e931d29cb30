//! Which keys are meant.

use anyhow::Context as _;
use kes_types::Rule;

/// Which keys are meant: a glob on the whole name.
#[derive(Clone, Debug)]
pub(super) struct Pattern(Rule);

impl Pattern {
    /// Reads a glob of `*`, `?` and `[…]`; all keys if there is none.
    pub(super) fn parse(text: Option<&str>) -> anyhow::Result<Self> {
        Rule::parse(text.unwrap_or("*"))
            .map(Self)
            .context("invalid PATTERN")
    }

    pub(super) fn matches(&self, name: &str) -> bool {
        self.0.matches(name)
    }

    /// What all matching names start with, so that not all others need be listed.
    pub(super) fn prefix(&self) -> &str {
        let text = self.0.as_str();
        text.split(['*', '?', '[', '\\']).next().unwrap_or_default()
    }

    /// Whether it means all keys.
    pub(super) fn is_all(&self) -> bool {
        self.as_str() == "*"
    }

    pub(super) fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_means_whole_names() {
        for (pattern, yes, no) in [
            ("*", &["a", "my-key", "_-_"][..], &[][..]),
            (
                "my-key",
                &["my-key"],
                &["my-key-1", "a-my-key", "my-ke", "MY-KEY"],
            ),
            ("my-*", &["my-", "my-key"], &["my", "amy-key"]),
            ("*-key", &["my-key", "-key"], &["my-key-1"]),
            ("?", &["a", "0"], &["", "ab"]),
            ("key-[0-3]", &["key-0", "key-3"], &["key-4", "key-01", "key-"]),
            ("key-[ax]*", &["key-a", "key-xyz"], &["key-b"]),
            ("key-[^ax]", &["key-b"], &["key-a", "key-"]),
            ("*a*b?", &["abc", "xaxbx"], &["ab", "ba"]),
            (r"a\*", &[], &["a", "ab", "a-b"]),
        ] {
            let pattern = Pattern::parse(Some(pattern)).unwrap();
            for name in yes {
                assert!(pattern.matches(name), "{pattern:?} {name}");
                assert!(name.starts_with(pattern.prefix()), "{pattern:?} {name}");
            }
            for name in no {
                assert!(!pattern.matches(name), "{pattern:?} {name}");
            }
        }
        assert!(Pattern::parse(None).unwrap().is_all());
    }

    #[test]
    fn a_pattern_without_an_end_is_refused() {
        for bad in ["[", "a[b", "[a-", "[z-a]", r"*\"] {
            let error = format!("{:#}", Pattern::parse(Some(bad)).unwrap_err());
            assert!(error.starts_with("invalid PATTERN: "), "{error}");
        }
    }

    #[test]
    fn the_prefix_ends_before_what_is_special() {
        for (pattern, prefix) in [
            ("*", ""),
            ("abc", "abc"),
            ("abc*", "abc"),
            ("ab?c", "ab"),
            ("a[b]c", "a"),
            (r"a\bc", "a"),
            ("[ab]", ""),
        ] {
            assert_eq!(Pattern::parse(Some(pattern)).unwrap().prefix(), prefix);
        }
    }
}
