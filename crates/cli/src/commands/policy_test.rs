//! `kes policy test`: what a request would be answered, and by which rule. The server's own code decides, without a server.

mod report;
mod rules;
mod table;

use anyhow::{Context as _, anyhow, bail};
use http::{Method, Uri};
use kes_server::{Asking, Verdict};
use kes_types::{Identity, PolicyName};

use self::report::Tested;
use self::rules::Rules;
use super::identity;
use crate::args::PolicyTestArgs;
use crate::context::Context;
use crate::failure::{Failure, Outcome};

/// One request, and what should come of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Question {
    /// The line of the table.
    line: Option<usize>,
    method: Method,
    /// As it was written.
    written: String,
    who: Who,
    expected: Expected,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Who {
    Nobody,
    Identity(Identity),
    Policy(PolicyName),
}

impl Who {
    const fn asking(&self) -> Asking<'_> {
        match self {
            Self::Nobody => Asking::Nobody,
            Self::Identity(identity) => Asking::Identity(identity),
            Self::Policy(name) => Asking::Policy(name),
        }
    }

    /// Reads the word of a table: `policy:NAME`, `identity:IDENTITY`, `nobody`, an identity of 64 digits, or the name of a policy.
    fn parse(text: &str) -> anyhow::Result<Self> {
        if text == "nobody" {
            return Ok(Self::Nobody);
        }
        if let Some(name) = text.strip_prefix("policy:") {
            return Ok(Self::Policy(PolicyName::parse(name)?));
        }
        if let Some(identity) = text.strip_prefix("identity:") {
            return Ok(Self::Identity(Identity::parse(identity)?));
        }
        match Identity::parse(text).ok().filter(Identity::is_digest) {
            Some(identity) => Ok(Self::Identity(identity)),
            None => Ok(Self::Policy(PolicyName::parse(text)?)),
        }
    }
}

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Nobody => f.write_str("nobody"),
            Self::Identity(identity) => write!(f, "identity:{identity}"),
            Self::Policy(name) => write!(f, "policy:{name}"),
        }
    }
}

/// What should come of a request, and what does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Allow,
    Deny,
    /// There is no such request: neither path nor method. What was mistyped must not look as if a policy denied it.
    None,
}

impl Expected {
    fn parse(text: &str) -> anyhow::Result<Self> {
        Ok(match text.to_ascii_lowercase().as_str() {
            "allow" => Self::Allow,
            "deny" => Self::Deny,
            "none" => Self::None,
            _ => bail!("'{text}' is none of allow, deny and none"),
        })
    }

    const fn of(verdict: &Verdict<'_>) -> Self {
        match verdict {
            Verdict::Permitted { .. } => Self::Allow,
            Verdict::Refused { .. } | Verdict::ForwardsNobody { .. } | Verdict::NoConnection => Self::Deny,
            Verdict::NoRoute | Verdict::WrongMethod { .. } => Self::None,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::None => "none",
        }
    }
}

pub(crate) fn run(args: PolicyTestArgs, context: &mut Context<'_>) -> Outcome {
    let PolicyTestArgs {
        method,
        path,
        expected,
        config,
        policy_file,
        policy,
        identity,
        nobody,
        table,
        json,
        color,
        connection,
    } = args;
    context.set_color(color.when);
    let who = who(policy.as_deref(), identity.as_deref(), nobody)?;
    let questions = match (&table, method, path) {
        (Some(file), _, _) => table::read(file, who.as_ref())?,
        (None, Some(method), Some(path)) => vec![single(&method, &path, expected.as_deref(), who)?],
        (None, _, _) => return Err(usage("name a METHOD and a PATH, or a --table FILE")),
    };
    let rules = match (config, policy_file) {
        (Some(config), _) => Rules::of_configuration(&config, context)?,
        (None, Some(file)) => Rules::of_policy_file(&file, context)?,
        (None, None) if connection.server.is_some() => Rules::of_server(&connection, &questions, context)?,
        (None, None) => {
            return Err(usage(
                "name where the policies are: --config FILE, --policy-file FILE or --server HOST[:PORT]",
            ));
        }
    };
    let mut tested = Vec::with_capacity(questions.len());
    for question in &questions {
        tested.push(test(question, &rules)?);
    }
    report::print(&tested, table.is_some(), json, context.output)?;
    context.output.flush()?;
    if tested.iter().all(Tested::is_as_expected) {
        Ok(())
    } else {
        Err(Failure::Found(1))
    }
}

fn usage(message: &str) -> Failure {
    Failure::Usage(format!(
        "{message}; see '{} policy test --help'",
        crate::args::program()
    ))
}

/// Who the options say that asks.
fn who(policy: Option<&str>, identity: Option<&str>, nobody: bool) -> anyhow::Result<Option<Who>> {
    if nobody {
        return Ok(Some(Who::Nobody));
    }
    if let Some(name) = policy {
        return Ok(Some(Who::Policy(PolicyName::parse(name)?)));
    }
    identity
        .map(|subject| Ok(Who::Identity(identity::identity_of(subject)?)))
        .transpose()
}

/// The question of the command line.
fn single(method: &str, path: &str, expected: Option<&str>, who: Option<Who>) -> Outcome<Question> {
    let expected = expected.map_or(Ok(Expected::Allow), |text| {
        Expected::parse(text).map_err(|error| usage(&format!("invalid value {error}")))
    })?;
    let who = who.ok_or_else(|| usage("say who asks: --policy NAME, --identity WHO or --nobody"))?;
    Ok(question(None, method, path, expected, who)?)
}

fn question(
    line: Option<usize>,
    method: &str,
    path: &str,
    expected: Expected,
    who: Who,
) -> anyhow::Result<Question> {
    let method = Method::from_bytes(method.to_ascii_uppercase().as_bytes())
        .map_err(|_| anyhow!("'{method}' is not an HTTP method"))?;
    request_path(path)?;
    Ok(Question {
        line,
        method,
        written: path.to_owned(),
        who,
        expected,
    })
}

/// The path of a request as a server sees it: a URL may have been written, or a query behind it.
fn request_path(written: &str) -> anyhow::Result<Uri> {
    let uri: Uri = written
        .parse()
        .ok()
        .filter(|uri: &Uri| uri.path().starts_with('/'))
        .with_context(|| {
            format!(
                "'{}' is not the path of a request, such as /v1/key/create/my-key",
                crate::output::harmless(written)
            )
        })?;
    Ok(uri)
}

fn test<'a>(question: &'a Question, rules: &'a Rules) -> anyhow::Result<Tested<'a>> {
    let uri = request_path(&question.written)?;
    let judged = rules
        .authorization
        .judge(question.who.asking(), &question.method, uri.path());
    let verdict = judged.with_context(|| match question.line {
        Some(line) => format!("line {line} of the table"),
        None => rules.name.clone(),
    })?;
    Ok(Tested::new(question, verdict, rules))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_of_a_table_says_who_asks() {
        let digest = "a".repeat(64);
        for (text, shown) in [
            ("nobody", "nobody".to_owned()),
            ("minio", "policy:minio".to_owned()),
            ("policy:nobody", "policy:nobody".to_owned()),
            ("identity:minio", "identity:minio".to_owned()),
            (&digest, format!("identity:{digest}")),
        ] {
            assert_eq!(Who::parse(text).unwrap().to_string(), shown);
        }
        for bad in ["", "a.b", "policy:", "identity:-"] {
            assert!(Who::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_path_may_come_as_a_url_or_with_a_query() {
        for (written, path) in [
            ("/v1/status", "/v1/status"),
            ("https://kes:7373/v1/key/list/a*", "/v1/key/list/a*"),
            ("/v1/key/create/a?enclave=b", "/v1/key/create/a"),
            ("/v1/key/create/a%2Fb", "/v1/key/create/a%2Fb"),
        ] {
            assert_eq!(request_path(written).unwrap().path(), path);
        }
        for bad in ["", "v1/status", "*", "/v1/ key", "kes:7373", "\u{1b}[2J"] {
            assert!(request_path(bad).is_err(), "{bad}");
        }
    }
}
