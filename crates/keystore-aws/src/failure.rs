//! What the service's refusals mean. They are told apart by their type, never by the status of the answer.

use std::borrow::Cow;
use std::error::Error;
use std::time::Duration;

use aws_sdk_secretsmanager::config::http::HttpResponse;
use aws_sdk_secretsmanager::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::result::ConnectorError;
use kes_keystore::StoreError;
use kes_keystore_http::{HeaderMap, HeaderValue, SendError, header, retry_after};

use crate::credentials::LoadError;

/// What is asked of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Create,
    Get,
    Delete,
    List,
}

impl Call {
    /// The permission that it needs.
    pub(crate) const fn action(self) -> &'static str {
        match self {
            Self::Create => "secretsmanager:CreateSecret",
            Self::Get => "secretsmanager:GetSecretValue",
            Self::Delete => "secretsmanager:DeleteSecret",
            Self::List => "secretsmanager:ListSecrets",
        }
    }

    /// What the service needs to be allowed to do with the KMS key on our behalf.
    const fn kms_action(self) -> &'static str {
        match self {
            Self::Create => "kms:GenerateDataKey",
            Self::Get | Self::Delete | Self::List => "kms:Decrypt",
        }
    }
}

/// How an attempt failed.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    /// One line for the log.
    pub(crate) text: String,
}

/// The differences that matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The name is taken.
    Exists,
    /// There is no such secret.
    NotFound,
    /// The secret is scheduled for deletion.
    Scheduled,
    /// The service asks for fewer requests.
    Throttled { retry_after: Option<Duration> },
    /// No valid answer, or none but that the service is not available. It may have done what it was asked all the same,
    /// unless the request certainly has not arrived.
    Unavailable {
        may_have_arrived: bool,
        retry_after: Option<Duration>,
    },
    /// The credentials were good once.
    Outdated,
    /// The credentials are not good.
    AuthFailed,
    /// The credentials may not do this.
    Denied,
    /// KMS does not let the service use the key.
    Kms(KmsCause),
    /// The answer is about another secret.
    Another,
    /// Anything else.
    Other,
}

/// Why the service cannot use a KMS key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KmsCause {
    Denied,
    Disabled,
    PendingDeletion,
    NotFound,
    Unknown,
}

impl Failure {
    /// What the SDK's error means for `call`. `secret` are texts that must not be quoted.
    pub(crate) fn of<E>(error: &SdkError<E, HttpResponse>, secret: &[&str]) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        match error {
            SdkError::ServiceError(answer) => {
                let error = answer.err();
                Self::of_answer(error.code(), error.message(), answer.raw(), secret)
            }
            SdkError::ResponseError(answer) => Self::foreign(answer.raw().status().as_u16()),
            SdkError::TimeoutError(_) => Self::unanswered("no answer in time".to_owned()),
            SdkError::DispatchFailure(failure) => match failure.as_connector_error() {
                Some(error) => Self::of_connector(error),
                None => Self::unanswered("the request could not be sent".to_owned()),
            },
            // The request was never sent.
            error => Self {
                kind: Kind::Other,
                text: chain(error),
            },
        }
    }

    fn of_connector(error: &ConnectorError) -> Self {
        match find::<SendError>(error) {
            Some(error) => Self {
                kind: Kind::Unavailable {
                    may_have_arrived: error.may_have_arrived(),
                    retry_after: None,
                },
                text: error.to_string(),
            },
            None => Self::unanswered(chain(error)),
        }
    }

    fn of_answer(code: Option<&str>, message: Option<&str>, raw: &HttpResponse, secret: &[&str]) -> Self {
        let status = raw.status().as_u16();
        if raw.status().is_success() {
            return Self::foreign(status);
        }
        let retry_after = asked_wait(raw);
        let body = raw.body().bytes().and_then(|body| std::str::from_utf8(body).ok());
        // What stands in front of the service answers in XML at times.
        let xml = |tag| body.and_then(|body| element(body, tag));
        let code = code.or_else(|| xml("Code"));
        let message = cleaned(message.or_else(|| xml("Message")).unwrap_or_default(), secret);
        let mut text = match code {
            Some(code) if message.is_empty() => cleaned(code, secret),
            Some(code) => format!("{}: {message}", cleaned(code, secret)),
            None => format!("an answer with status {status} and without a type"),
        };
        if ["RequestExpired", "Signature expired", "Signature not yet current"]
            .iter()
            .any(|late| text.contains(late))
        {
            text.push_str("; set this machine's clock right");
        }
        let kind = match code {
            Some(code) => kind_of(code, &message, retry_after),
            None if status == 429 => Kind::Throttled { retry_after },
            None if status >= 500 => Kind::Unavailable {
                may_have_arrived: true,
                retry_after,
            },
            None => Kind::Other,
        };
        Self { kind, text }
    }

    /// A success that is no answer of this service, or only half of one.
    fn foreign(status: u16) -> Self {
        Self::unanswered(format!(
            "what answers (status {status}) is not Secrets Manager, or its answer is incomplete"
        ))
    }

    /// A success without what each answer of the service has.
    pub(crate) fn incomplete() -> Self {
        Self::unanswered(
            "what answers is not Secrets Manager: its answer lacks what all of them have".to_owned(),
        )
    }

    /// There was no answer, and the request may have arrived.
    pub(crate) const fn unanswered(text: String) -> Self {
        Self {
            kind: Kind::Unavailable {
                may_have_arrived: true,
                retry_after: None,
            },
            text,
        }
    }

    /// There were no credentials to ask with.
    pub(crate) fn without_credentials(error: &LoadError) -> Self {
        Self {
            kind: if error.out_of_reach {
                Kind::Unavailable {
                    may_have_arrived: false,
                    retry_after: None,
                }
            } else {
                Kind::AuthFailed
            },
            text: error.to_string(),
        }
    }

    /// Whether what was asked may have happened.
    pub(crate) const fn may_have_arrived(&self) -> bool {
        matches!(
            self.kind,
            Kind::Unavailable {
                may_have_arrived: true,
                ..
            }
        )
    }

    /// The error of the store. `name` is the key, if it was about one, and `kmskey` the configured KMS key.
    pub(crate) fn into_error(
        self,
        store: &str,
        call: Call,
        name: Option<&str>,
        kmskey: Option<&str>,
    ) -> StoreError {
        let Self { kind, text } = self;
        let store = store.to_owned();
        let about = name.unwrap_or("*");
        match kind {
            Kind::Exists => StoreError::Exists,
            Kind::NotFound => StoreError::NotFound,
            Kind::Scheduled => StoreError::Disabled { store },
            Kind::Throttled { retry_after } => StoreError::Throttled { store, retry_after },
            Kind::Unavailable { .. } => StoreError::Unreachable {
                store,
                source: Cause(text).into(),
            },
            Kind::Outdated | Kind::AuthFailed => StoreError::AuthFailed {
                store,
                source: Cause(text).into(),
            },
            Kind::Denied => StoreError::Denied {
                store,
                hint: format!("the credentials need {} on {about} ({text})", call.action()),
            },
            Kind::Kms(cause) => {
                let action = call.kms_action();
                // A secret may be encrypted with another key than new ones are.
                let key = match (call, kmskey) {
                    (Call::Create, Some(key)) => format!("the KMS key {key}"),
                    (Call::Create, None) => "the default KMS key aws/secretsmanager".to_owned(),
                    (Call::Get | Call::Delete | Call::List, Some(key)) => {
                        format!(
                            "the KMS key of the secret {about} ({key}, unless it was created with another one)"
                        )
                    }
                    (Call::Get | Call::Delete | Call::List, None) => {
                        format!("the KMS key of the secret {about}")
                    }
                };
                match cause {
                    KmsCause::Denied => StoreError::Denied {
                        store,
                        hint: format!(
                            "the credentials need {action} on {key}, in their policy or in that of the key ({text})"
                        ),
                    },
                    KmsCause::Disabled => StoreError::Backend {
                        store,
                        source: Cause(format!("{key} is disabled: enable it with `aws kms enable-key` ({text})")).into(),
                    },
                    KmsCause::PendingDeletion => StoreError::Backend {
                        store,
                        source: Cause(format!(
                            "{key} is scheduled for deletion: keep it with `aws kms cancel-key-deletion` and \
                             `aws kms enable-key`, or everything encrypted with it is lost ({text})"
                        ))
                        .into(),
                    },
                    KmsCause::NotFound => StoreError::Backend {
                        store,
                        source: Cause(format!(
                            "{key} does not exist in this account and region, or is not a symmetric key: \
                             see keystore.aws.secretsmanager.kmskey ({text})"
                        ))
                        .into(),
                    },
                    KmsCause::Unknown => StoreError::Backend {
                        store,
                        source: Cause(format!(
                            "{key} cannot be used: it has to be enabled, and {action} on it permitted ({text})"
                        ))
                        .into(),
                    },
                }
            }
            Kind::Another | Kind::Other => StoreError::Backend {
                store,
                source: Cause(text).into(),
            },
        }
    }
}

/// What went wrong, as one line.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Cause(pub(crate) String);

fn kind_of(code: &str, message: &str, retry_after: Option<Duration>) -> Kind {
    match code {
        "ResourceExistsException" => Kind::Exists,
        "ThrottlingException"
        | "Throttling"
        | "ThrottledException"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "RequestLimitExceeded"
        | "TooManyRequestsException"
        | "SlowDown" => Kind::Throttled { retry_after },
        "InternalServiceError"
        | "InternalServiceErrorException"
        | "InternalServerError"
        | "InternalFailure"
        | "InternalError"
        | "ServiceUnavailable"
        | "ServiceUnavailableException"
        | "RequestTimeout"
        | "RequestTimeoutException" => Kind::Unavailable {
            may_have_arrived: true,
            retry_after,
        },
        "ExpiredTokenException" | "ExpiredToken" | "UnrecognizedClientException" | "InvalidClientTokenId" => {
            Kind::Outdated
        }
        "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "IncompleteSignature"
        | "IncompleteSignatureException"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "RequestExpired"
        | "InvalidAccessKeyId"
        | "AuthFailure"
        | "OptInRequired" => Kind::AuthFailed,
        _ if is_kms_in_trouble(code, message) => Kind::Unavailable {
            may_have_arrived: true,
            retry_after,
        },
        "EncryptionFailure" | "DecryptionFailure" => Kind::Kms(kms_cause("", message)),
        _ if speaks_of_kms(code, message) => Kind::Kms(match code {
            "AccessDeniedException" | "AccessDenied" => KmsCause::Denied,
            _ => kms_cause(code, message),
        }),
        "ResourceNotFoundException" => Kind::NotFound,
        "AccessDeniedException" | "AccessDenied" | "UnauthorizedOperation" | "NotAuthorized" => Kind::Denied,
        "InvalidRequestException" if speaks_of_deletion(message) => Kind::Scheduled,
        _ => Kind::Other,
    }
}

/// Whether KMS refuses, rather than Secrets Manager itself. Messages quote ARNs, and with them the names of keys and users, which
/// may have anything in them.
fn speaks_of_kms(code: &str, message: &str) -> bool {
    const PERFORM: &str = "to perform: ";
    if code.starts_with("KMS") {
        return true;
    }
    // "User: ARN is not authorized to perform: kms:Decrypt on the resource ..."
    if let Some((_, action)) = message.split_once(PERFORM) {
        return action.trim_start().starts_with("kms:");
    }
    let says = |word: &str| {
        let is_arn = word.starts_with("arn:") && word.split(':').nth(2) == Some("kms");
        let is_error = word.starts_with("KMS") && word.ends_with("Exception");
        is_arn || is_error || word.starts_with("kms:") || matches!(word, "KMS" | "AWSKMS")
    };
    let punctuation = |c: char| !c.is_ascii_alphanumeric();
    message
        .split_whitespace()
        .any(|word| says(word.trim_matches(punctuation)))
        // What KMS says to those who may not even know whether there is such a key.
        || message.contains("customer master key")
}

/// Whether KMS does not refuse, but has failed for the moment.
fn is_kms_in_trouble(code: &str, message: &str) -> bool {
    const TROUBLES: [&str; 3] = [
        "KMSInternalException",
        "DependencyTimeoutException",
        "KeyUnavailableException",
    ];
    message
        .split(|c: char| !c.is_ascii_alphanumeric())
        .chain([code])
        .any(|word| TROUBLES.contains(&word))
}

/// Whether the secret is scheduled for deletion: "You can't perform this operation on the secret because it was marked for
/// deletion", and for a name that is to be created: "... because a secret with this name is already scheduled for deletion".
/// That a secret cannot be deleted is something else. No name has a blank in it.
fn speaks_of_deletion(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    [
        "for deletion",
        "marked deleted",
        "marked as deleted",
        "being deleted",
    ]
    .iter()
    .any(|phrase| message.contains(phrase))
}

fn kms_cause(code: &str, message: &str) -> KmsCause {
    let message: String = format!("{code} {message}")
        .to_ascii_lowercase()
        .split_whitespace()
        // The names of keys may say anything.
        .filter(|word| !word.trim_end_matches(':').contains(['/', ':']))
        .map(|word| format!("{word} "))
        .collect();
    let says = |texts: &[&str]| texts.iter().any(|text| message.contains(text));
    if says(&["not allowed", "not authorized", "access denied", "accessdenied"]) {
        KmsCause::Denied
    } else if says(&["pending deletion", "pendingdeletion"]) {
        KmsCause::PendingDeletion
    } else if says(&["disabled", "not enabled", "isn't enabled"]) {
        KmsCause::Disabled
    } else if says(&[
        "not found",
        "notfound",
        "does not exist",
        "invalid keyid",
        "invalid key",
    ]) {
        KmsCause::NotFound
    } else {
        KmsCause::Unknown
    }
}

/// What a service says, as one line of bounded length without what is secret. Some messages quote the whole request after
/// their first line.
pub(crate) fn cleaned(message: &str, secret: &[&str]) -> String {
    const LONGEST: usize = 400;
    // A secret may have more than one line.
    let mut message = Cow::Borrowed(message);
    for secret in secret.iter().filter(|secret| !secret.is_empty()) {
        if message.contains(secret) {
            message = Cow::Owned(message.replace(secret, "…"));
        }
    }
    let line = message.lines().next().unwrap_or_default().trim();
    line.chars().filter(|c| !c.is_control()).take(LONGEST).collect()
}

/// What an error says, and the errors behind it, without repetitions. `Debug` of the SDK's errors quotes whole answers; this
/// is what takes its place.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = cleaned(&error.to_string(), &[]);
        if !text.is_empty() && !texts.iter().any(|earlier| earlier.contains(&text)) {
            texts.push(text);
        }
        next = error.source();
    }
    texts.join(": ")
}

/// The first error of this type in the chain.
pub(crate) fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// How long the service asks to wait.
fn asked_wait(answer: &HttpResponse) -> Option<Duration> {
    let mut headers = HeaderMap::new();
    for name in [header::RETRY_AFTER, header::DATE] {
        if let Some(value) = answer.headers().get(name.as_str()) {
            headers.insert(name, HeaderValue::from_str(value).ok()?);
        }
    }
    retry_after(&headers)
}

/// The text of the first element of this name.
fn element<'a>(xml: &'a str, tag: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{tag}>"))?;
    let (text, _) = rest.split_once(&format!("</{tag}>"))?;
    Some(text.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(code: &str, message: &str) -> Kind {
        kind_of(code, message, None)
    }

    #[test]
    fn the_names_in_a_refusal_do_not_say_why_it_was_refused() {
        let denied = |what: &str, why: &str| {
            format!(
                "User: arn:aws:iam::123456789012:user/kms is not authorized to perform: {what} on resource: \
                 arn:aws:secretsmanager:us-east-2:123456789012:secret:my-kms-key-AbCdEf because {why}"
            )
        };
        let policy = "no identity-based policy allows the secretsmanager:GetSecretValue action";
        for (code, message, expected) in [
            ("AccessDeniedException", denied("secretsmanager:GetSecretValue", policy), Kind::Denied),
            (
                "AccessDeniedException",
                denied("kms:Decrypt", "no identity-based policy allows the kms:Decrypt action"),
                Kind::Kms(KmsCause::Denied),
            ),
            (
                "AccessDeniedException",
                "Access to kms-backup-KMS is not allowed".to_owned(),
                Kind::Denied,
            ),
            (
                "AccessDeniedException",
                "The ciphertext refers to a customer master key that does not exist, does not exist in this region, \
                 or you are not allowed to access."
                    .to_owned(),
                Kind::Kms(KmsCause::Denied),
            ),
            (
                "ResourceNotFoundException",
                "Secrets Manager can't find the specified secret: my-kms-key".to_owned(),
                Kind::NotFound,
            ),
            (
                "InvalidRequestException",
                "You can't perform this operation on the secret kms because it was marked for deletion.".to_owned(),
                Kind::Scheduled,
            ),
            (
                "InvalidRequestException",
                "You can't change the secret deleted-kms-key in this way.".to_owned(),
                Kind::Other,
            ),
            (
                "InvalidRequestException",
                "You can't delete secret key that still has replica regions eu-west-1.".to_owned(),
                Kind::Other,
            ),
            (
                "EncryptionFailure",
                "The key alias/not-disabled or arn:aws:kms:us-east-2:1:alias/disabled is no key.".to_owned(),
                Kind::Kms(KmsCause::Unknown),
            ),
        ] {
            assert_eq!(kind(code, &message), expected, "{message}");
        }
    }

    #[test]
    fn a_failure_of_kms_passes_and_a_refusal_does_not() {
        for (code, message) in [
            (
                "DecryptionFailure",
                "The request was not fulfilled. (Service: AWSKMS; Error Code: KMSInternalException)",
            ),
            (
                "EncryptionFailure",
                "DependencyTimeoutException: The system timed out.",
            ),
            ("KeyUnavailableException", "try again"),
        ] {
            let kind = kind(code, message);
            assert!(matches!(kind, Kind::Unavailable { .. }), "{message}: {kind:?}");
        }
        let kind = kind(
            "DecryptionFailure",
            "(Service: AWSKMS; Error Code: DisabledException)",
        );
        assert_eq!(kind, Kind::Kms(KmsCause::Disabled));
    }

    #[test]
    fn a_secret_of_many_lines_is_not_quoted_either() {
        let message = "the value 'first line\nsecond line' is too long\nand more";
        let cleaned = cleaned(message, &["first line\nsecond line"]);
        assert_eq!(cleaned, "the value '…' is too long");
    }
}
