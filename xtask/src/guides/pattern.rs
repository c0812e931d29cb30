//! What a command prints, written down with places for what differs each time.
//!
//! `{identity}` is one of 64 hexadecimal digits, and so on as [`KINDS`] says; `{identity CLIENT}` also keeps it as `CLIENT`, which has
//! to be the same wherever it comes again and which commands have as a variable. A line of `...` is any number of lines.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};

/// The values that have been kept.
pub(super) type Values = BTreeMap<String, String>;

/// What a place can be for, the characters it has, and how many at least and at most.
type Kind = (&'static str, fn(char) -> bool, usize, usize);

const KINDS: &[Kind] = &[
    ("identity", |c| matches!(c, '0'..='9' | 'a'..='f'), 64, 64),
    ("api-key", |c| base64(c) || c == ':', 50, 60),
    ("base64", base64, 4, usize::MAX),
    ("word", |c| !c.is_whitespace() && c != '"', 1, usize::MAX),
    ("text", |_| true, 0, usize::MAX),
];

fn base64(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=')
}

/// Compares what was printed with what is expected, and keeps values. Blanks at the ends of lines do not count.
pub(super) fn compare(expected: &str, printed: &str, values: &mut Values) -> Result<()> {
    let expected: Vec<&str> = expected.trim_end().lines().map(str::trim_end).collect();
    let printed: Vec<&str> = printed.trim_end().lines().map(str::trim_end).collect();
    let mut found = values.clone();
    ensure!(
        lines(&expected, &printed, &mut found)?,
        "this was expected:\n{}\nand this was printed:\n{}",
        expected.join("\n"),
        printed.join("\n")
    );
    *values = found;
    Ok(())
}

/// Fails if a pattern has a place that is for nothing.
#[cfg(test)]
pub(super) fn check(expected: &str) -> Result<()> {
    expected.lines().try_for_each(|line| parts(line).map(drop))
}

fn lines(expected: &[&str], printed: &[&str], values: &mut Values) -> Result<bool> {
    let Some((first, rest)) = expected.split_first() else {
        return Ok(printed.is_empty());
    };
    if *first == "..." {
        for skipped in 0..=printed.len() {
            let mut tried = values.clone();
            if lines(rest, printed.get(skipped..).unwrap_or_default(), &mut tried)? {
                *values = tried;
                return Ok(true);
            }
        }
        return Ok(false);
    }
    let Some((line, others)) = printed.split_first() else {
        return Ok(false);
    };
    Ok(one(&parts(first)?, line, values) && lines(rest, others, values)?)
}

#[derive(Debug)]
enum Part<'a> {
    Text(&'a str),
    Place {
        may_have: fn(char) -> bool,
        least: usize,
        most: usize,
        name: Option<&'a str>,
    },
}

fn parts(line: &str) -> Result<Vec<Part<'_>>> {
    let mut parts = Vec::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('{') {
        // A brace of JSON or of a data key is a brace.
        let place = after.split_once('}').filter(|(inside, _)| {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | ' ');
            !inside.is_empty() && inside.chars().all(is_plain)
        });
        let Some((inside, behind)) = place else {
            let (text, other) = rest.split_at(before.len() + 1);
            parts.push(Part::Text(text));
            rest = other;
            continue;
        };
        let (kind, name) = match inside.split_once(' ') {
            Some((kind, name)) => (kind, Some(name)),
            None => (inside, None),
        };
        let Some((_, may_have, least, most)) = KINDS.iter().find(|(known, ..)| *known == kind) else {
            bail!("{{{inside}}} is not a place for anything");
        };
        parts.push(Part::Text(before));
        parts.push(Part::Place {
            may_have: *may_have,
            least: *least,
            most: *most,
            name,
        });
        rest = behind;
    }
    parts.push(Part::Text(rest));
    Ok(parts)
}

fn one(parts: &[Part<'_>], text: &str, values: &mut Values) -> bool {
    let Some((first, rest)) = parts.split_first() else {
        return text.is_empty();
    };
    match first {
        Part::Text(expected) => text
            .strip_prefix(expected)
            .is_some_and(|text| one(rest, text, values)),
        Part::Place {
            may_have,
            least,
            most,
            name,
        } => {
            let fits = text.chars().take(*most).take_while(|c| may_have(*c)).count();
            // The longest that lets the rest of the line fit.
            (*least..=fits).rev().any(|length| {
                let end = text.char_indices().nth(length).map_or(text.len(), |(at, _)| at);
                let (value, behind) = text.split_at(end);
                let mut tried = values.clone();
                if let Some(name) = name {
                    let kept = tried
                        .entry((*name).to_owned())
                        .or_insert_with(|| value.to_owned());
                    if kept != value {
                        return false;
                    }
                }
                let matched = one(rest, behind, &mut tried);
                if matched {
                    *values = tried;
                }
                matched
            })
        }
    }
}

/// What a terminal has shown, without colours and the returns of its lines.
pub(super) fn plain(shown: &str) -> Result<String> {
    let mut text = String::with_capacity(shown.len());
    let mut rest = shown;
    while let Some((before, after)) = rest.split_once("\x1b[") {
        text.push_str(before);
        let end = after
            .find(|c: char| c.is_ascii_alphabetic())
            .context("a sequence for the terminal has no end")?;
        rest = after.get(end + 1..).unwrap_or_default();
    }
    text.push_str(rest);
    Ok(text.replace("\r\n", "\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agree(expected: &str, printed: &str) -> bool {
        compare(expected, printed, &mut Values::new()).is_ok()
    }

    #[test]
    fn places_take_what_they_are_for() {
        let identity = "ab".repeat(32);
        assert!(agree(
            "Identity:  {identity}",
            &format!("Identity:  {identity}\n")
        ));
        assert!(!agree("Identity:  {identity}", "Identity:  abab"));
        assert!(!agree(
            "Identity:  {identity}",
            &format!("Identity:  {identity}a")
        ));
        assert!(agree("{\n  a : {base64}\n}\n", "{\n  a : AAEC/+==\n}"));
        assert!(agree("{\"a\":\"{base64}\"}", "{\"a\":\"AAEC\"}"));
        assert!(agree("a {text} b", "a x b y b"));
        assert!(check("{nonsense}").is_err());
    }

    #[test]
    fn what_is_kept_has_to_come_again() {
        let mut values = Values::new();
        compare("{word NAME} of {word PLACE}", "a of b", &mut values).unwrap();
        assert_eq!(values.get("NAME").map(String::as_str), Some("a"));
        compare("{word NAME}", "a", &mut values).unwrap();
        assert!(compare("{word NAME}", "c", &mut values).is_err());
    }

    #[test]
    fn three_dots_are_any_number_of_lines() {
        assert!(agree("...\nb\n...", "a\nb\nc\nd"));
        assert!(agree("a\n...\nb", "a\nb"));
        assert!(!agree("a\n...", "b\na"));
    }

    #[test]
    fn colours_do_not_count() {
        assert_eq!(plain("\x1b[1;32mgreen\x1b[0m\r\nb\r\n").unwrap(), "green\nb\n");
    }
}
