//! The table of requests: one a line, `METHOD PATH allow|deny|none [WHO]`, with comments after `#`.

use std::io::{self, Read as _};
use std::path::Path;

use anyhow::{Context as _, anyhow};

use super::{Expected, Question, Who, question};
use crate::failure::{Failure, Outcome};

/// The largest table: many more requests than anybody writes down.
const MAX_SIZE: u64 = 4 << 20;

/// Reads the table in `file`, or on the standard input for `-`. Lines that name nobody are about `default`.
pub(super) fn read(file: &Path, default: Option<&Who>) -> Outcome<Vec<Question>> {
    let is_stdin = file == Path::new("-");
    let name = if is_stdin {
        "standard input".to_owned()
    } else {
        file.display().to_string()
    };
    let bytes = if is_stdin {
        bytes(io::stdin().lock())
    } else {
        std::fs::File::open(file).and_then(bytes)
    };
    let bytes = bytes.with_context(|| format!("cannot read {name}"))?;
    if bytes.len() as u64 > MAX_SIZE {
        return Err(anyhow!("{name}: is larger than 4 MiB").into());
    }
    let text = String::from_utf8(bytes).map_err(|_| anyhow!("{name}: is not UTF-8 text"))?;
    parse(&text, &name, default)
}

fn bytes(from: impl io::Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(MAX_SIZE + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The requests of a table, or everything that is wrong with it.
fn parse(text: &str, name: &str, default: Option<&Who>) -> Outcome<Vec<Question>> {
    let (mut questions, mut errors) = (Vec::new(), Vec::new());
    for (line, content) in (1..).zip(text.lines()) {
        let words: Vec<_> = content
            .split_whitespace()
            .take_while(|word| !word.starts_with('#'))
            .collect();
        if words.is_empty() {
            continue;
        }
        match one(line, &words, default) {
            Ok(question) => questions.push(question),
            Err(error) => errors.push(format!("{name}:{line}: {error:#}")),
        }
    }
    if questions.is_empty() && errors.is_empty() {
        errors.push(format!(
            "{name}: has no line such as: PUT /v1/key/create/my-key allow"
        ));
    }
    if errors.is_empty() {
        Ok(questions)
    } else {
        Err(Failure::Errors(errors))
    }
}

fn one(line: usize, words: &[&str], default: Option<&Who>) -> anyhow::Result<Question> {
    let (method, path, expected, who) = match words {
        [method, path, expected] => (method, path, expected, None),
        [method, path, expected, who] => (method, path, expected, Some(Who::parse(who)?)),
        _ => return Err(anyhow!("want METHOD PATH allow|deny|none [WHO]")),
    };
    let who = who
        .or_else(|| default.cloned())
        .context("does not say who asks, and neither does --policy, --identity or --nobody")?;
    question(Some(line), method, path, Expected::parse(expected)?, who)
}

#[cfg(test)]
mod tests {
    use kes_types::PolicyName;

    use super::*;

    fn errors(text: &str, default: Option<&Who>) -> Vec<String> {
        match parse(text, "table", default) {
            Err(Failure::Errors(errors)) => errors,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn each_line_is_a_request() {
        let minio = Who::Policy(PolicyName::parse("minio").unwrap());
        let text = "\
# what MinIO needs
put  /v1/key/create/a   allow          # without WHO
GET /v1/status\tDENY nobody\r

GET /v2/a none policy:other
";
        let questions = parse(text, "table", Some(&minio)).unwrap();
        let shown: Vec<_> = questions
            .iter()
            .map(|q| {
                format!(
                    "{:?} {} {} {} {}",
                    q.line,
                    q.method,
                    q.written,
                    q.expected.name(),
                    q.who
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                "Some(2) PUT /v1/key/create/a allow policy:minio",
                "Some(3) GET /v1/status deny nobody",
                "Some(5) GET /v2/a none policy:other",
            ]
        );
    }

    #[test]
    fn everything_that_is_wrong_is_told_with_its_line() {
        let text = "GET /v1/status\nGET v1/status deny a\nG(T /a deny a\nGET /a maybe a\nGET /a deny a.b\nGET /a deny\n";
        let errors = errors(text, None);
        assert_eq!(errors.len(), 6, "{errors:#?}");
        for (line, error) in (1..).zip(&errors) {
            assert!(error.starts_with(&format!("table:{line}: ")), "{error}");
        }
    }

    #[test]
    fn a_table_without_requests_tests_nothing_and_is_wrong() {
        assert!(errors("", None)[0].contains("has no line"));
        assert!(errors("# nothing\n", None)[0].contains("has no line"));
    }
}
