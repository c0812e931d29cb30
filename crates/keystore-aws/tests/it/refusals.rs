//! What the store makes of each answer of the service, on the fake.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kes_keystore::{EntryName, KeyStore as _, Patience, StoreError};
use kes_keystore_aws::{AwsStore, Config};
use kes_testkit::ThreadLog;
use kes_types::ManualClock;
use serde_json::{Value, json};

use crate::fake::{Fake, Reply, a_secret, answer, created, not_found, refusal, success};
use crate::rig::{SHORT, chain, connect, name, secret};

const ATTEMPTS: usize = SHORT.retries as usize + 1;
const MARKED: &str = "You can't perform this operation on the secret because it was marked for deletion.";
const SCHEDULED: &str =
    "You can't create this secret because a secret with this name is already scheduled for deletion.";

/// What the fake says.
type Says = fn() -> Reply;

/// Gives the replies in turn, and the last one for ever.
fn in_turn(replies: Vec<Says>) -> impl FnMut(&crate::fake::Asked) -> Reply {
    let mut turn = 0;
    move |_| {
        let reply = replies.get(turn).or(replies.last()).unwrap();
        turn += 1;
        reply()
    }
}

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
async fn a_create_in_doubt_is_looked_into() {
    // The first attempt is not answered, the second says that the name is taken: by whom is seen in the value.
    let exists = || {
        refusal(
            "ResourceExistsException",
            "The operation failed because the secret already exists.",
        )
    };
    let stored: [(Says, &str); 4] = [
        (|| a_secret("key", "value"), "Ok"),
        (|| a_secret("key", "another"), "Exists"),
        (not_found, "Backend"),
        (|| refusal("InternalServiceError", "no"), "Backend"),
    ];
    for lost in [|| Reply::Nothing, || refusal("InternalServiceError", "no")] {
        for (read, expected) in stored {
            let mut creates = 0;
            let fake = Fake::start(move |asked| match asked.operation.as_str() {
                "CreateSecret" => {
                    creates += 1;
                    if creates == 1 { lost() } else { exists() }
                }
                _ => read(),
            })
            .await;
            let created = fake.connect().await.create(&name("key"), &secret("value")).await;
            let class = match &created {
                Ok(()) => "Ok",
                Err(StoreError::Exists) => "Exists",
                Err(StoreError::Backend { .. }) => "Backend",
                Err(_) => "another",
            };
            assert_eq!(class, expected, "{created:?}");
            let tokens: Vec<Value> = fake
                .asked()
                .iter()
                .filter(|asked| asked.operation == "CreateSecret")
                .map(|asked| asked.body["ClientRequestToken"].clone())
                .collect();
            assert_eq!(tokens.len(), 2);
            assert_eq!(tokens[0], tokens[1], "one create has one token");
        }
    }

    // Without a doubt there is nothing to look into, and each create has a token of its own.
    let fake = Fake::start(move |_| exists()).await;
    let store = fake.connect().await;
    for _ in 0..2 {
        let created = store.create(&name("key"), &secret("value")).await;
        assert!(matches!(created, Err(StoreError::Exists)), "{created:?}");
    }
    let asked = fake.asked();
    assert_eq!(asked.len(), 2);
    assert_ne!(
        asked[0].body["ClientRequestToken"],
        asked[1].body["ClientRequestToken"]
    );
}

#[tokio::test]
async fn what_a_create_in_doubt_has_made_is_waited_for_and_known_as_new() {
    // It exists, and then is not to be seen everywhere yet: neither for the create, nor for who reads after it.
    let (mut creates, mut reads) = (0, 0);
    let fake = Fake::start(move |asked| match asked.operation.as_str() {
        "CreateSecret" => {
            creates += 1;
            match creates {
                1 => Reply::Nothing,
                _ => refusal("ResourceExistsException", "The secret already exists."),
            }
        }
        _ => {
            reads += 1;
            match reads {
                1 | 2 | 4 => not_found(),
                _ => a_secret("key", "value"),
            }
        }
    })
    .await;
    let store = fake.connect().await;
    store.create(&name("key"), &secret("value")).await.unwrap();
    let entry = store.get(&name("key")).await.unwrap();
    assert_eq!(entry.value.expose_secret(), b"value");
}

#[tokio::test]
async fn a_secret_that_is_scheduled_for_deletion_is_neither_a_key_nor_a_free_name() {
    let (log, _guard) = ThreadLog::capture_all();
    let fake = Fake::start(|asked| match asked.operation.as_str() {
        "CreateSecret" => refusal("InvalidRequestException", SCHEDULED),
        _ => refusal("InvalidRequestException", MARKED),
    })
    .await;
    let store = fake.connect().await;
    let read = store.get(&name("key")).await;
    assert!(matches!(read, Err(StoreError::Disabled { .. })), "{read:?}");
    let advice = "aws secretsmanager restore-secret --region us-east-2 --secret-id key";
    assert_eq!(log.text().matches(advice).count(), 1, "{}", log.text());

    let created = store.create(&name("key"), &secret("value")).await;
    assert!(matches!(created, Err(StoreError::Exists)), "{created:?}");
    assert_eq!(log.text().matches(advice).count(), 2, "{}", log.text());
    assert_eq!(
        fake.asked().len(),
        2,
        "nobody waits for what another has scheduled"
    );
}

#[tokio::test]
async fn a_name_that_this_process_has_deleted_is_waited_for() {
    let mut creates = 0;
    let fake = Fake::start(move |asked| match asked.operation.as_str() {
        "DeleteSecret" => success(json!({ "Name": "key" })),
        _ => {
            creates += 1;
            if creates <= 4 {
                refusal("InvalidRequestException", SCHEDULED)
            } else {
                created("key")
            }
        }
    })
    .await;
    let store = fake.connect().await;
    store.delete(&name("key")).await.unwrap();
    store.create(&name("key"), &secret("value")).await.unwrap();
    assert_eq!(fake.asked().len(), 1 + 5);

    // But not for ever.
    let fake = Fake::start(|asked| match asked.operation.as_str() {
        "DeleteSecret" => success(json!({ "Name": "key" })),
        _ => refusal("InvalidRequestException", SCHEDULED),
    })
    .await;
    let mut config = fake.config();
    config.patience.operation = Duration::from_secs(4);
    let store = connect(config).await.unwrap();
    store.delete(&name("key")).await.unwrap();
    let created = store.create(&name("key"), &secret("value")).await;
    assert!(matches!(created, Err(StoreError::Exists)), "{created:?}");
}

#[tokio::test]
async fn what_this_process_has_deleted_is_gone_although_it_is_on_its_way_out() {
    let (log, _guard) = ThreadLog::capture_all();
    let fake = Fake::start(|asked| match asked.operation.as_str() {
        "DeleteSecret" => success(json!({ "Name": "key" })),
        _ => refusal("InvalidRequestException", MARKED),
    })
    .await;
    let clock = Arc::new(ManualClock::default());
    let store = AwsStore::connect(fake.config(), Arc::clone(&clock) as _)
        .await
        .unwrap();
    store.delete(&name("key")).await.unwrap();
    let read = store.get(&name("key")).await;
    assert!(matches!(read, Err(StoreError::NotFound)), "{read:?}");
    assert_eq!(log.text(), "", "nobody can restore it");

    // Later it is another's doing.
    clock.advance(Duration::from_secs(60));
    let read = store.get(&name("key")).await;
    assert!(matches!(read, Err(StoreError::Disabled { .. })), "{read:?}");
}

#[tokio::test]
async fn what_perhaps_was_not_deleted_is_not_said_to_be_gone() {
    // The deletion is not answered, and another has scheduled the secret: it can be had back.
    let fake = Fake::start(|asked| match asked.operation.as_str() {
        "DeleteSecret" => Reply::Nothing,
        _ => refusal("InvalidRequestException", MARKED),
    })
    .await;
    let store = fake.connect().await;
    let deleted = store.delete(&name("key")).await;
    assert!(
        matches!(deleted, Err(StoreError::Unreachable { .. })),
        "{deleted:?}"
    );
    let read = store.get(&name("key")).await;
    assert!(matches!(read, Err(StoreError::Disabled { .. })), "{read:?}");
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
async fn what_was_just_created_is_waited_for_and_what_was_not_is_not() {
    let mut reads = 0;
    let fake = Fake::start(move |asked| match asked.operation.as_str() {
        "CreateSecret" => created("key"),
        _ => {
            reads += 1;
            match reads {
                1..=3 => not_found(),
                _ => a_secret("key", "value"),
            }
        }
    })
    .await;
    let store = fake.connect().await;
    store.create(&name("key"), &secret("value")).await.unwrap();
    let entry = store.get(&name("key")).await.unwrap();
    assert_eq!(entry.value.expose_secret(), b"value");

    let fake = Fake::start(|_| not_found()).await;
    let read = fake.connect().await.get(&name("key")).await;
    assert!(matches!(read, Err(StoreError::NotFound)), "{read:?}");
    assert_eq!(fake.asked().len(), 1);
}

#[tokio::test]
async fn a_new_secret_is_waited_for_for_two_seconds_and_ten_seconds_long() {
    let fake = Fake::start(|asked| match asked.operation.as_str() {
        "CreateSecret" => created("key"),
        _ => not_found(),
    })
    .await;
    let clock = Arc::new(ManualClock::default());
    let store = AwsStore::connect(fake.config(), Arc::clone(&clock) as _)
        .await
        .unwrap();
    store.create(&name("key"), &secret("value")).await.unwrap();
    let read = store.get(&name("key")).await;
    assert!(matches!(read, Err(StoreError::NotFound)), "{read:?}");
    let while_new = fake.asked().len();
    assert!(while_new > 3, "{while_new}");

    clock.advance(Duration::from_secs(10));
    let read = store.get(&name("key")).await;
    assert!(matches!(read, Err(StoreError::NotFound)), "{read:?}");
    assert_eq!(
        fake.asked().len(),
        while_new + 1,
        "what is absent later was deleted"
    );
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
async fn more_than_ten_thousand_names_are_each_listed_once() {
    const NAMES: usize = 10_250;
    // Not sorted, a hundred a page, and with the last of each page again on the next one.
    let listed = |asked: &crate::fake::Asked| {
        assert_eq!(asked.body["MaxResults"], 100);
        let start: usize = asked.body["NextToken"]
            .as_str()
            .map_or(0, |token| token.parse().unwrap());
        let end = (start + 100).min(NAMES);
        let secrets: Vec<Value> = (start.saturating_sub(1)..end)
            .map(|i| json!({ "Name": format!("key-{:05}", i * 7919 % NAMES), "ARN": "arn:aws:x" }))
            .chain([
                json!({ "Name": format!("deleted-{start}"), "DeletedDate": 1_700_000_000 }),
                json!({ "Name": format!("folder/{start}") }),
                json!({ "ARN": "arn:aws:without-a-name" }),
            ])
            .collect();
        let mut page = json!({ "SecretList": secrets });
        if end < NAMES {
            page["NextToken"] = json!(end.to_string());
        }
        success(page)
    };
    let fake = Fake::start(move |asked| match asked.operation.as_str() {
        "ListSecrets" => listed(asked),
        "DeleteSecret" => success(json!({ "Name": "other" })),
        _ => not_found(),
    })
    .await;
    // As long as a slow machine takes for so many.
    let patience = Patience {
        operation: Duration::from_secs(60),
        ..SHORT
    };
    let config = Config {
        patience,
        ..fake.config()
    };
    let clock = Arc::new(ManualClock::default());
    let store = AwsStore::connect(config, Arc::clone(&clock) as _).await.unwrap();
    let expected: Vec<EntryName> = (0..NAMES).map(|i| name(&format!("key-{i:05}"))).collect();
    let once = NAMES.div_ceil(100);
    let nothing = async || ();
    let later = async || clock.advance(Duration::from_secs(10));
    let changed = async || store.delete(&name("other")).await.unwrap();
    let whole = list_all(&store, nothing).await;
    assert!(whole == expected, "{} names", whole.len());
    assert_eq!(
        fake.asked().len(),
        once,
        "pages that follow are read with the first"
    );

    // Each page is read anew where the earlier reading is old, or this process has changed something.
    let aged = list_all(&store, later).await;
    assert!(aged == expected, "{} names", aged.len());
    assert_eq!(fake.asked().len(), 4 * once);
    let changing = list_all(&store, changed).await;
    assert!(changing == expected, "{} names", changing.len());
    assert_eq!(fake.asked().len(), 7 * once + 2);
}

/// Lists every name, with something that happens between two pages.
async fn list_all(store: &AwsStore, mut between: impl AsyncFnMut()) -> Vec<EntryName> {
    let mut found: Vec<EntryName> = Vec::new();
    let mut after = None;
    loop {
        let limit = NonZeroUsize::new(4000).unwrap();
        let page = store.list("", after.as_ref(), limit).await.unwrap();
        found.extend(page.names);
        after = page.next;
        if after.is_none() {
            return found;
        }
        between().await;
    }
}

#[tokio::test]
async fn a_list_without_an_end_is_an_error() {
    let fake = Fake::start(|_| success(json!({ "SecretList": [], "NextToken": "again" }))).await;
    let listed = fake.connect().await.list("", None, NonZeroUsize::MIN).await;
    assert!(matches!(listed, Err(StoreError::Backend { .. })), "{listed:?}");
    assert_eq!(fake.asked().len(), 2);
}

#[tokio::test]
async fn a_page_of_a_list_that_fails_is_asked_for_again_and_not_all_of_it() {
    let mut asked = 0;
    let fake = Fake::start(move |question| {
        asked += 1;
        match (asked, question.body["NextToken"].as_str()) {
            (1, None) => success(json!({ "SecretList": [{ "Name": "a" }], "NextToken": "t" })),
            (2, Some("t")) => refusal("ThrottlingException", "Rate exceeded"),
            (3, Some("t")) => success(json!({ "SecretList": [{ "Name": "b" }] })),
            other => panic!("{other:?}"),
        }
    })
    .await;
    let page = fake
        .connect()
        .await
        .list("", None, NonZeroUsize::MAX)
        .await
        .unwrap();
    assert_eq!(page.names, [name("a"), name("b")]);
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

#[tokio::test]
async fn a_delete_in_doubt_that_then_finds_nothing_has_succeeded() {
    let fake = Fake::start(in_turn(vec![|| Reply::Nothing, not_found])).await;
    fake.connect().await.delete(&name("key")).await.unwrap();
    assert_eq!(fake.asked().len(), 2);

    let fake = Fake::start(|_| not_found()).await;
    let deleted = fake.connect().await.delete(&name("key")).await;
    assert!(matches!(deleted, Err(StoreError::NotFound)), "{deleted:?}");
}
