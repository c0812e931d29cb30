//! MinIO's documentation for AWS as it was in 2023: on one machine for a try, and for production with systemd.
//!
//! What has reached us of it has lost line ends: of two commands on one line each is a row, and the configuration is as the tests of
//! `kes-config` have it, with its indentation.

use super::super::table::{Document, Row, Service, file, row, service};
use super::{AWS_USER, AWS_USER_WHY, configuration, iam_policy};

pub(super) const LOCAL: Document = Document {
    name: "minio-aws-2023",
    title: "Server-Side Object Encryption with AWS Secrets Manager Root KMS, for local development, 2023",
    rows: LOCAL_ROWS,
    lines: None,
};

pub(super) const PRODUCTION: Document = Document {
    name: "minio-production-2023",
    title: "Server-Side Object Encryption with AWS Secrets Manager Root KMS, for production, 2023",
    rows: PRODUCTION_ROWS,
    lines: None,
};

/// GNU's `mkdir`, and every other, has only `-p`.
const NO_SUCH_OPTION: &str = "mkdir: invalid option -- 'P'\n...";
const MEANT: &str = "`mkdir` has no option -P: what is meant is -p";
const AN_EDITOR: &str = "an editor, for the file below";
const NO_SYSTEMD: &str = "systemd does not run in a room";

/// What MinIO's environment has for KES.
const ENVIRONMENT: &str = "\
MINIO_KMS_KES_ENDPOINT=https://HOSTNAME:7373
MINIO_KMS_KES_CERT_FILE=/opt/minio/certs/minio-kes.cert
MINIO_KMS_KES_KEY_FILE=/opt/minio/certs/minio-kes.key
MINIO_KMS_KES_CAPATH=/opt/kes/certs/kes-server.cert
MINIO_KMS_KES_KEY_NAME=minio-backend-default-key
MINIO_KMS_KES_ENCLAVE=<name>
# What is in the existing file.
MINIO_VOLUMES=/reader/minio
MINIO_ROOT_USER=ROOTUSER
MINIO_ROOT_PASSWORD=ROOTPASSWORD
";

/// What the reader puts into it.
const OWN_ENVIRONMENT: &[(&str, &str)] = &[("HOSTNAME", "127.0.0.1"), ("<name>", "tenant-1")];

/// What the reader puts into the configuration.
const OWN_VALUES: &[(&str, &str)] = &[
    ("REGION", "us-east-2"),
    ("AWSACCESSKEY", "$ACCESS_KEY"),
    ("AWSSECRETKEY", "$SECRET_KEY"),
];

/// The same, for a server that is started without the variable.
const ALL_OWN_VALUES: &[(&str, &str)] = &[
    ("REGION", "us-east-2"),
    ("AWSACCESSKEY", "$ACCESS_KEY"),
    ("AWSSECRETKEY", "$SECRET_KEY"),
    ("${MINIO_IDENTITY_HASH}", "$MINIO_IDENTITY_HASH"),
];

const DOWNLOAD: &str = "curl --retry 10 https://github.com/minio/kes/releases/download/2023-05-02T22-48-10Z/kes-linux-amd64 -o /tmp/kes";
const OUR_OWN: &str = "our own executable, in place of the one that would be fetched";
const COPY: &str = "cp $(which kes) /tmp/kes && rm $(which kes)";

const SERVER_CERTIFICATE: &str = r#"kes identity new kes_server \
--key /opt/kes/certs/kes-server.key \
--cert /opt/kes/certs/kes-server.cert \
--ip "127.0.0.1" \
--dns localhost"#;

const MINIO_CERTIFICATE: &str = r#"kes identity new minio_server \
--key /opt/minio/certs/minio-kes.key \
--cert /opt/minio/certs/minio-kes.cert \
--ip "127.0.0.1" \
--dns localhost"#;

/// What a certificate of the document has.
const NAMES: &str = "\
subject=CN = {word}
X509v3 Subject Alternative Name:{text}
    DNS:localhost, IP Address:127.0.0.1
Certificate will not expire
Certificate will expire";

const LOCAL_ROWS: &[Row] = &[
    service(15, "the AWS account of the reader", Service::Aws),
    file(20, "policy.json", iam_policy!("minioSecretsManagerAccess", "minioKmsAccess")),
    row(18, "a new programmatic access user").instead(AWS_USER, AWS_USER_WHY),
    row(32, "mkdir -P /opt/kes/certs").fails().says(NO_SUCH_OPTION),
    row(32, "mkdir -P /opt/kes/certs").instead("mkdir -p /opt/kes/certs", MEANT),
    row(33, "mkdir -P /opt/kes/config").instead("mkdir -p /opt/kes/config", MEANT),
    row(34, "mkdir -P /opt/minio/certs").instead("mkdir -p /opt/minio/certs", MEANT),
    row(35, "mkdir -P /opt/minio/config").instead("mkdir -p /opt/minio/config", MEANT),
    row(36, "mkdir -P ~/minio").instead("mkdir -p ~/minio", MEANT),
    row(44, DOWNLOAD).instead(COPY, OUR_OWN),
    row(45, "chmod +x /tmp/kes"),
    row(46, "sudo mv /tmp/kes /usr/local/bin"),
    row(47, "kes --version").prints("kes {text}\n..."),
    row(58, SERVER_CERTIFICATE)
        .prints(
            "
  Private key:  /opt/kes/certs/kes-server.key
  Certificate:  /opt/kes/certs/kes-server.cert
  Identity:     {identity}
  API key:      {api-key}
",
        )
        .then(&[(
            "set -- -in /opt/kes/certs/kes-server.cert -noout
             openssl x509 $@ -subject -ext subjectAltName
             openssl x509 $@ -checkend $((29 * 86400)); fails openssl x509 $@ -checkend $((31 * 86400))",
            NAMES,
        )]),
    row(63, MINIO_CERTIFICATE)
        .prints(
            "
  Private key:  /opt/minio/certs/minio-kes.key
  Certificate:  /opt/minio/certs/minio-kes.cert
  Identity:     {identity MINIO_IDENTITY_HASH}
  API key:      {api-key}
",
        )
        .then(&[(
            "set -- -in /opt/minio/certs/minio-kes.cert -noout
             openssl x509 $@ -subject -ext subjectAltName
             openssl x509 $@ -checkend $((29 * 86400)); fails openssl x509 $@ -checkend $((31 * 86400))",
            NAMES,
        )]),
    row(80, "nano /opt/kes/config/kes-config.yaml").not_here(AN_EDITOR),
    row(82, "the configuration on one line, as it has reached us")
        .instead(
            "echo 'address: 0.0.0.0:7373 # Disable the root identity root: disabled tls: key: /opt/kes/certs/kes-server.key' >one-line.yaml
             kes server --check --config one-line.yaml",
            "all behind the first remark is one, and nothing is guessed",
        )
        .fails()
        .prints("")
        .says("...\n{text}tls.key{text}\n..."),
    file(82, "/opt/kes/config/kes-config.yaml", configuration!("documents/minio-aws-minimum.yml")).fill(OWN_VALUES),
    row(86, "kes identity of /opt/minio/certs/minio-kes.cert")
        .prints("\n  Identity:  {identity MINIO_IDENTITY_HASH}\n"),
    row(98, "nano /opt/minio/config/minio").not_here(AN_EDITOR),
    file(100, "/opt/minio/config/minio", ENVIRONMENT).fill(OWN_ENVIRONMENT),
    row(124, "sudo setcap cap_ipc_lock=+ep $(readlink -f $(which kes))")
        .then(&[("getcap $(which kes)", "/usr/local/bin/kes cap_ipc_lock=ep")]),
    row(124, "kes server --auth=off --config=/opt/kes/config/kes-config.yaml")
        .serves(7373)
        .prints(BANNER)
        .says(
            "deprecated: kes server --auth: use tls.auth in the configuration file\n\
             Warning: {text}root: is deprecated {text}\n...",
        ),
    row(137, "export MINIO_CONFIG_ENV_FILE=/opt/minio/config/minio"),
    row(137, "minio server --console-address :9090").serves(9000),
    row(153, "http://127.0.0.1:9090")
        .instead("curl -sS --retry 20 --retry-all-errors -o console http://127.0.0.1:9090 && grep -ciq minio console", "a look at the console, which is for a browser"),
    row(146, "export KES_SERVER=https://127.0.0.1:7373"),
    row(147, "export KES_CLIENT_KEY=/opt/minio/certs/minio-kes.key"),
    row(148, "export KES_CLIENT_CERT=/opt/minio/certs/minio-kes.cert"),
    row(149, "kes key create -k encrypted-bucket-key").prints("").then(&[(
        "kes key ls -k",
        "Key\nencrypted-bucket-key\nminio-backend-default-key",
    )]),
    row(164, "mc alias set local http://127.0.0.1:9000 ROOTUSER ROOTPASSWORD").then(&[("mc ready local", "{text}")]),
    row(165, "mc mb local/encryptedbucket").prints("Bucket created successfully `local/encryptedbucket`."),
    row(166, "mc encrypt set SSE-KMS encrypted-bucket-key ALIAS/encryptedbucket")
        .instead(
            "mc encrypt set SSE-KMS encrypted-bucket-key local/encryptedbucket",
            "the alias is called local",
        )
        .prints("Auto encryption configuration has been set successfully for local/encryptedbucket"),
    row(167, "mc cp").instead(
        "echo hello >file && mc cp --quiet file local/encryptedbucket/",
        "a file of the reader",
    ),
    row(170, "mc stat")
        .instead("mc stat local/encryptedbucket/file", "the file of the reader")
        .prints(STAT_KMS),
    row(142, "mc admin kms key create")
        .instead("mc admin kms key create local other-key", "the other way that the document names")
        .prints("Created master key `other-key` successfully"),
    // What MinIO would send for its enclave.
    row(100, "MINIO_KMS_KES_ENCLAVE=<name>").instead(
        "curl -sS --fail-with-body --cacert /opt/kes/certs/kes-server.cert --cert $KES_CLIENT_CERT --key $KES_CLIENT_KEY \
         -X POST \"$KES_SERVER/v1/key/create/of-an-enclave?enclave=tenant-1\"",
        "an enclave in a request is nothing to a server that has none",
    )
    .prints(""),
    // The reference configuration.
    row(324, "kes-server.key, kes-server.cert, and the variables").instead(
        "cp /opt/kes/certs/kes-server.* .
         export ROOT_IDENTITY=disabled MINIO_IDENTITY=$MINIO_IDENTITY_HASH AWS_ACCESS_KEY=$ACCESS_KEY AWS_SECRET_KEY=$SECRET_KEY",
        "what the configuration names",
    ),
    file(324, "flattened.yaml", configuration!("documents/minio-aws-reference-flattened.yml")),
    row(324, "the configuration without its indentation, as it has reached us")
        .instead(
            "kes server --check --config flattened.yaml",
            "nothing is guessed, and the refusal says what it looks like",
        )
        .fails()
        .prints("")
        .says("...\n{text}look un-indented{text}\n..."),
    file(324, "reference.yaml", configuration!("documents/minio-aws-reference.yml")).fill(&[
        ("secretsmanager.REGION.amazonaws", "secretsmanager.us-east-2.amazonaws.com"),
        ("REGION", "us-east-2"),
    ]),
    row(324, "kes server with the reference configuration")
        .instead("kes server --config=reference.yaml", "the document does not start it")
        .serves(7373)
        .prints("...\nAdmin       <disabled>\n...\n=> {text}")
        .says("Warning: {text}root: is deprecated {text}\nWarning: {text}keystore.secretsmanager: {text}\n...")
        .then(&[(
            "kes key ls -k",
            "Key\nencrypted-bucket-key\nminio-backend-default-key\nminio-encryption-key-alpha\nminio-encryption-key-baker\n\
             minio-encryption-key-charlie\nof-an-enclave\nother-key",
        )]),
];

const PRODUCTION_ROWS: &[Row] = &[
    service(15, "the AWS account of the reader", Service::Aws),
    file(20, "policy.json", iam_policy!("minioSecretsManagerAccess", "minioKmsAccess")),
    row(18, "a new programmatic access user").instead(AWS_USER, AWS_USER_WHY),
    row(174, "mkdir -P /opt/kes/certs").instead("mkdir -p /opt/kes/certs", MEANT),
    row(175, "mkdir -P /opt/kes/config").instead("mkdir -p /opt/kes/config", MEANT),
    row(176, "mkdir -P /opt/minio/certs").instead("mkdir -p /opt/minio/certs", MEANT),
    row(184, DOWNLOAD).instead(COPY, OUR_OWN),
    row(184, "chmod +x /tmp/kes"),
    row(184, "sudo mv /tmp/kes /usr/local/bin"),
    row(184, "kes --version").prints("kes {text}\n..."),
    file(189, "/etc/systemd/system/kes.service", UNIT),
    row(191, "systemctl daemon-reload")
        .instead("systemd-analyze verify /etc/systemd/system/kes.service", NO_SYSTEMD)
        .prints("")
        .says(""),
    row(199, "groupadd -r kes"),
    row(199, "useradd -M -r -g kes kes"),
    row(205, "kes identity new").instead(
        "kes identity new kes_server --key /opt/kes/certs/kes-server.key --cert /opt/kes/certs/kes-server.cert --ip 127.0.0.1 --dns localhost
         kes identity new minio_server --key /opt/minio/certs/minio-kes.key --cert /opt/minio/certs/minio-kes.cert",
        "the document leaves it to the reader where certificates come from",
    )
    .prints("..."),
    row(223, "nano /etc/kes/config.yaml").not_here(AN_EDITOR),
    row(229, "kes identity of /opt/minio/certs/minio-kes.cert")
        .prints("\n  Identity:  {identity MINIO_IDENTITY_HASH}\n"),
    file(225, "/etc/kes/config.yaml", configuration!("documents/minio-aws-minimum.yml")).fill(ALL_OWN_VALUES),
    row(189, "--config=/opt/kes/config.yaml").instead(
        "cp /etc/kes/config.yaml /opt/kes/config.yaml",
        "the unit looks for the configuration in another folder than that where the document has it written",
    ),
    row(202, "chown -R kes:kes /opt/kes").then(&[("stat -c %U:%G /opt/kes/certs/kes-server.key", "kes:kes")]),
    row(269, "systemctl start kes")
        .instead(
            "-C $(sed -n s/^WorkingDirectory=//p /etc/systemd/system/kes.service) setpriv --reuid=kes --regid=kes --clear-groups \
             --bounding-set=-all,+ipc_lock --inh-caps=-all,+ipc_lock --ambient-caps=-all,+ipc_lock \
             $(sed -n s/^ExecStart=//p /etc/systemd/system/kes.service)",
            NO_SYSTEMD,
        )
        .serves(7373)
        .prints(BANNER)
        .says("Warning: {text}root: is deprecated {text}\n..."),
    row(271, "systemctl status kes").not_here(NO_SYSTEMD),
    row(272, "journalctl -uf kes").not_here(NO_SYSTEMD),
    file(243, "/etc/default/minio", ENVIRONMENT).fill(OWN_ENVIRONMENT),
    row(275, "systemctl start minio")
        .instead("MINIO_CONFIG_ENV_FILE=/etc/default/minio minio server", NO_SYSTEMD)
        .serves(9000),
    row(277, "systemctl reload minio").not_here(NO_SYSTEMD),
    row(277, "systemctl restart minio")
        .instead("MINIO_CONFIG_ENV_FILE=/etc/default/minio minio server", NO_SYSTEMD)
        .serves(9000),
    row(285, "export KES_SERVER=https://127.0.0.1:7373"),
    row(286, "export KES_CLIENT_KEY=/opt/minio/certs/minio-kes.key"),
    row(287, "export KES_CLIENT_CERT=/opt/minio/certs/minio-kes.cert"),
    row(288, "kes key create -k encrypted-bucket-key").prints(""),
    row(303, "mc alias set local http://127.0.0.1:9000 ROOTUSER ROOTPASSWORD").then(&[("mc ready local", "{text}")]),
    row(304, "mc mb local/encryptedbucket").prints("Bucket created successfully `local/encryptedbucket`."),
    row(305, "mc encrypt set SSE-KMS encrypted-bucket-key ALIAS/encryptedbucket")
        .instead(
            "mc encrypt set SSE-KMS encrypted-bucket-key local/encryptedbucket",
            "the alias is called local",
        )
        .prints("Auto encryption configuration has been set successfully for local/encryptedbucket"),
    row(306, "mc cp").instead(
        "echo hello >file && mc cp --quiet file local/encryptedbucket/",
        "a file of the reader",
    ),
    row(309, "mc stat")
        .instead("mc stat local/encryptedbucket/file", "the file of the reader")
        .prints(STAT_KMS),
];

const UNIT: &str = "\
[Unit]
Description=KES
Documentation=https://github.com/minio/kes/wiki
Wants=network-online.target
After=network-online.target
AssertFileIsExecutable=/usr/local/bin/kes

[Service]
WorkingDirectory=/etc/kes/
AmbientCapabilities=CAP_IPC_LOCK
User=kes
Group=kes
ProtectProc=invisible
ExecStart=/usr/local/bin/kes server --config=/opt/kes/config.yaml
Restart=always
LimitNOFILE=65536
TasksMax=infinity
TimeoutStopSec=infinity
SendSIGKILL=no

[Install]
WantedBy=multi-user.target
";

const BANNER: &str = "\
...
KMS         AWS Secrets Manager: https://secretsmanager.us-east-2.amazonaws.com
...
Admin       <disabled>
Auth        off
Logs        error=stderr level=INFO
MLock       enabled
...
=> {text}";

const STAT_KMS: &str = "\
...
Name      : file
...
{text}SSE-KMS (arn:aws:kms:encrypted-bucket-key)
...";
