//! Policies: which API paths an identity may call.

use std::fmt;

use crate::name::printable;

/// A rule that can never be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the rule '{}' has {reason}", printable(.rule))]
pub struct BadRule {
    rule: String,
    reason: &'static str,
}

/// What a rule matches.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Matcher {
    /// The path itself. An empty rule matches nothing.
    Exact,
    /// Everything that starts with the rule's text before its final `*`.
    Prefix,
    /// A shell glob whose `*` and `?` stop at `/`, as in all releases up to 2023.
    Glob(Vec<Token>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Literal(char),
    AnyRun,
    AnyOne,
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

/// One line of a policy.
#[derive(Clone, PartialEq, Eq)]
pub struct Rule {
    text: String,
    matcher: Matcher,
}

impl Rule {
    /// Reads a rule. Without `*`, `?` and `[` it is a path; with a single `*` at its end a prefix; otherwise a glob.
    ///
    /// # Errors
    /// When it is a glob with an unfinished class or escape.
    pub fn parse(text: &str) -> Result<Self, BadRule> {
        let matcher = if !text.contains(['*', '?', '[']) {
            Matcher::Exact
        } else if text.ends_with('*') && text.matches(['*', '?', '[']).count() == 1 {
            Matcher::Prefix
        } else {
            Matcher::Glob(tokens(text).map_err(|reason| BadRule {
                rule: text.to_owned(),
                reason,
            })?)
        };
        Ok(Self {
            text: text.to_owned(),
            matcher,
        })
    }

    /// The rule as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the rule matches an API path. A rule without a final `/` also matches the path with it.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        match &self.matcher {
            Matcher::Exact => {
                !self.text.is_empty() && (self.text == path || path.strip_suffix('/') == Some(&*self.text))
            }
            Matcher::Prefix => self
                .text
                .strip_suffix('*')
                .is_some_and(|prefix| path.starts_with(prefix)),
            Matcher::Glob(tokens) => {
                glob_matches(tokens, path)
                    || path
                        .strip_suffix('/')
                        .is_some_and(|bare| glob_matches(tokens, bare))
            }
        }
    }

    /// Whether this rule matches whatever `other` does. Of two globs that are not the same this is never said, since it is hard
    /// to know.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        // What never matches is covered by everything, which says nothing.
        if other.text.is_empty() {
            return false;
        }
        if self.text == other.text {
            return true;
        }
        match (&self.matcher, &other.matcher) {
            (Matcher::Prefix, _) => self
                .text
                .strip_suffix('*')
                .is_some_and(|prefix| other.literal_beginning().starts_with(prefix)),
            (Matcher::Exact | Matcher::Glob(_), Matcher::Exact) => {
                self.matches(&other.text) && self.matches(&format!("{}/", other.text))
            }
            (Matcher::Exact | Matcher::Glob(_), Matcher::Prefix | Matcher::Glob(_)) => false,
        }
    }

    /// What every path begins with that this rule matches.
    fn literal_beginning(&self) -> String {
        match &self.matcher {
            Matcher::Exact => self.text.clone(),
            Matcher::Prefix => self.text.strip_suffix('*').unwrap_or_default().to_owned(),
            Matcher::Glob(tokens) => tokens
                .iter()
                .map_while(|token| match token {
                    Token::Literal(literal) => Some(*literal),
                    Token::AnyRun | Token::AnyOne | Token::Class { .. } => None,
                })
                .collect(),
        }
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

/// What identities with this policy may do: whatever an allow rule matches and no deny rule does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// The rules of which one must match.
    pub allow: Vec<Rule>,
    /// The rules of which none may match.
    pub deny: Vec<Rule>,
}

impl Policy {
    /// Whether `path` may be called.
    #[must_use]
    pub fn permits(&self, path: &str) -> bool {
        self.denied_by(path).is_none() && self.allowed_by(path).is_some()
    }

    /// The first allow rule that matches `path`, if there is one. A deny rule may forbid it all the same.
    #[must_use]
    pub fn allowed_by(&self, path: &str) -> Option<&Rule> {
        self.allow.iter().find(|rule| rule.matches(path))
    }

    /// The deny rule that forbids `path`, if there is one.
    #[must_use]
    pub fn denied_by(&self, path: &str) -> Option<&Rule> {
        self.deny.iter().find(|rule| rule.matches(path))
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, &'static str> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        tokens.push(match c {
            '*' => Token::AnyRun,
            '?' => Token::AnyOne,
            '\\' => Token::Literal(chars.next().ok_or("a backslash at its end")?),
            '[' => {
                const UNFINISHED: &str = "a '[' without its ']'";
                let negated = chars.next_if_eq(&'^').is_some();
                let mut ranges = Vec::new();
                while ranges.is_empty() || chars.peek() != Some(&']') {
                    let low = class_char(&mut chars).ok_or(UNFINISHED)?;
                    let high = match chars.next_if_eq(&'-') {
                        Some(_) => class_char(&mut chars).ok_or(UNFINISHED)?,
                        None => low,
                    };
                    if low > high {
                        return Err("a range in '[…]' that ends before it begins");
                    }
                    ranges.push((low, high));
                }
                chars.next();
                Token::Class { negated, ranges }
            }
            c => Token::Literal(c),
        });
    }
    Ok(tokens)
}

/// One end of a range in a class; `-` and `]` must be escaped.
fn class_char(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<char> {
    match chars.next()? {
        '\\' => chars.next(),
        '-' | ']' => None,
        c => Some(c),
    }
}

/// Matches in time proportional to the lengths' product: on a mismatch only the last `*` is extended.
fn glob_matches(tokens: &[Token], path: &str) -> bool {
    let (mut rest, mut text) = (tokens, path);
    let mut retry: Option<(&[Token], &str)> = None;
    loop {
        if let Some((Token::AnyRun, after)) = rest.split_first() {
            retry = Some((after, text));
            rest = after;
            continue;
        }
        let first = text.chars().next();
        match (rest.split_first(), first) {
            (None, None) => return true,
            (Some((token, after)), Some(c)) if token_matches(token, c) => {
                rest = after;
                text = text.get(c.len_utf8()..).unwrap_or_default();
                continue;
            }
            _ => {}
        }
        let Some((after, from)) = retry else { return false };
        let Some(skipped) = from.chars().next().filter(|&c| c != '/') else {
            return false;
        };
        let from = from.get(skipped.len_utf8()..).unwrap_or_default();
        retry = Some((after, from));
        rest = after;
        text = from;
    }
}

fn token_matches(token: &Token, c: char) -> bool {
    match token {
        Token::Literal(literal) => *literal == c,
        Token::AnyOne => c != '/',
        Token::Class { negated, ranges } => {
            c != '/' && ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != *negated
        }
        Token::AnyRun => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(rule: &str, path: &str) -> bool {
        Rule::parse(rule).unwrap().matches(path)
    }

    #[test]
    fn rules_match_as_documented() {
        for (rule, path, expected) in [
            ("/v1/status", "/v1/status", true),
            ("/v1/status", "/v1/statuses", false),
            ("/v1/key/list", "/v1/key/list/", true),
            ("/v1/key/list", "/v1/key/list/a", false),
            ("/v1/key/list/", "/v1/key/list/", true),
            ("/v1/key/list/*", "/v1/key/list/", true),
            ("/v1/key/create/my-key*", "/v1/key/create/my-key-2", true),
            ("/v1/key/create/my-key*", "/v1/key/create/my", false),
            ("/v1/key/*", "/v1/key/create/a", true),
            ("*", "/v1/anything/at/all", true),
            ("", "", false),
            ("", "/", false),
            (
                "/v1/key/*/my-key-internal",
                "/v1/key/decrypt/my-key-internal",
                true,
            ),
            (
                "/v1/key/*/my-key-internal",
                "/v1/key/bulk/decrypt/my-key-internal",
                false,
            ),
            ("/v1/key/*/my-key*", "/v1/key/create/my-key-7", true),
            ("/v1/key/*/my-key*", "/v1/key/create/your-key", false),
            ("/v1/key/?*", "/v1/key/create", true),
            ("/v1/key/?*", "/v1/key/create/a", false),
            ("/v1/key/create/[a-c]", "/v1/key/create/b", true),
            ("/v1/key/create/[a-c]", "/v1/key/create/d", false),
            ("/v1/key/create/[^a-c]", "/v1/key/create/d", true),
            ("/v1/key/create/[^a-c]", "/v1/key/create//", false),
            ("/v1/key/create/[a\\-]?", "/v1/key/create/-x", true),
            ("/v1/key/create/\\**", "/v1/key/create/*x", true),
            ("**", "/v1", false),
            ("/*/*", "/v1/api", true),
        ] {
            assert_eq!(matches(rule, path), expected, "{rule} against {path}");
        }
    }

    #[test]
    fn deny_wins_and_silence_denies() {
        let rules = |rules: &[&str]| rules.iter().map(|r| Rule::parse(r).unwrap()).collect::<Vec<_>>();
        let policy = Policy {
            allow: rules(&["/v1/key/create/*", "/v1/status"]),
            deny: rules(&["/v1/key/*/internal*"]),
        };
        assert!(policy.permits("/v1/key/create/a"));
        assert!(!policy.permits("/v1/key/create/internal-1"));
        assert!(!policy.permits("/v1/key/delete/a"));
        assert_eq!(
            policy.denied_by("/v1/key/create/internal-1").unwrap().as_str(),
            "/v1/key/*/internal*"
        );
        assert!(!Policy::default().permits("/v1/status"));
    }

    #[test]
    fn a_rule_covers_what_matches_no_more_than_it_does() {
        for (rule, other, expected) in [
            ("*", "/v1/status", true),
            ("/v1/key/*", "/v1/key/create/*", true),
            ("/v1/key/*", "/v1/key/*", true),
            ("/v1/key/*", "/v1/key/[a-c]*/x", true),
            ("/v1/key/a*", "/v1/key/\\a?", true),
            ("/v1/key/create/*", "/v1/key/*", false),
            ("/v1/key/create/*", "/v1/key/?reate/a", false),
            ("/v1/key/*/internal", "/v1/key/create/internal", true),
            ("/v1/key/*/internal", "/v1/key/create/*", false),
            // It matches the path with a slash at its end, too.
            ("/v1/key/list", "/v1/key/list/", false),
            ("/v1/key/list/", "/v1/key/list", false),
            ("/v1/key/list/*", "/v1/key/list", false),
            ("*", "", false),
        ] {
            let covers = Rule::parse(rule).unwrap().covers(&Rule::parse(other).unwrap());
            assert_eq!(covers, expected, "{rule} and {other}");
        }
    }

    #[test]
    fn an_unfinished_glob_is_an_error_that_names_the_rule() {
        for bad in [
            "/v1/[",
            "/v1/[]",
            "/v1/[a",
            "/v1/[a-",
            "/v1/[z-a]",
            "/v1/[-a]",
            "/v1/*\\",
            "/v1/[^",
        ] {
            let error = Rule::parse(bad).unwrap_err().to_string();
            assert!(error.contains(bad), "{error}");
        }
    }

    #[test]
    fn many_stars_do_not_take_for_ever() {
        let rule = Rule::parse(&"*a".repeat(40)).unwrap();
        assert!(!rule.matches(&"a".repeat(4000).replace("aa", "ab")));
    }

    proptest! {
        #[test]
        fn a_rule_without_wildcards_matches_itself_only(a in "/[a-z/]{0,20}[a-z]", b in "/[a-z/]{0,20}[a-z]") {
            prop_assert!(matches(&a, &a));
            prop_assert_eq!(matches(&a, &b), a == b);
        }

        #[test]
        fn a_prefix_rule_matches_as_a_prefix(prefix in "/[a-z/]{0,10}", path in "/[a-z/]{0,20}") {
            prop_assert_eq!(matches(&format!("{prefix}*"), &path), path.starts_with(&prefix));
        }

        #[test]
        fn what_is_covered_matches_nothing_else(
            rule in "/[ab/*?]{0,6}", other in "/[ab/*?]{0,6}", path in "/[ab/]{0,6}"
        ) {
            let (rule, other) = (Rule::parse(&rule).unwrap(), Rule::parse(&other).unwrap());
            if rule.covers(&other) && other.matches(&path) {
                prop_assert!(rule.matches(&path));
            }
        }

        #[test]
        fn no_rule_and_no_path_makes_it_panic(rule in any::<String>(), path in any::<String>()) {
            if let Ok(rule) = Rule::parse(&rule) {
                let _ = rule.matches(&path);
            }
        }
    }
}
