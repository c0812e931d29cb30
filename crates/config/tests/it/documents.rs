//! The configurations of public documents, as settings. Where a document has a mistake that servers must live with, its
//! copy here has it, too.

use std::path::Path;
use std::time::Duration;

use kes_config::keystore::{Aws, AwsCredentials};
use kes_config::{KeyStoreSettings, Loaded, LogLevel, Overrides};
use kes_types::Verb;

use super::digest;

/// What a document configures.
struct Document {
    title: &'static str,
    text: &'static str,
    admin: &'static str,
    tls: (&'static str, &'static str),
    /// Name, number of allow rules, number of deny rules, number of identities.
    policies: &'static [(&'static str, usize, usize, usize)],
    keys: usize,
    unused: u64,
    endpoint: &'static str,
    region: &'static str,
    credentials: Option<(&'static str, &'static str)>,
    /// Their keys.
    warnings: &'static [&'static str],
}

const DOCUMENTS: [Document; 6] = [
    Document {
        title: "AWS Secrets Manager (tutorial), the server's configuration",
        text: include_str!("documents/aws-secrets-manager-tutorial.yml"),
        admin: "disabled",
        tls: ("private.key", "public.crt"),
        policies: &[("my-app", 3, 0, 1)],
        keys: 0,
        unused: 30,
        endpoint: "secretsmanager.us-east-2.amazonaws.com",
        region: "us-east-2",
        credentials: None,
        warnings: &[],
    },
    Document {
        title: "AWS Secrets Manager (tutorial), configuration references",
        text: include_str!("documents/aws-secrets-manager-reference.yml"),
        admin: ROOT,
        tls: ("kes-server.key", "kes-server.cert"),
        policies: &[("minio-server", 9, 2, 1), ("my-app", 3, 2, 2)],
        keys: 3,
        unused: 20,
        endpoint: "secretsmanager.REGION.amazonaws",
        region: "REGION",
        credentials: Some(("access", "secret")),
        warnings: &["root", "policy.my-app"],
    },
    Document {
        title: "Server-Side Object Encryption with AWS Secrets Manager Root KMS, minimum",
        text: include_str!("documents/minio-aws-minimum.yml"),
        admin: "disabled",
        tls: ("/opt/kes/certs/kes-server.key", "/opt/kes/certs/kes-server.cert"),
        policies: &[("minio", 9, 0, 1)],
        keys: 0,
        unused: 30,
        endpoint: "secretsmanager.REGION.amazonaws.com",
        region: "REGION",
        credentials: Some(("AWSACCESSKEY", "AWSSECRETKEY")),
        warnings: &["root"],
    },
    Document {
        title: "Server-Side Object Encryption with AWS Secrets Manager Root KMS, reference, indented again",
        text: include_str!("documents/minio-aws-reference.yml"),
        admin: ROOT,
        tls: ("kes-server.key", "kes-server.cert"),
        policies: &[("minio-server", 9, 0, 1)],
        keys: 3,
        unused: 30,
        endpoint: "secretsmanager.REGION.amazonaws",
        region: "REGION",
        credentials: Some(("access", "secret")),
        warnings: &["root", "keystore.secretsmanager"],
    },
    Document {
        title: "Server-Side Object Encryption with AWS Root KMS, minimum",
        text: include_str!("documents/minio-aws-root-kms-minimum.yml"),
        admin: "disabled",
        tls: ("/data/certs/server.key", "/data/certs/server.cert"),
        policies: &[("minio", 3, 0, 1)],
        keys: 0,
        unused: 30,
        endpoint: "secretsmanager.REGION.amazonaws",
        region: "REGION",
        credentials: Some(("access", "secret")),
        warnings: &["root", "keystore.secretsmanager"],
    },
    Document {
        title: "Server-Side Object Encryption with AWS Root KMS, reference",
        text: include_str!("documents/minio-aws-root-kms-reference.yml"),
        admin: ROOT,
        tls: ("kes-server.key", "kes-server.cert"),
        policies: &[("minio-server", 3, 0, 1)],
        keys: 3,
        unused: 30,
        endpoint: "secretsmanager.REGION.amazonaws",
        region: "REGION",
        credentials: Some(("access", "secret")),
        warnings: &["root", "keystore.secretsmanager"],
    },
];

const ROOT: &str = "3ecfcdf38fcbe141ae26a1030f81e96b753365a46760ae6b578698a97c59fd22";

/// The variables that the documents use.
fn environment(name: &str) -> Option<String> {
    Some(match name {
        "ROOT_IDENTITY" => ROOT.to_owned(),
        "MINIO_IDENTITY" | "MINIO_IDENTITY_HASH" => digest(1),
        "AWS_ACCESS_KEY" | "AWSACCESSKEY" => "access".to_owned(),
        "AWS_SECRET_KEY" | "AWSSECRETKEY" => "secret".to_owned(),
        _ => return None,
    })
}

fn load(document: &Document) -> Loaded {
    kes_config::parse(
        document.text,
        "kes-config.yaml",
        &Overrides::default(),
        &environment,
    )
    .unwrap_or_else(|error| panic!("{}\n{error}", document.title))
}

#[test]
fn the_configurations_of_public_documents_load() {
    for document in &DOCUMENTS {
        let Loaded { settings, warnings } = load(document);
        let title = document.title;
        assert_eq!(settings.address.to_string(), "0.0.0.0:7373", "{title}");
        assert_eq!(settings.admin.text, document.admin, "{title}");
        assert_eq!(
            settings.admin.identity.is_some(),
            document.admin == ROOT,
            "{title}"
        );
        assert_eq!(settings.tls.key, Path::new(document.tls.0), "{title}");
        assert_eq!(settings.tls.cert, Path::new(document.tls.1), "{title}");
        let policies: Vec<_> = settings
            .policies
            .iter()
            .map(|p| {
                (
                    p.name.as_str(),
                    p.policy.allow.len(),
                    p.policy.deny.len(),
                    p.identities.len(),
                )
            })
            .collect();
        assert_eq!(policies, document.policies, "{title}");
        assert_eq!(settings.keys.len(), document.keys, "{title}");
        assert_eq!(settings.cache.any, Duration::from_secs(300), "{title}");
        assert_eq!(
            settings.cache.unused,
            Duration::from_secs(document.unused),
            "{title}"
        );
        assert_eq!(
            (settings.log.error, settings.log.audit),
            (LogLevel::INFO, LogLevel::OFF),
            "{title}"
        );

        let KeyStoreSettings::Aws(Aws {
            endpoint,
            region,
            kmskey,
            credentials,
            ca,
        }) = settings.keystore
        else {
            panic!("{title}");
        };
        assert_eq!(
            (endpoint.as_deref(), region.as_str()),
            (Some(document.endpoint), document.region),
            "{title}"
        );
        assert_eq!((kmskey, ca), (None, None), "{title}");
        let credentials = credentials.map(
            |AwsCredentials {
                 accesskey,
                 secretkey,
                 token,
             }| {
                assert!(token.is_none(), "{title}");
                (
                    accesskey.expose_secret().to_owned(),
                    secretkey.expose_secret().to_owned(),
                )
            },
        );
        let credentials = credentials
            .as_ref()
            .map(|(access, secret)| (access.as_str(), secret.as_str()));
        assert_eq!(credentials, document.credentials, "{title}");
        let warned: Vec<_> = warnings.iter().map(|warning| warning.key.as_str()).collect();
        assert_eq!(warned, document.warnings, "{title}");
    }
}

#[test]
fn the_policies_of_the_nested_reference_stay_apart() {
    let settings = load(&DOCUMENTS[1]).settings;
    let [minio, app] = settings.policies.as_slice() else {
        panic!()
    };
    assert!(minio.policy.permits("/v1/key/create/other") && !app.policy.permits("/v1/key/create/other"));
    assert!(app.policy.permits("/v1/key/decrypt/my-app-1"));
    assert!(!app.policy.permits("/v1/key/decrypt/my-app-internal-1"));
    assert!(!app.policy.permits("/v1/metrics"));
    assert_eq!(minio.identities[0].as_str(), digest(1));
    assert!(app.identities[1].as_str().starts_with("c0ecd596"));
    // It is set, to what is the default anyway.
    assert!(!settings.api[&Verb::Ready].skip_auth);
}

#[test]
fn a_bare_list_rule_allows_the_whole_listing_and_none_by_prefix() {
    let settings = load(&DOCUMENTS[2]).settings;
    let policy = &settings.policies[0].policy;
    assert!(policy.permits("/v1/key/list/") && !policy.permits("/v1/key/list/minio"));
}

#[test]
fn a_document_whose_variables_are_not_set_names_each() {
    let error = kes_config::parse(DOCUMENTS[1].text, "c.yml", &Overrides::default(), &|_| None).unwrap_err();
    let variables: Vec<_> = error.errors.iter().map(|e| e.message.as_str()).collect();
    assert_eq!(
        variables,
        [
            "ROOT_IDENTITY",
            "MINIO_IDENTITY",
            "AWS_ACCESS_KEY",
            "AWS_SECRET_KEY"
        ]
        .map(|name| format!("the environment variable {name} is not set"))
    );
}

#[test]
fn the_same_identity_for_root_and_minio_is_an_error() {
    let same = |name: &str| {
        if name == "MINIO_IDENTITY" {
            Some(ROOT.to_owned())
        } else {
            environment(name)
        }
    };
    let error = kes_config::parse(DOCUMENTS[1].text, "c.yml", &Overrides::default(), &same).unwrap_err();
    assert_eq!(error.errors.len(), 1);
    assert!(
        error
            .to_string()
            .contains("policy.minio-server.identities: this identity is the admin's"),
        "{error}"
    );
}

#[test]
fn a_reference_that_lost_its_indentation_is_explained_and_not_guessed_at() {
    let text = include_str!("documents/minio-aws-reference-flattened.yml");
    let error = kes_config::parse(text, "c.yml", &Overrides::default(), &environment).unwrap_err();
    let lines: Vec<_> = error.errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines[0],
        "c.yml:3: tls: `tls`, `policy`, `keystore` are empty and look un-indented: indent the lines that belong to \
         each section"
    );
    let rest: Vec<_> = error.errors[1..].iter().map(|error| error.key.as_str()).collect();
    assert_eq!(rest, ["tls.key", "tls.cert", "keystore"], "{lines:#?}");
}
