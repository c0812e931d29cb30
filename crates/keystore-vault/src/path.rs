//! Paths of Vault's API, percent-encoded segment by segment.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What a segment of a path holds as it is; anything else is percent-encoded.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// A path below `/v1/`. Its `Display` is the path as people and policies write it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Path {
    plain: String,
    encoded: String,
    query: &'static str,
}

/// A configured path that cannot be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    /// Nothing but slashes.
    #[error("is empty")]
    Empty,
    /// A segment that servers and proxies resolve to another path.
    #[error("contains '.' or '..' as a folder")]
    Dots,
    /// A control character.
    #[error("contains a control character")]
    Control,
}

impl Path {
    /// A path of this program's own, such as `sys/health`.
    pub(crate) fn fixed(text: &'static str) -> Self {
        Self {
            plain: text.to_owned(),
            encoded: text.to_owned(),
            query: "",
        }
    }

    /// Reads a configured mount path or folder, with or without slashes around it.
    pub(crate) fn parse(text: &str) -> Result<Self, BadPath> {
        if text.chars().any(char::is_control) {
            return Err(BadPath::Control);
        }
        let segments: Vec<_> = text.split('/').filter(|segment| !segment.is_empty()).collect();
        if segments.is_empty() {
            return Err(BadPath::Empty);
        }
        if segments.iter().any(|segment| matches!(*segment, "." | "..")) {
            return Err(BadPath::Dots);
        }
        let encoded: Vec<_> = segments.iter().map(|segment| encode(segment)).collect();
        Ok(Self {
            plain: segments.join("/"),
            encoded: encoded.join("/"),
            query: "",
        })
    }

    /// This folder with one more segment. A slash in it is encoded as well.
    pub(crate) fn segment(&self, segment: &str) -> Self {
        Self {
            plain: format!("{}/{segment}", self.plain),
            encoded: format!("{}/{}", self.encoded, encode(segment)),
            query: self.query,
        }
    }

    /// `below` in this folder.
    pub(crate) fn join(&self, below: &Self) -> Self {
        Self {
            plain: format!("{}/{}", self.plain, below.plain),
            encoded: format!("{}/{}", self.encoded, below.encoded),
            query: below.query,
        }
    }

    /// This path with a query, such as `list=true`.
    pub(crate) fn query(mut self, query: &'static str) -> Self {
        self.query = query;
        self
    }

    /// The folder that it is in, as people and policies write it.
    pub(crate) fn folder(&self) -> &str {
        self.plain.rsplit_once('/').map_or("", |(folder, _)| folder)
    }

    /// What follows `/v1/` in the URL.
    pub(crate) fn url(&self) -> String {
        if self.query.is_empty() {
            return self.encoded.clone();
        }
        format!("{}?{}", self.encoded, self.query)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.plain)
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url())
    }
}

fn encode(segment: &str) -> String {
    utf8_percent_encode(segment, ENCODED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_around_a_configured_path_do_not_matter() {
        for text in ["team/kv", "/team/kv", "team/kv/", "//team//kv//"] {
            let path = Path::parse(text).unwrap();
            assert_eq!(
                (path.to_string().as_str(), path.url().as_str()),
                ("team/kv", "team/kv")
            );
        }
    }

    #[test]
    fn a_configured_path_that_would_be_another_one_is_refused() {
        for (text, expected) in [
            ("", BadPath::Empty),
            ("/", BadPath::Empty),
            ("a/../b", BadPath::Dots),
            ("./a", BadPath::Dots),
            ("a\nb", BadPath::Control),
        ] {
            assert_eq!(Path::parse(text), Err(expected), "{text:?}");
        }
    }

    #[test]
    fn segments_are_encoded_and_shown_as_they_are() {
        let path = Path::parse("my kv/50%?#").unwrap().segment("a/b");
        assert_eq!(path.to_string(), "my kv/50%?#/a/b");
        assert_eq!(path.url(), "my%20kv/50%25%3F%23/a%2Fb");
    }

    #[test]
    fn a_query_comes_last() {
        let path = Path::parse("kv")
            .unwrap()
            .join(&Path::parse("data").unwrap())
            .segment("x")
            .query("version=1");
        assert_eq!(path.url(), "kv/data/x?version=1");
        assert_eq!(path.to_string(), "kv/data/x");
        assert_eq!(path.folder(), "kv/data");
    }
}
