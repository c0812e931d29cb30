//! What the store makes of each answer of the service, on the fake.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use kes_keystore::{KeyStore as _, Patience, StoreError};
use kes_keystore_aws::Config;
use kes_testkit::ThreadLog;
use serde_json::{Value, json};

use crate::fake::{Fake, Reply, Says, a_secret, answer, created, in_turn, not_found, refusal, success};
use crate::rig::{SHORT, chain, connect, name, secret};

const ATTEMPTS: usize = SHORT.retries as usize + 1;

#[tokio::test]
async fn every_request_is_signed_for_the_service_and_the_region() {
    let fake = Fake::start(|asked| match asked.operation.as_str() {
        "CreateSecret" => created("key"),
        "GetSecretValue" => a_secret("key", "value"),
        "DeleteSecret" => success(json!({ "Name": "key" })),
        "ListSecrets" => success(json!({ "SecretList": [] })),
        _ => not_found(),
    })
    .await;
    let mut config = fake.config();
    config.credentials.as_mut().unwrap().session_token = Some(secret("a-session-token"));
    config.kmskey = Some("alias/kes".to_owned());
    let store = connect(config).await.unwrap();
    store.create(&name("key"), &secret("value")).await.unwrap();
    store.get(&name("key")).await.unwrap();
    store.delete(&name("key")).await.unwrap();
    store.list("pre-", None, NonZeroUsize::MIN).await.unwrap();

    for asked in fake.everything_asked() {
        assert_eq!(asked.path, "/");
        assert_eq!(asked.header("content-type"), "application/x-amz-json-1.1");
        assert_eq!(
            asked.header("x-amz-target"),
            format!("secretsmanager.{}", asked.operation)
        );
        assert_eq!(asked.header("x-amz-security-token"), "a-session-token");
        let date = asked.header("x-amz-date");
        assert!(date.len() == 16 && date.ends_with('Z'), "{date}");
        let authorization = asked.header("authorization");
        let expected = format!(
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/{}/us-east-2/secretsmanager/aws4_request, SignedHeaders=",
            &date[..8]
        );
        let rest = authorization.strip_prefix(&expected).expect(authorization);
        let (signed, signature) = rest.split_once(", Signature=").unwrap();
        for header in ["host", "x-amz-date", "x-amz-security-token", "x-amz-target"] {
            assert!(
                signed.split(';').any(|name| name == header),
                "{header} in {signed}"
            );
        }
        assert!(signature.len() == 64 && signature.chars().all(|c| c.is_ascii_hexdigit()));
    }

    let asked = fake.asked();
    let bodies: Vec<(&str, &Value)> = asked
        .iter()
        .map(|asked| (asked.operation.as_str(), &asked.body))
        .collect();
    let token = &asked[0].body["ClientRequestToken"];
    assert_eq!(token.as_str().unwrap().len(), 36);
    assert_eq!(
        bodies,
        [
            (
                "CreateSecret",
                &json!({
                    "Name": "key", "SecretString": "value", "KmsKeyId": "alias/kes", "ClientRequestToken": token
                })
            ),
            ("GetSecretValue", &json!({ "SecretId": "key" })),
            (
                "DeleteSecret",
                &json!({ "SecretId": "key", "ForceDeleteWithoutRecovery": true })
            ),
            (
                "ListSecrets",
                &json!({ "MaxResults": 100, "Filters": [{ "Key": "name", "Values": ["pre-"] }] })
            ),
        ]
    );
}

#[tokio::test]
async fn a_refusal_is_known_by_its_type_however_it_is_written() {
    let written: [Says; 5] = [
        not_found,
        || refusal("com.amazonaws.secretsmanager#ResourceNotFoundException", "no"),
        || answer(404, r#"{"__type":"ResourceNotFoundException"}"#.to_owned()),
        || {
            answer(400, r#"{"Message":"no"}"#.to_owned()).with_header(
                "x-amzn-errortype",
                "ResourceNotFoundException:http://internal.amazon.com/coral/com.amazonaws.secretsmanager/",
            )
        },
        || {
            answer(
                500,
                r#"{"__type":"ResourceNotFoundException","message":"no"}"#.to_owned(),
            )
        },
    ];
    for reply in written {
        let fake = Fake::start(move |_| reply()).await;
        let read = fake.connect().await.get(&name("key")).await;
        assert!(matches!(read, Err(StoreError::NotFound)), "{read:?}");
        assert_eq!(fake.asked().len(), 1);
    }
}

#[tokio::test]
async fn a_throttled_request_is_repeated_and_in_the_end_said_to_be() {
    let slow_down = || refusal("ThrottlingException", "Rate exceeded");
    let fake = Fake::start(in_turn(vec![slow_down, slow_down, || a_secret("key", "value")])).await;
    let entry = fake.connect().await.get(&name("key")).await.unwrap();
    assert_eq!(entry.value.expose_secret(), b"value");
    assert_eq!(fake.asked().len(), 3);

    for kind in [
        "ThrottlingException",
        "RequestLimitExceeded",
        "TooManyRequestsException",
    ] {
        let fake = Fake::start(move |_| refusal(kind, "Rate exceeded")).await;
        let store = fake.connect().await;
        let created = store.create(&name("key"), &secret("value")).await;
        assert!(
            matches!(created, Err(StoreError::Throttled { .. })),
            "{created:?}"
        );
        assert_eq!(fake.asked().len(), ATTEMPTS);
    }

    // Who is asked to wait for longer than there is time does not wait.
    let fake = Fake::start(move |_| slow_down().with_header("retry-after", "60")).await;
    let began = Instant::now();
    let read = fake.connect().await.get(&name("key")).await;
    let Err(StoreError::Throttled { retry_after, .. }) = read else {
        panic!("{read:?}");
    };
    assert_eq!(retry_after, Some(Duration::from_secs(60)));
    assert_eq!(fake.asked().len(), 1);
    assert!(began.elapsed() < SHORT.operation);
}

#[tokio::test]
async fn a_service_in_trouble_is_asked_again_and_then_counts_as_out_of_reach() {
    let troubles: [Says; 6] = [
        || refusal("InternalServiceError", "An error occurred on the server side."),
        || answer(503, "<html>no</html>".to_owned()),
        || answer(502, String::new()),
        || Reply::Nothing,
        || answer(200, r#"{"Name":"key","SecretStr"#.to_owned()),
        || answer(200, "<html>Welcome to this hotel</html>".to_owned()),
    ];
    for (number, trouble) in troubles.into_iter().enumerate() {
        let fake = Fake::start(in_turn(vec![trouble, || a_secret("key", "value")])).await;
        let read = fake.connect().await.get(&name("key")).await;
        assert!(read.is_ok(), "trouble {number} once: {read:?}");

        let fake = Fake::start(move |_| trouble()).await;
        let store = fake.connect().await;
        let read = store.get(&name("key")).await;
        assert!(
            matches!(read, Err(StoreError::Unreachable { .. })),
            "trouble {number}: {read:?}"
        );
        assert_eq!(fake.asked().len(), ATTEMPTS, "trouble {number}");
    }
}

#[tokio::test]
async fn a_ping_tells_a_service_in_trouble_from_one_that_answers() {
    let replies: [(Says, bool); 7] = [
        (not_found, true),
        (
            || {
                refusal(
                    "AccessDeniedException",
                    "User: arn:aws:iam::1:user/kes is not authorized",
                )
            },
            true,
        ),
        (|| a_secret("kes/ping", "value"), true),
        (|| refusal("InternalServiceError", "no"), false),
        (|| answer(503, String::new()), false),
        (|| answer(404, "not here".to_owned()), false),
        (
            || {
                refusal(
                    "InvalidSignatureException",
                    "The request signature we calculated does not match",
                )
            },
            false,
        ),
    ];
    for (number, (reply, is_well)) in replies.into_iter().enumerate() {
        let mut first = true;
        let fake = Fake::of_everything(move |_| {
            if std::mem::take(&mut first) {
                not_found()
            } else {
                reply()
            }
        })
        .await;
        let ping = fake.connect().await.ping().await;
        assert_eq!(ping.is_ok(), is_well, "reply {number}: {ping:?}");
    }
}

#[tokio::test]
async fn nothing_takes_longer_than_it_may() {
    let fake = Fake::start(|_| Reply::Silence).await;
    let patience = Patience {
        attempt: Duration::from_millis(800),
        operation: Duration::from_secs(2),
        ..SHORT
    };
    let store = connect(Config {
        patience,
        ..fake.config()
    })
    .await
    .unwrap();
    let began = Instant::now();
    let read = store.get(&name("key")).await;
    assert!(matches!(read, Err(StoreError::Unreachable { .. })), "{read:?}");
    let created = store.create(&name("key"), &secret("value")).await;
    assert!(
        matches!(created, Err(StoreError::Unreachable { .. })),
        "{created:?}"
    );
    let listed = store.list("", None, NonZeroUsize::MIN).await;
    assert!(
        matches!(listed, Err(StoreError::Unreachable { .. })),
        "{listed:?}"
    );
    // Three operations; a slow machine gets some time on top.
    assert!(
        began.elapsed() < 3 * patience.operation + Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn a_wrong_clock_is_named() {
    let expired = "Signature expired: 20240501T000000Z is now earlier than 20261121T000000Z";
    let fake = Fake::start(move |_| refusal("InvalidSignatureException", expired)).await;
    let read = fake.connect().await.get(&name("key")).await;
    let text = chain(&read.map(drop).unwrap_err());
    assert!(text.contains("set this machine's clock right"), "{text}");
}

#[tokio::test]
async fn kms_refusals_say_which_key_and_what_it_needs() {
    let encryption = "Secrets Manager can't encrypt the protected secret text using the provided KMS key.";
    let cases: [(&str, &str, &[&str]); 8] = [
        (
            "AccessDeniedException",
            "Access to KMS is not allowed",
            &["kms:GenerateDataKey", "alias/kes"],
        ),
        (
            "AccessDeniedException",
            "User: arn:aws:iam::1:user/kes is not authorized to perform: kms:GenerateDataKey on this resource",
            &["kms:GenerateDataKey", "alias/kes"],
        ),
        (
            "EncryptionFailure",
            encryption,
            &["kms:GenerateDataKey", "alias/kes", "enabled"],
        ),
        (
            "EncryptionFailure",
            "arn:aws:kms:us-east-2:1:key/2 is disabled. (Service: AWSKMS; Error Code: DisabledException)",
            &["disabled", "alias/kes", "enable-key"],
        ),
        (
            "InvalidRequestException",
            "KMSInvalidStateException: arn:aws:kms:us-east-2:1:key/2 is pending deletion.",
            &["scheduled for deletion", "alias/kes", "cancel-key-deletion"],
        ),
        (
            "InvalidParameterException",
            "The operation failed because of an invalid KMS key: Invalid keyId",
            &["does not exist", "alias/kes", "kmskey"],
        ),
        (
            "ResourceNotFoundException",
            "Alias arn:aws:kms:us-east-2:1:alias/kes is not found.",
            &["does not exist", "alias/kes"],
        ),
        (
            "ResourceNotFoundException",
            "Secrets Manager can't find the specified secret.",
            &["does not exist", "alias/kes"],
        ),
    ];
    for (kind, message, expected) in cases {
        let fake = Fake::start(move |_| refusal(kind, message)).await;
        let mut config = fake.config();
        config.kmskey = Some("alias/kes".to_owned());
        let store = connect(config).await.unwrap();
        let created = store.create(&name("key"), &secret("value")).await;
        let text = chain(&created.expect_err(message));
        for expected in expected {
            assert!(text.contains(expected), "{message}: {expected} in {text}");
        }
        assert!(text.contains(kind), "{text}");
        assert_eq!(fake.asked().len(), 1, "{message}");
    }

    let cases: [(&str, &str, &[&str]); 3] = [
        (
            "AccessDeniedException",
            "Access to KMS is not allowed",
            &["kms:Decrypt"],
        ),
        (
            "DecryptionFailure",
            "Secrets Manager can't decrypt the protected secret text using the provided KMS key.",
            &["kms:Decrypt"],
        ),
        (
            "DecryptionFailure",
            "The KMS key is disabled",
            &["disabled", "enable-key"],
        ),
    ];
    for (kind, message, expected) in cases {
        let fake = Fake::start(move |_| refusal(kind, message)).await;
        let read = fake.connect().await.get(&name("key")).await;
        assert!(
            matches!(read, Err(StoreError::Denied { .. } | StoreError::Backend { .. })),
            "{read:?}"
        );
        let text = chain(&read.unwrap_err());
        for expected in expected.iter().chain(&["the secret key"]) {
            assert!(text.contains(expected), "{message}: {expected} in {text}");
        }
    }
}

#[tokio::test]
async fn a_missing_permission_is_named() {
    let denied = || {
        refusal(
            "AccessDeniedException",
            "User: arn:aws:iam::123456789012:user/kes is not authorized to perform this",
        )
    };
    let fake = Fake::start(move |_| denied()).await;
    let store = fake.connect().await;
    let key = name("key");
    let failures = [
        (
            "secretsmanager:CreateSecret on key",
            store.create(&key, &secret("value")).await.unwrap_err(),
        ),
        (
            "secretsmanager:GetSecretValue on key",
            store.get(&key).await.map(drop).unwrap_err(),
        ),
        (
            "secretsmanager:DeleteSecret on key",
            store.delete(&key).await.unwrap_err(),
        ),
        (
            "secretsmanager:ListSecrets on *",
            store
                .list("", None, NonZeroUsize::MIN)
                .await
                .map(drop)
                .unwrap_err(),
        ),
    ];
    for (permission, error) in failures {
        let StoreError::Denied { hint, .. } = &error else {
            panic!("{error:?}");
        };
        assert!(hint.contains(permission), "{hint}");
        assert!(hint.contains("user/kes"), "{hint}");
    }
}

#[tokio::test]
async fn refused_credentials_are_refused_at_once() {
    for kind in [
        "ExpiredTokenException",
        "UnrecognizedClientException",
        "InvalidSignatureException",
        "com.amazon.coral.service#UnrecognizedClientException",
        "MissingAuthenticationTokenException",
    ] {
        let fake =
            Fake::start(move |_| refusal(kind, "The security token included in the request is invalid."))
                .await;
        let read = fake.connect().await.get(&name("key")).await;
        assert!(matches!(read, Err(StoreError::AuthFailed { .. })), "{read:?}");
        assert_eq!(fake.asked().len(), 1, "static credentials have no others");
    }
}

#[tokio::test]
async fn another_secret_is_never_taken_for_the_key() {
    let (log, _guard) = ThreadLog::capture_all();
    // A name that looks like the end of an ARN: the service may take `key` and six characters for the secret `key`.
    let fake = Fake::start(|asked| match asked.operation.as_str() {
        "GetSecretValue" => a_secret("key", "another key's value"),
        _ => success(json!({ "Name": "key" })),
    })
    .await;
    let store = fake.connect().await;
    // Nor is it proof that there is none of the name.
    let error = store.get(&name("key-abc123")).await.map(drop).unwrap_err();
    assert!(matches!(error, StoreError::Backend { .. }), "{error:?}");
    let told = format!("{} {error:?} {}", chain(&error), log.text());
    assert!(told.contains("another secret, key,"), "{told}");
    assert!(!told.contains("another key's value"), "{told}");

    // What is deleted is lost, so it is looked at before.
    let deleted = store.delete(&name("key-abc123")).await;
    assert!(matches!(deleted, Err(StoreError::Backend { .. })), "{deleted:?}");
    assert!(
        fake.asked()
            .iter()
            .all(|asked| asked.operation == "GetSecretValue")
    );
    // Where the name does not look so, the answer says it.
    let deleted = store.delete(&name("other")).await;
    assert!(matches!(deleted, Err(StoreError::Backend { .. })), "{deleted:?}");
}

#[tokio::test]
async fn a_name_that_looks_like_the_end_of_an_arn_can_be_deleted() {
    let reads: [Says; 4] = [
        || a_secret("key-abc123", "value"),
        not_found,
        || refusal("AccessDeniedException", "You may not read that."),
        || refusal("DecryptionFailure", "The KMS key is disabled"),
    ];
    for read in reads {
        let fake = Fake::start(move |asked| match asked.operation.as_str() {
            "GetSecretValue" => read(),
            _ => success(json!({ "Name": "key-abc123" })),
        })
        .await;
        fake.connect().await.delete(&name("key-abc123")).await.unwrap();
        assert_eq!(fake.asked().len(), 2);
    }
}

#[tokio::test]
async fn a_name_that_looks_like_the_end_of_an_arn_is_not_deleted_unseen() {
    let fake = Fake::start(|asked| match asked.operation.as_str() {
        "GetSecretValue" => refusal("InternalServiceError", "An error occurred on the server side."),
        _ => success(json!({ "Name": "key" })),
    })
    .await;
    let deleted = fake.connect().await.delete(&name("key-abc123")).await;
    assert!(
        matches!(deleted, Err(StoreError::Unreachable { .. })),
        "{deleted:?}"
    );
    let asked = fake.asked();
    assert!(asked.iter().all(|asked| asked.operation == "GetSecretValue"));
}

#[tokio::test]
async fn a_rotated_secret_is_said_loudly_and_once() {
    let (log, _guard) = ThreadLog::capture_all();
    let version =
        |id: &'static str| success(json!({ "Name": "key", "SecretString": "value", "VersionId": id }));
    let mut reads = 0;
    let fake = Fake::start(move |_| {
        reads += 1;
        version(if reads <= 2 { "version-one" } else { "version-two" })
    })
    .await;
    let store = fake.connect().await;
    for _ in 0..2 {
        store.get(&name("key")).await.unwrap();
    }
    assert_eq!(log.text(), "");
    for _ in 0..3 {
        store.get(&name("key")).await.unwrap();
    }
    let text = log.text();
    assert_eq!(text.lines().count(), 1, "{text}");
    for expected in [
        "ERROR",
        "key",
        "version-one",
        "version-two",
        "update-secret-version-stage",
    ] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
}

#[tokio::test]
async fn what_a_service_says_is_quoted_without_secrets_and_in_one_line() {
    let (log, _guard) = ThreadLog::capture_all();
    let message = "1 validation error: Value 'the-value-of-the-key' with the-secret-access-key is wrong.\n\
                   The Canonical String should have been 'x-amz-security-token:the-token'";
    let fake = Fake::start(move |_| refusal("ValidationException", message)).await;
    let mut config = fake.config();
    config.credentials.as_mut().unwrap().session_token = Some(secret("the-token"));
    let store = connect(config).await.unwrap();
    let error = store
        .create(&name("key"), &secret("the-value-of-the-key"))
        .await
        .unwrap_err();
    let told = format!("{} {error:?} {store:?} {store} {}", chain(&error), log.text());
    assert!(told.contains("ValidationException: 1 validation error"), "{told}");
    for unwanted in [
        "the-value-of-the-key",
        "the-secret-access-key",
        "the-token",
        "Canonical",
    ] {
        assert!(!told.contains(unwanted), "{unwanted} in {told}");
    }
}

#[tokio::test]
async fn an_answer_of_any_length_is_not_read() {
    let fake = Fake::start(|_| answer(200, "x".repeat(3 << 20))).await;
    let read = fake.connect().await.get(&name("key")).await;
    assert!(read.is_err(), "{read:?}");
}

#[tokio::test]
async fn a_secret_without_a_value_is_damaged_and_not_absent() {
    let fake = Fake::start(|_| success(json!({ "Name": "key", "VersionId": "v" }))).await;
    let read = fake.connect().await.get(&name("key")).await;
    assert!(matches!(read, Err(StoreError::Corrupt { .. })), "{read:?}");
}
