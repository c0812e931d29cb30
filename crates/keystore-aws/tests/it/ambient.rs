//! The credentials of the environment: in a process of its own each, since an environment belongs to a process.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kes_keystore::KeyStore as _;
use kes_keystore_aws::{AwsStore, Config};
use kes_types::SystemClock;
use serde_json::json;

use crate::fake::{Fake, Reply, a_secret, answer, not_found, refusal, success};
use crate::rig::{NOBODY, Place, SHORT, chain, name};

const ROLE: &str = "KES_TEST_ROLE";
const ENDPOINT: &str = "KES_TEST_ENDPOINT";
const RESULT: &str = "@result: ";

/// What runs in the other process, with its environment; does nothing in this one.
#[tokio::test]
async fn child_reads_a_key() {
    if std::env::var_os(ROLE).is_none() {
        return;
    }
    let config = Config {
        endpoint: std::env::var(ENDPOINT).ok(),
        region: "us-east-2".to_owned(),
        kmskey: None,
        credentials: None,
        ca: None,
        patience: SHORT,
    };
    let store = match AwsStore::connect(config, Arc::new(SystemClock)).await {
        Ok(store) => store,
        Err(error) => {
            println!("{RESULT}{}", chain(&error));
            return;
        }
    };
    match store.get(&name("key")).await {
        Ok(_) => println!("{RESULT}read from {store}"),
        Err(error) => println!("{RESULT}{}", chain(&error)),
    }
}

/// What reading a key came to with this environment and no other.
async fn read(environment: &[(&str, &str)]) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([
            "--exact",
            "ambient::child_reads_a_key",
            "--nocapture",
            "--test-threads=1",
        ])
        .env_clear()
        .env(ROLE, "read")
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    // Nothing of this machine.
    command
        .env("HOME", "/nonexistent")
        .env("AWS_EC2_METADATA_DISABLED", "true");
    for (variable, value) in environment {
        command.env(variable, value);
    }
    let output = tokio::task::spawn_blocking(move || command.output())
        .await
        .unwrap()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{printed}");
    let (_, rest) = printed.split_once(RESULT).expect(&printed);
    rest.lines().next().unwrap().to_owned()
}

/// A service that has the key.
async fn service() -> Fake {
    Fake::start(|_| a_secret("key", "value")).await
}

/// Whose credentials the service was asked with; always the same.
fn signer(fake: &Fake) -> (String, String) {
    let asked = fake.everything_asked();
    let first = asked.first().expect("the service was asked");
    for asked in &asked {
        assert_eq!(asked.signer(), first.signer());
        assert!(
            asked
                .header("authorization")
                .contains("/us-east-2/secretsmanager/")
        );
        assert_ne!(
            asked.operation, "",
            "a request that is none of Secrets Manager: {}",
            asked.path
        );
    }
    (
        first.signer().to_owned(),
        first.header("x-amz-security-token").to_owned(),
    )
}

fn write(folder: &Path, file: &str, text: &str) -> String {
    let path = folder.join(file);
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_variables_of_the_environment_are_credentials() {
    let fake = service().await;
    let result = read(&[
        (ENDPOINT, &fake.endpoint()),
        ("AWS_ACCESS_KEY_ID", "AKIDVARIABLE"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_SESSION_TOKEN", "variable-token"),
    ])
    .await;
    assert!(result.starts_with("read from "), "{result}");
    assert_eq!(
        signer(&fake),
        ("AKIDVARIABLE".to_owned(), "variable-token".to_owned())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_has_credentials() {
    let (fake, folder) = (service().await, tempfile::tempdir().unwrap());
    let file = write(
        folder.path(),
        "credentials",
        "[default]\naws_access_key_id = AKIDDEFAULT\naws_secret_access_key = secret\n\
         [team]\naws_access_key_id = AKIDTEAM\naws_secret_access_key = secret\n",
    );
    for (profile, expected) in [("", "AKIDDEFAULT"), ("team", "AKIDTEAM")] {
        let fake = if profile.is_empty() {
            &fake
        } else {
            &service().await
        };
        let endpoint = fake.endpoint();
        let mut environment = vec![
            (ENDPOINT, endpoint.as_str()),
            ("AWS_SHARED_CREDENTIALS_FILE", &file),
        ];
        if !profile.is_empty() {
            environment.push(("AWS_PROFILE", profile));
        }
        let result = read(&environment).await;
        assert!(result.starts_with("read from "), "{result}");
        assert_eq!(signer(fake).0, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_identity_is_exchanged_at_sts_and_not_at_the_endpoint_of_the_configuration() {
    let (fake, place, folder) = (service().await, Place::fresh(), tempfile::tempdir().unwrap());
    let token = write(folder.path(), "token", "header.payload.signature");
    let profile = write(
        folder.path(),
        "credentials",
        "[default]\naws_access_key_id = AKIDPROFILE\naws_secret_access_key = secret\n",
    );
    let (endpoint, sts) = (fake.endpoint(), place.endpoint());
    let environment = [
        (ENDPOINT, endpoint.as_str()),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", &token),
        ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/kes"),
        ("AWS_ENDPOINT_URL_STS", &sts),
        // It comes after the web identity.
        ("AWS_SHARED_CREDENTIALS_FILE", &profile),
    ];
    let result = read(&environment).await;
    assert!(result.starts_with("read from "), "{result}");
    let (access_key, session_token) = signer(&fake);
    assert!(access_key.starts_with("ASIA"), "{access_key}");
    assert_ne!(session_token, "");

    // Variables go before.
    let fake = service().await;
    let endpoint = fake.endpoint();
    let mut environment = environment.to_vec();
    environment[0].1 = &endpoint;
    environment.extend([
        ("AWS_ACCESS_KEY_ID", "AKIDVARIABLE"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
    ]);
    read(&environment).await;
    assert_eq!(signer(&fake).0, "AKIDVARIABLE");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_identity_that_fails_is_said() {
    let (fake, folder) = (service().await, tempfile::tempdir().unwrap());
    let token = write(folder.path(), "token", "header.payload.signature");
    let role = ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/kes");
    let endpoint = fake.endpoint();

    let refusing = Fake::of_everything(|_| {
        let xml = "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code>\
                   <Message>Not authorized to perform sts:AssumeRoleWithWebIdentity</Message></Error></ErrorResponse>";
        answer(403, xml.to_owned())
    })
    .await;
    let sts = refusing.endpoint();
    let result = read(&[
        (ENDPOINT, &endpoint),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", &token),
        role,
        ("AWS_ENDPOINT_URL_STS", &sts),
    ])
    .await;
    assert!(result.contains("refuses the credentials"), "{result}");
    assert!(result.contains("sts:AssumeRoleWithWebIdentity"), "{result}");
    assert!(!result.contains("header.payload"), "{result}");

    // A service for credentials that is not there is an outage, and not a refusal.
    let sts = format!("http://{NOBODY}");
    let result = read(&[
        (ENDPOINT, &endpoint),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", &token),
        role,
        ("AWS_ENDPOINT_URL_STS", &sts),
    ])
    .await;
    assert!(result.contains("cannot be reached"), "{result}");
    assert!(result.contains(NOBODY), "{result}");

    let result = read(&[
        (ENDPOINT, &endpoint),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "/nonexistent/token"),
        role,
        ("AWS_ENDPOINT_URL_STS", &sts),
    ])
    .await;
    assert!(result.contains("refuses the credentials"), "{result}");
    assert!(result.contains("No such file"), "{result}");
    assert!(fake.everything_asked().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_gives_out_credentials() {
    let fake = service().await;
    let container = Fake::of_everything(|asked| {
        assert_eq!(
            (asked.path.as_str(), asked.header("authorization")),
            ("/role/kes", "container-token")
        );
        container_credentials("AKIDCONTAINER")
    })
    .await;
    let result = read(&[
        (ENDPOINT, &fake.endpoint()),
        (
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
            &format!("{}/role/kes", container.endpoint()),
        ),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "container-token"),
        // Nothing that is next to a machine is asked through a proxy.
        ("HTTP_PROXY", "http://127.0.0.1:1"),
        ("NO_PROXY", "127.0.0.1"),
    ])
    .await;
    assert!(result.starts_with("read from "), "{result}");
    assert_eq!(
        signer(&fake),
        ("AKIDCONTAINER".to_owned(), "token of AKIDCONTAINER".to_owned())
    );
    assert_eq!(
        container.everything_asked().len(),
        1,
        "they are kept while they are valid"
    );
}

fn container_credentials(access_key: &str) -> Reply {
    success(json!({
        "RoleArn": "arn:aws:iam::123456789012:role/kes",
        "AccessKeyId": access_key,
        "SecretAccessKey": "secret",
        "Token": format!("token of {access_key}"),
        "Expiration": "2099-01-01T00:00:00Z",
    }))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_gives_out_credentials() {
    let fake = service().await;
    // Moto's answer to the request for a session lacks a header that instances send.
    let instance = Fake::of_everything(|asked| {
        const SESSION: &str = "session-token";
        if asked.path == "/latest/api/token" {
            assert_ne!(asked.header("x-aws-ec2-metadata-token-ttl-seconds"), "");
            return answer(200, SESSION.to_owned())
                .with_header("x-aws-ec2-metadata-token-ttl-seconds", "21600");
        }
        assert_eq!(asked.header("x-aws-ec2-metadata-token"), SESSION);
        match asked.path.as_str() {
            "/latest/meta-data/iam/security-credentials/" => answer(200, "kes-role".to_owned()),
            "/latest/meta-data/iam/security-credentials/kes-role" => success(json!({
                "Code": "Success",
                "Type": "AWS-HMAC",
                "LastUpdated": "2026-01-01T00:00:00Z",
                "AccessKeyId": "AKIDINSTANCE",
                "SecretAccessKey": "secret",
                "Token": "token of the instance",
                "Expiration": "2099-01-01T00:00:00Z",
            })),
            _ => not_found(),
        }
    })
    .await;
    let result = read(&[
        (ENDPOINT, &fake.endpoint()),
        ("AWS_EC2_METADATA_DISABLED", "false"),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", &instance.endpoint()),
    ])
    .await;
    assert!(result.starts_with("read from "), "{result}");
    let expected = ("AKIDINSTANCE".to_owned(), "token of the instance".to_owned());
    assert_eq!(signer(&fake), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_the_service_refuses_are_renewed_once() {
    for (kind, renewed_work) in [
        ("ExpiredTokenException", true),
        ("UnrecognizedClientException", true),
        ("ExpiredTokenException", false),
    ] {
        let fake = Fake::start(move |asked| {
            if renewed_work && asked.signer() == "AKIDNUMBER2" {
                a_secret("key", "value")
            } else {
                refusal(kind, "The security token included in the request is expired")
            }
        })
        .await;
        let given = Arc::new(AtomicUsize::new(0));
        let container = Fake::of_everything({
            let given = Arc::clone(&given);
            move |_| {
                let number = given.fetch_add(1, Ordering::SeqCst) + 1;
                container_credentials(&format!("AKIDNUMBER{number}"))
            }
        })
        .await;
        // The first credentials are as old as the connection: they may be renewed once they have been tried.
        let result = read(&[
            (ENDPOINT, &fake.endpoint()),
            (
                "AWS_CONTAINER_CREDENTIALS_FULL_URI",
                &format!("{}/role", container.endpoint()),
            ),
        ])
        .await;
        let signers: Vec<String> = fake
            .asked()
            .iter()
            .map(|asked| asked.signer().to_owned())
            .collect();
        assert_eq!(signers, ["AKIDNUMBER1", "AKIDNUMBER2"], "{result}");
        assert_eq!(given.load(Ordering::SeqCst), 2);
        if renewed_work {
            assert!(result.starts_with("read from "), "{result}");
        } else {
            assert!(
                result.contains("refuses the credentials") && result.contains(kind),
                "{result}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_credentials_it_is_said_where_they_may_come_from() {
    let fake = Fake::of_everything(|_| not_found()).await;
    let result = read(&[(ENDPOINT, &fake.endpoint())]).await;
    assert!(result.contains("there are no AWS credentials"), "{result}");
    assert!(
        result.contains("keystore.aws.secretsmanager.credentials"),
        "{result}"
    );
    assert!(fake.everything_asked().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_environment_may_name_the_endpoint_and_the_configuration_goes_before() {
    let fake = service().await;
    let endpoint = fake.endpoint();
    let credentials = [
        ("AWS_ACCESS_KEY_ID", "AKIDVARIABLE"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
    ];
    for environment in [
        [
            ("AWS_ENDPOINT_URL_SECRETS_MANAGER", endpoint.as_str()),
            ("AWS_ENDPOINT_URL", "http://127.0.0.1:1"),
        ],
        [
            ("AWS_ENDPOINT_URL", endpoint.as_str()),
            ("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:1"),
        ],
        [
            (ENDPOINT, endpoint.as_str()),
            ("AWS_ENDPOINT_URL_SECRETS_MANAGER", "http://127.0.0.1:1"),
        ],
    ] {
        let result = read(&[environment.as_slice(), &credentials].concat()).await;
        assert_eq!(result, format!("read from AWS Secrets Manager: {endpoint}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_endpoint_the_service_of_the_region_is_asked_and_by_fips_if_the_environment_says_so() {
    // Through a proxy that is not there, so that nobody is asked.
    let environment = [
        ("AWS_ACCESS_KEY_ID", "AKIDVARIABLE"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("HTTPS_PROXY", "http://127.0.0.1:1"),
    ];
    let result = read(&environment).await;
    assert!(result.contains("AWS Secrets Manager: us-east-2"), "{result}");
    assert!(
        result.contains("secretsmanager.us-east-2.amazonaws.com"),
        "{result}"
    );
    let result = read(&[environment.as_slice(), &[("AWS_USE_FIPS_ENDPOINT", "true")]].concat()).await;
    assert!(
        result.contains("secretsmanager-fips.us-east-2.amazonaws.com"),
        "{result}"
    );
}
