//! What a listing asks for, and how the next page is named.
//!
//! A client asks for the next page by sending `continue_at` back *in place of the pattern*. So the token holds both the
//! prefix and the position, begins with a character that no pattern begins with, and means the same to every server:
//! `~<length of the prefix>.<last name returned>`. The name begins with the prefix.

use crate::name::{is_name_prefix, printable};

/// A text that is neither a listing pattern nor a position. Its `Display` is the message that clients see.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("listing pattern '{}' is empty, too long or is invalid", printable(.0))]
pub struct BadPattern(String);

/// A place in a listing: after the name `after`, among those that start with a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListPosition {
    after: String,
}

/// A checked listing pattern or position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListRequest {
    prefix: String,
    position: Option<ListPosition>,
    starred: bool,
}

impl ListRequest {
    /// Reads a pattern (empty, `*`, or a name prefix with an optional final `*`) or a position that an earlier page named.
    ///
    /// # Errors
    /// Says which pattern is bad.
    pub fn parse(text: &str) -> Result<Self, BadPattern> {
        let bad = || BadPattern(text.to_owned());
        if let Some(token) = text.strip_prefix('~') {
            let (length, after) = token.split_once('.').ok_or_else(bad)?;
            // One spelling per length, so that a token is what we wrote or refused.
            let digits = length.bytes().all(|b| b.is_ascii_digit());
            if !digits || length.len() > 2 || (length.len() > 1 && length.starts_with('0')) {
                return Err(bad());
            }
            let length: usize = length.parse().map_err(|_| bad())?;
            let prefix = after.get(..length).ok_or_else(bad)?;
            if after.is_empty() || !is_name_prefix(after) {
                return Err(bad());
            }
            let position = Some(ListPosition {
                after: after.to_owned(),
            });
            return Ok(Self {
                prefix: prefix.to_owned(),
                position,
                starred: false,
            });
        }
        let (prefix, starred) = match text.strip_suffix('*') {
            Some(prefix) => (prefix, true),
            None => (text, false),
        };
        if !is_name_prefix(prefix) || (!starred && prefix.ends_with('-')) {
            return Err(bad());
        }
        Ok(Self {
            prefix: prefix.to_owned(),
            position: None,
            starred,
        })
    }

    /// What the listed names start with. Also the resource that policies are applied to.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The name that the page starts after.
    #[must_use]
    pub fn after(&self) -> Option<&str> {
        self.position.as_ref().map(|position| position.after.as_str())
    }

    /// Whether the pattern was written with a `*`, as clients up to 2023 had to.
    #[must_use]
    pub const fn is_starred(&self) -> bool {
        self.starred
    }

    /// The text that asks for the page after the one that ends with `last`.
    #[must_use]
    pub fn continue_after(&self, last: &str) -> String {
        format!("~{}.{last}", self.prefix.len())
    }
}

/// The page of `sorted` that `request` asks for, at most `limit` names, and the text that asks for the next one.
pub fn page<'a>(
    sorted: impl IntoIterator<Item = &'a str>,
    request: &ListRequest,
    limit: usize,
) -> (Vec<&'a str>, Option<String>) {
    let mut matching = sorted.into_iter().filter(|name| {
        name.starts_with(request.prefix()) && request.after().is_none_or(|after| *name > after)
    });
    let names: Vec<_> = matching.by_ref().take(limit).collect();
    let next = match (names.last(), matching.next()) {
        (Some(last), Some(_)) => Some(request.continue_after(last)),
        _ => None,
    };
    (names, next)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns_at_the_edges_of_the_rule() {
        for (text, prefix, starred) in [
            ("", "", false),
            ("*", "", true),
            ("a", "a", false),
            ("a*", "a", true),
            ("a-*", "a-", true),
            ("_", "_", false),
            ("_*", "_", true),
        ] {
            let request = ListRequest::parse(text).unwrap();
            assert_eq!(
                (request.prefix(), request.is_starred(), request.after()),
                (prefix, starred, None),
                "{text:?}"
            );
        }
        let (long, longer) = ("a".repeat(80), "a".repeat(81));
        assert!(ListRequest::parse(&long).is_ok());
        for bad in [
            "-",
            "-a",
            "a-",
            "**",
            "a*b",
            "*a",
            "a/b",
            "..",
            "a b",
            "ä",
            "\0",
            longer.as_str(),
        ] {
            assert!(ListRequest::parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(
            ListRequest::parse("a.b").unwrap_err().to_string(),
            "listing pattern 'a.b' is empty, too long or is invalid"
        );
    }

    #[test]
    fn forged_positions_are_refused() {
        for bad in [
            "~", "~.", "~0.", "~1.", "~2.a", "~00.a", "~+1.ab", "~999.a", "~1.a/b", "~1.-a", "~a.b",
            "~0.a.b", "~1.ä",
        ] {
            assert!(ListRequest::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_position_confers_nothing_beyond_its_prefix() {
        let request = ListRequest::parse("~3.foo-bar").unwrap();
        assert_eq!((request.prefix(), request.after()), ("foo", Some("foo-bar")));
    }

    proptest! {
        #[test]
        fn paging_reaches_every_name_once(
            names in proptest::collection::btree_set("[a-c]{1,4}", 0..60),
            prefix in "[a-c]{0,2}",
            limit in 1_usize..7,
        ) {
            let mut text = prefix.clone();
            let mut seen = Vec::new();
            loop {
                let request = ListRequest::parse(&text).unwrap();
                prop_assert_eq!(request.prefix(), &prefix);
                let (page, next) = page(names.iter().map(String::as_str), &request, limit);
                prop_assert!(page.len() <= limit);
                seen.extend(page.into_iter().map(str::to_owned));
                match next {
                    Some(next) => text = next,
                    None => break,
                }
            }
            let expected: Vec<_> = names.iter().filter(|n| n.starts_with(&prefix)).cloned().collect();
            prop_assert_eq!(seen, expected);
        }

        #[test]
        fn any_text_is_a_request_or_an_error(text in ".{0,100}") {
            let _ = ListRequest::parse(&text);
        }
    }
}
