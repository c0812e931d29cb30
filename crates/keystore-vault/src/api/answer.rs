//! What an answer means.

use std::time::Duration;

use kes_crypto::SecretBytes;
use kes_keystore_http::{Answer, StatusCode, retry_after};
use serde::Deserialize;

use super::{ApiError, Call, Problem};

/// The answer to what succeeded.
#[derive(Debug)]
pub(crate) struct Reply {
    /// The status, which is a success.
    pub(crate) status: StatusCode,
    body: SecretBytes,
    asked: ApiError,
}

impl Reply {
    /// The body as JSON of this shape.
    pub(crate) fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T, ApiError> {
        // What serde_json would say about the body may quote it.
        serde_json::from_slice(self.body.expose_secret())
            .map_err(|_| self.unexpected("an answer of another shape than Vault's"))
    }

    /// That a write or a deletion was carried out. No other status says so.
    pub(crate) fn done(&self) -> Result<(), ApiError> {
        match self.status {
            StatusCode::OK | StatusCode::NO_CONTENT => Ok(()),
            _ => Err(self.unexpected("a status that does not say that it is done")),
        }
    }

    /// The error of an answer that is no answer to what was asked.
    pub(crate) fn unexpected(&self, what: &'static str) -> ApiError {
        self.asked.with(Problem::BadAnswer(what))
    }
}

/// What Vault answers when it refuses, and what it says of entries that it does not show.
#[derive(Deserialize)]
struct Refusal {
    errors: Option<Vec<String>>,
    #[serde(default)]
    warnings: Option<Vec<String>>,
    data: Option<serde::de::IgnoredAny>,
}

/// The answer as a success or an error.
pub(super) fn read(call: &Call<'_>, answer: Answer) -> Result<Reply, ApiError> {
    let Answer {
        status,
        headers,
        body,
    } = answer;
    if status.is_success() {
        return Ok(Reply {
            status,
            body,
            asked: ApiError::new(call, Problem::BadAnswer("")),
        });
    }
    Err(ApiError::new(
        call,
        problem(call, status, body, retry_after(&headers)),
    ))
}

fn problem(call: &Call<'_>, status: StatusCode, body: SecretBytes, retry_after: Option<Duration>) -> Problem {
    let refusal = serde_json::from_slice::<Refusal>(body.expose_secret()).ok();
    let says = refusal
        .as_ref()
        .map(|refusal| says(call, refusal))
        .unwrap_or_default();
    match status.as_u16() {
        // An engine that was mounted or upgraded a moment ago.
        400 if says.contains("will resume service shortly") => Problem::Unavailable { retry_after, says },
        // A web server that is asked without TLS where it wants it says so in plain text.
        400 if refusal.is_none() => Problem::BadAnswer(
            "status 400, and not from Vault: does keystore.vault.endpoint begin with the right one of http:// and https://, and lead to Vault?",
        ),
        400 => Problem::Refused { says },
        403 => Problem::Denied { says },
        404 => match refusal {
            // A path of the other version of the engine.
            Some(Refusal {
                errors,
                warnings: Some(warnings),
                ..
            }) if errors.as_ref().is_none_or(Vec::is_empty) && !warnings.is_empty() => {
                Problem::NoSuchPath { says }
            }
            Some(Refusal {
                errors: Some(errors), ..
            }) if !errors.is_empty() => Problem::NoSuchPath { says },
            Some(Refusal {
                errors: Some(_),
                data: None,
                ..
            }) => Problem::Absent,
            Some(Refusal { data: Some(_), .. }) => Problem::Hidden { body },
            // Not from Vault: what is in front of it knows no such page. It must not pass for an absent key.
            Some(_) | None => Problem::NoSuchPath { says },
        },
        412 => Problem::Behind,
        429 => Problem::Throttled { retry_after },
        472 | 473 => Problem::NotActive { status },
        501 => Problem::NotInitialised,
        503 if says.to_ascii_lowercase().contains("sealed") => Problem::Sealed,
        503 => Problem::Unavailable { retry_after, says },
        500..=599 => Problem::Failed { status, says },
        300..=399 => Problem::Redirect("of a kind that is not followed"),
        _ => Problem::Unexpected { status, says },
    }
}

/// What the server says, in one line, and without what must not be repeated.
fn says(call: &Call<'_>, refusal: &Refusal) -> String {
    let texts = [&refusal.errors, &refusal.warnings];
    let texts = texts.into_iter().flatten().flatten();
    let text = texts
        .flat_map(|text| text.split_whitespace())
        .collect::<Vec<_>>()
        .join(" ");
    if repeats(call, &text) {
        return "what it says is not shown, because it repeats what was sent".to_owned();
    }
    let text = text.trim_end_matches('.');
    let mut line: String = text.chars().filter(|c| !c.is_control()).take(SHOWN).collect();
    if text.chars().nth(SHOWN).is_some() {
        line.push('…');
    }
    line
}

/// Whether `text` holds the token or a part of the secret that was sent, in whatever notation.
fn repeats(call: &Call<'_>, text: &str) -> bool {
    let token = call.token.as_ref().and_then(|token| token.to_str().ok());
    let secret = call.body.map(|body| body.secret.as_str());
    let separator = |c: char| !(c.is_ascii_alphanumeric() || "+/=_-.".contains(c));
    [token, secret]
        .into_iter()
        .flatten()
        .flat_map(|secret| secret.split(separator))
        .any(|part| part.len() >= TELLING && text.contains(part))
}

/// How much of what the server says is shown.
const SHOWN: usize = 300;

/// Parts of secrets that are shorter than this are words that a server says anyway.
const TELLING: usize = 8;

#[cfg(test)]
mod tests {
    use kes_keystore_http::{HeaderMap, HeaderValue, Method};

    use super::super::Body;
    use super::*;
    use crate::path::Path;

    fn answer(status: u16, body: &str) -> Answer {
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: SecretBytes::copy_of(body.as_bytes()),
        }
    }

    fn read_plain(status: u16, body: &str) -> Problem {
        let path = Path::fixed("kv/x");
        let call = Call::new(Method::GET, &path);
        read(&call, answer(status, body)).unwrap_err().problem
    }

    #[test]
    fn each_status_has_its_meaning() {
        let says = r#"{"errors":["1 error occurred:\n\t* permission denied\n\n"]}"#;
        for (status, body, expected) in [
            (400, says, "Refused"),
            (
                400,
                "Client sent an HTTP request to an HTTPS server.\n",
                "BadAnswer",
            ),
            (403, says, "Denied"),
            (404, r#"{"errors":[]}"#, "Absent"),
            (
                404,
                r#"{"errors":["no handler for route \"kv/x\""]}"#,
                "NoSuchPath",
            ),
            (
                404,
                r#"{"errors":[],"warnings":["Invalid path for a versioned K/V secrets engine"]}"#,
                "NoSuchPath",
            ),
            (404, "<html>not found</html>", "NoSuchPath"),
            (404, "", "NoSuchPath"),
            (404, "{}", "NoSuchPath"),
            (
                404,
                r#"{"data":{"data":null,"metadata":{"deletion_time":"x"}}}"#,
                "Hidden",
            ),
            (412, "", "Behind"),
            (429, "", "Throttled"),
            (472, "", "NotActive"),
            (473, "", "NotActive"),
            (501, "", "NotInitialised"),
            (503, r#"{"errors":["Vault is sealed"]}"#, "Sealed"),
            (503, r#"{"errors":["maintenance"]}"#, "Unavailable"),
            (503, "<html>no server is available", "Unavailable"),
            (500, "", "Failed"),
            (502, "", "Failed"),
            (302, "", "Redirect"),
            (418, "", "Unexpected"),
        ] {
            let problem = format!("{:?}", read_plain(status, body));
            assert!(problem.starts_with(expected), "{status} {body}: {problem}");
        }
    }

    #[test]
    fn what_the_server_says_is_one_short_line() {
        let problem = read_plain(
            400,
            r#"{"errors":["1 error occurred:\n\t* no\u0007\n\n","and more"]}"#,
        );
        let Problem::Refused { says } = problem else {
            panic!("{problem:?}");
        };
        assert_eq!(says, "1 error occurred: * no and more");

        let long = format!(r#"{{"errors":["{}"]}}"#, "x".repeat(5000));
        let Problem::Refused { says } = read_plain(400, &long) else {
            panic!("another problem");
        };
        assert_eq!(says.chars().count(), SHOWN + 1);
    }

    #[test]
    fn a_server_that_repeats_what_was_sent_is_not_quoted() {
        let path = Path::fixed("kv/x");
        let body = Body::new(&"unused", r#"{"bytes":"AAECAwQFBgcICQoLDA0ODw=="}"#);
        let call = Call {
            token: Some(HeaderValue::from_static("hvs.CAESIJ-secret")),
            body: Some(&body),
            ..Call::new(Method::PUT, &path)
        };
        for echo in [
            "token hvs.CAESIJ-secret is bad",
            "bad value AAECAwQFBgcICQoLDA0ODw== given",
        ] {
            let refused = read(&call, answer(400, &format!(r#"{{"errors":["{echo}"]}}"#))).unwrap_err();
            let shown = format!("{refused} {refused:?}");
            assert!(!shown.contains("CAESIJ") && !shown.contains("AAECAw"), "{shown}");
        }
        let refused = read(&call, answer(400, r#"{"errors":["permission denied"]}"#)).unwrap_err();
        assert!(refused.to_string().contains("permission denied"), "{refused}");
    }
}
