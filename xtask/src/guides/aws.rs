//! The guides for AWS Secrets Manager: the tutorial of the reference implementation, and MinIO's own documentation in two ages. Their
//! configurations are those that the tests of `kes-config` read, with the address and the region of the peer.

use std::fs;

use anyhow::{Context, Result, ensure};
use kes_peers::Moto;

use super::Step;
use super::place::Place;
use crate::cargo;

/// The names of the guides and their steps.
pub(super) const GUIDES: &[(&str, &[Step<Moto>])] = &[
    (
        "aws-tutorial",
        &[
            ("the certificates", |place, _| {
                place.sh("kes identity new --ip \"127.0.0.1\" localhost")?;
                place.sh("kes identity new --key=client.key --cert=client.crt MyApp")?;
                identity(place, "client.crt", "CLIENT_IDENTITY")
            }),
            ("the configuration, and the server starts", |place, _| {
                configure(place, "aws-secrets-manager-tutorial.yml", "config.yml")?;
                place.serve("kes server --config config.yml --auth off")
            }),
            ("a key and a data key", |place, _| {
                place.export("KES_SERVER", "https://127.0.0.1:7373");
                place.export("KES_CLIENT_CERT", "client.crt");
                place.export("KES_CLIENT_KEY", "client.key");
                // The guide does not say how the client comes to trust the certificate.
                place.export("SSL_CERT_FILE", "public.crt");
                place.sh("kes key create my-key-1")?;
                data_key(place, "my-key-1")
            }),
            ("the reference configuration", |place, _| {
                reference_certificates(place)?;
                configure(place, "aws-secrets-manager-reference.yml", "reference.yml")?;
                place.serve("kes server --config reference.yml")?;
                declared_keys(place)
            }),
        ],
    ),
    (
        "aws-minio-2023",
        &[
            ("certificates for KES and MinIO", |place, _| {
                minio_certificates(place, "identity")
            }),
            ("the configuration, and the server starts", |place, _| {
                configure(place, "minio-aws-minimum.yml", "kes-config.yaml")?;
                place.serve("kes server --auth=off --config=kes-config.yaml")
            }),
            ("a key for a bucket", bucket_key),
            ("the reference configuration", |place, _| {
                reference_certificates(place)?;
                configure(place, "minio-aws-reference.yml", "reference.yaml")?;
                place.serve("kes server --auth=off --config=reference.yaml")?;
                declared_keys(place)
            }),
        ],
    ),
    (
        "aws-minio-older",
        &[
            ("certificates for KES and MinIO", |place, _| {
                minio_certificates(place, "tool identity")
            }),
            ("the configuration, and the server starts", |place, _| {
                configure(place, "minio-aws-root-kms-minimum.yml", "kes-config.yaml")?;
                place.serve("kes server --auth=off --config=kes-config.yaml")
            }),
            ("a key for a bucket", bucket_key),
            ("the reference configuration", |place, _| {
                reference_certificates(place)?;
                configure(place, "minio-aws-root-kms-reference.yml", "reference.yaml")?;
                place.serve("kes server --auth=off --config=reference.yaml")?;
                declared_keys(place)
            }),
        ],
    ),
];

/// The service, and the credentials that all guides take for granted, under each name that one of them has.
pub(super) fn start(place: &mut Place) -> Result<Moto> {
    let moto = Moto::start()?;
    place.export("SECRETS_MANAGER", &moto.endpoint());
    for name in ["AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY", "AWSACCESSKEY"] {
        place.export(name, "AKIAIOSFODNN7EXAMPLE");
    }
    for name in ["AWS_SECRET_ACCESS_KEY", "AWS_SECRET_KEY", "AWSSECRETKEY"] {
        place.export(name, "of-an-example");
    }
    Ok(moto)
}

/// Writes the configuration of a guide with what the guide says is to be filled in.
fn configure(place: &Place, document: &str, file: &str) -> Result<()> {
    let path = cargo::root()
        .join("crates/config/tests/it/documents")
        .join(document);
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let lines = text.lines().map(|line| {
        let (key, value) = line.split_once(": ").unwrap_or((line, ""));
        match key.trim() {
            "endpoint" => format!("{key}: ${{SECRETS_MANAGER}}"),
            "region" => format!("{key}: us-east-2"),
            // Of the reader's client.
            _ if line.trim().starts_with("- 02ef5321ca40") => {
                line.replace(line.trim(), "- ${CLIENT_IDENTITY}")
            }
            // Folders of the system.
            "key" | "cert" => format!("{key}: {}", value.rsplit('/').next().unwrap_or(value)),
            _ => line.to_owned(),
        }
    });
    let text: String = lines.map(|line| line + "\n").collect();
    ensure!(
        text.contains("${SECRETS_MANAGER}") && text.contains("us-east-2"),
        "{} names no service",
        path.display()
    );
    place.write(file, &text)
}

/// `kes identity of`, into a variable.
fn identity(place: &mut Place, cert: &str, variable: &str) -> Result<()> {
    let printed = place.sh(&format!("kes identity of {cert}"))?;
    let identity = printed.split_whitespace().last().context("no identity")?;
    place.export(variable, identity);
    Ok(())
}

/// What the guides' common steps make, under the names that their configurations have. `command` is that of their time.
fn minio_certificates(place: &mut Place, command: &str) -> Result<()> {
    place.sh("kes --version")?;
    for (subject, key, cert) in [
        ("kes_server", "kes-server.key", "kes-server.cert"),
        ("kes_server", "server.key", "server.cert"),
        ("minio_server", "minio-kes.key", "minio-kes.cert"),
    ] {
        place.sh(&format!(
            "kes {command} new {subject} --key {key} --cert {cert} --ip \"127.0.0.1\" --dns localhost"
        ))?;
    }
    identity(place, "minio-kes.cert", "MINIO_IDENTITY_HASH")
}

fn bucket_key(place: &mut Place, _: &Moto) -> Result<()> {
    place.export("KES_SERVER", "https://127.0.0.1:7373");
    place.export("KES_CLIENT_KEY", "minio-kes.key");
    place.export("KES_CLIENT_CERT", "minio-kes.cert");
    place.sh("kes key create -k encrypted-bucket-key")?;
    data_key(place, "-k encrypted-bucket-key")
}

fn reference_certificates(place: &mut Place) -> Result<()> {
    place.sh("rm -f kes-server.*
         kes identity new --key kes-server.key --cert kes-server.cert --ip 127.0.0.1 localhost
         kes identity new --key minio.key --cert minio.cert minio
         kes identity new --key root.key --cert root.cert root")?;
    identity(place, "root.cert", "ROOT_IDENTITY")?;
    identity(place, "minio.cert", "MINIO_IDENTITY")?;
    identity(place, "minio.cert", "MINIO_IDENTITY_HASH")
}

/// The keys that the reference configurations declare are there, for MinIO.
fn declared_keys(place: &mut Place) -> Result<()> {
    place.export("KES_CLIENT_CERT", "minio.cert");
    place.export("KES_CLIENT_KEY", "minio.key");
    for name in ["alpha", "baker", "charlie"] {
        data_key(place, &format!("-k minio-encryption-key-{name}"))?;
    }
    Ok(())
}

fn data_key(place: &Place, key: &str) -> Result<()> {
    let printed = place.sh(&format!("kes key dek {key}"))?;
    ensure!(
        printed.contains("plaintext") && printed.contains("ciphertext"),
        "no data key: {printed}"
    );
    Ok(())
}
