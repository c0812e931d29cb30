//! MinIO's documentation for AWS of an older age, as its source. Its steps include a file that is not published with it.

use super::super::table::{Document, Row, Service, file, row, service};
use super::{AWS_USER, AWS_USER_WHY, configuration, iam_policy};

pub(super) const DOCUMENT: Document = Document {
    name: "minio-aws-older",
    title: "Server-Side Object Encryption with AWS Root KMS, 2022",
    rows: ROWS,
    lines: None,
};

const INCLUDED: &str =
    "the step is in a file that is not published with the document: this is how it was done then";

const ROWS: &[Row] = &[
    service(47, "the AWS account of the reader", Service::Aws),
    file(70, "policy.json", iam_policy!("minioSecretsManagerAccess", "minioKmsAccess")),
    row(60, "a new programmatic access user").instead(AWS_USER, AWS_USER_WHY),
    row(129, "mkdir -P ~/kes/certs ~/kes/config").fails().says("mkdir: invalid option -- 'P'\n..."),
    row(129, "mkdir -P ~/kes/certs ~/kes/config").instead(
        "mkdir -p ~/kes/certs ~/kes/config",
        "`mkdir` has no option -P: what is meant is -p",
    ),
    row(134, "include: start-kes-download-desc").not_here("our own executable is there"),
    row(141, "include: start-kes-generate-kes-certs-desc")
        .instead(
            "mkdir -p /data/certs
             kes tool identity new kes_server --key /data/certs/server.key --cert /data/certs/server.cert --ip 127.0.0.1 --dns localhost",
            INCLUDED,
        )
        .prints("...")
        .says("deprecated: kes tool identity new: use kes identity new"),
    row(148, "include: start-kes-generate-minio-certs-desc")
        .instead(
            "kes tool identity new minio_server --key minio-kes.key --cert minio-kes.cert --ip 127.0.0.1 --dns localhost",
            INCLUDED,
        )
        .prints("...")
        .says("deprecated: kes tool identity new: use kes identity new"),
    row(188, "kes tool identity of minio-kes.cert")
        .prints("\n  Identity:  {identity MINIO_IDENTITY_HASH}\n")
        .says("deprecated: kes tool identity of: use kes identity of"),
    row(210, "kes tool identity of minio-kes.cert")
        .prints("\n  Identity:  {identity MINIO_IDENTITY_HASH}\n")
        .says("deprecated: kes tool identity of: use kes identity of"),
    row(215, "AWSACCESSKEY and AWSSECRETKEY").instead(
        "export AWSACCESSKEY=$ACCESS_KEY AWSSECRETKEY=$SECRET_KEY",
        "the variables that the configuration has",
    ),
    file(162, "kes/config/kes-config.yaml", configuration!("documents/minio-aws-root-kms-minimum.yml")).fill(&[
        ("secretsmanager.REGION.amazonaws", "secretsmanager.us-east-2.amazonaws.com"),
        ("REGION", "us-east-2"),
    ]),
    row(221, "include: start-kes-run-server-desc")
        .instead("kes server --auth=off --config=kes/config/kes-config.yaml", INCLUDED)
        .serves(7373)
        .prints("...\nAdmin       <disabled>\n...\n=> {text}")
        .says(
            "deprecated: kes server --auth: use tls.auth in the configuration file\n\
             Warning: {text}root: is deprecated {text}\nWarning: {text}keystore.secretsmanager: {text}\n...",
        ),
    row(229, "include: start-kes-generate-key-desc").instead(
        "export KES_SERVER=https://127.0.0.1:7373 KES_CLIENT_KEY=minio-kes.key KES_CLIENT_CERT=minio-kes.cert
         kes key create -k encrypted-bucket-key
         kes key create -k minio-default-key",
        INCLUDED,
    ),
    row(236, "include: start-kes-configure-minio-desc")
        .instead(
            "MINIO_ROOT_USER=minio MINIO_ROOT_PASSWORD=minio12345 MINIO_KMS_KES_ENDPOINT=https://127.0.0.1:7373 \
             MINIO_KMS_KES_CERT_FILE=minio-kes.cert MINIO_KMS_KES_KEY_FILE=minio-kes.key MINIO_KMS_KES_CAPATH=/data/certs/server.cert \
             MINIO_KMS_KES_KEY_NAME=minio-default-key minio server /reader/minio",
            INCLUDED,
        )
        .serves(9000)
        .then(&[("mc alias set ALIAS http://127.0.0.1:9000 minio minio12345\nmc ready ALIAS", "...\n{text}ready{text}")]),
    row(253, "mc mb ALIAS/encryptedbucket").prints("Bucket created successfully `ALIAS/encryptedbucket`."),
    row(254, "mc encrypt set SSE-KMS encrypted-bucket-key ALIAS/encryptedbucket")
        .prints("Auto encryption configuration has been set successfully for ALIAS/encryptedbucket"),
    row(259, "mc cp").instead("echo hello >file && mc cp --quiet file ALIAS/encryptedbucket/", "a file of the reader"),
    row(260, "mc stat")
        .instead("mc stat ALIAS/encryptedbucket/file", "the file of the reader")
        .prints("...\n{text}SSE-KMS (arn:aws:kms:encrypted-bucket-key)\n..."),
    row(272, "mc mb ALIAS/encryptedbucket")
        .instead("mc mb ALIAS/another-bucket", "the first one exists")
        .prints("Bucket created successfully `ALIAS/another-bucket`."),
    row(273, "mc encrypt set SSE-S3 ALIAS/encryptedbucket")
        .instead("mc encrypt set SSE-S3 ALIAS/another-bucket", "the first one is for SSE-KMS")
        .prints("Auto encryption configuration has been set successfully for ALIAS/another-bucket"),
    row(278, "mc cp").instead("mc cp --quiet file ALIAS/another-bucket/", "a file of the reader"),
    row(279, "mc stat")
        .instead("mc stat ALIAS/another-bucket/file", "the file of the reader")
        .prints("...\n{text}SSE-S3\n..."),
    // The reference configuration.
    row(302, "the files and variables of the configuration").instead(
        "cp /data/certs/server.key kes-server.key && cp /data/certs/server.cert kes-server.cert
         export ROOT_IDENTITY=disabled MINIO_IDENTITY=$MINIO_IDENTITY_HASH AWS_ACCESS_KEY=$ACCESS_KEY AWS_SECRET_KEY=$SECRET_KEY",
        "what the configuration names",
    ),
    file(302, "reference.yaml", configuration!("documents/minio-aws-root-kms-reference.yml")).fill(&[
        ("secretsmanager.REGION.amazonaws", "secretsmanager.us-east-2.amazonaws.com"),
        ("REGION", "us-east-2"),
    ]),
    row(302, "kes server with the reference configuration")
        .instead("kes server --config=reference.yaml", "the document does not start it")
        .serves(7373)
        .prints("...\nAdmin       <disabled>\n...\n=> {text}")
        .says("Warning: {text}root: is deprecated {text}\nWarning: {text}keystore.secretsmanager: {text}\n...")
        .then(&[("kes key dek -k minio-encryption-key-charlie | cat", "{\"plaintext\":\"{base64}\",\"ciphertext\":\"{base64}\"}")]),
];
