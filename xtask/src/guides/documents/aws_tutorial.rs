//! The AWS tutorial of the reference implementation, with its remarks on containers and its reference configuration.

use super::super::table::{Document, Row, Service, file, row, service};
use super::{AWS_USER, AWS_USER_WHY, configuration, iam_policy};

pub(super) const DOCUMENT: Document = Document {
    name: "aws-tutorial",
    title: "AWS Secrets Manager, a tutorial of 2023-02-08",
    rows: ROWS,
    lines: None,
};

pub(super) const ROWS: &[Row] = &[
    service(28, "the AWS account of the reader", Service::Aws),
    file(46, "policy.json", iam_policy!("Stmt1578498399136", "Stmt1578498562539")),
    row(34, "the console: a new user, and its access key").instead(AWS_USER, AWS_USER_WHY),
    // The certificates.
    row(95, r#"kes identity new --ip "127.0.0.1" localhost"#)
        .prints(
            "
  Private key:  private.key
  Certificate:  public.crt
  Identity:     {identity SERVER}
  API key:      {api-key}
",
        )
        .then(&[
            ("stat -c '%a %n' private.key public.crt", "600 private.key\n644 public.crt"),
            (
                "openssl x509 -in public.crt -noout -subject -ext subjectAltName",
                "subject=CN = localhost\nX509v3 Subject Alternative Name:{text}\n    DNS:localhost, IP Address:127.0.0.1",
            ),
        ]),
    row(95, r#"kes identity new --ip "127.0.0.1" localhost"#)
        .fails()
        .says("Error: {text}private.key{text}"),
    row(114, "kes identity new --key=client.key --cert=client.crt MyApp")
        .prints(
            "
  Private key:  client.key
  Certificate:  client.crt
  Identity:     {identity CLIENT}
  API key:      {api-key}
",
        )
        .then(&[
            ("stat -c '%a %n' client.key client.crt", "600 client.key\n644 client.crt"),
            (
                "openssl x509 -in client.crt -noout -subject -ext subjectAltName 2>&1",
                "subject=CN = MyApp\nNo extensions in certificate",
            ),
        ]),
    row(126, "kes identity of client.crt")
        .prints("\n  Identity:  {identity CLIENT}\n")
        .then(&[("kes identity of client.crt | cat", "{identity CLIENT}")]),
    // The configuration. The reader has put the keys of AWS where AWS's own programs look for them, since the file has none.
    file(138, "config.yml", configuration!("documents/aws-secrets-manager-tutorial.yml")).fill(&[(
        "02ef5321ca409dbc7b10e7e8ee44d1c3b91e4bf6e2198befdebee6312745267b",
        "$CLIENT",
    )]),
    row(163, r#"accesskey: "" # Your AWS Access Key"#).instead(
        "export AWS_ACCESS_KEY_ID=$ACCESS_KEY",
        "the keys of AWS are looked for in the environment, if the file has none",
    ),
    row(164, r#"secretkey: "" # Your AWS Secret Key"#).instead(
        "export AWS_SECRET_ACCESS_KEY=$SECRET_KEY",
        "the keys of AWS are looked for in the environment, if the file has none",
    ),
    row(172, "kes server --config config.yml --auth off")
        .serves(7373)
        .prints(BANNER)
        .says("deprecated: kes server --auth: use tls.auth in the configuration file\n..."),
    row(183, "sudo setcap cap_ipc_lock=+ep $(readlink -f $(which kes))")
        .prints("")
        .then(&[("getcap $(which kes)", "/usr/local/bin/kes cap_ipc_lock=ep")]),
    row(183, "KES may lock memory")
        .instead(
            "setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all kes server --dev --mlock --addr 127.0.0.1:7374",
            "that is what the right is for: somebody who is not root",
        )
        .serves(7374)
        .prints("...\nMLock       enabled\n...\n=> {text}"),
    row(189, "kes server --config config.yml --auth off --mlock")
        .serves(7373)
        .prints(LOCKED_BANNER)
        .then(&[(
            "for process in $(pidof kes); do grep -qE 'VmLck:.*[1-9]' /proc/$process/status; echo locked; done",
            "locked\nlocked",
        )]),
    row(189, "kes server --config config.yml --auth off --mlock").instead(
        "cp --no-preserve=all $(which kes) kes-without-rights && chmod 755 . kes-without-rights
         fails setpriv --bounding-set=-ipc_lock --inh-caps=-ipc_lock prlimit --memlock=65536 \\
           ./kes-without-rights server --config config.yml --addr 127.0.0.1:7374 --auth off --mlock 2>refusal
         rm kes-without-rights
         grep -o 'cannot lock memory' refusal",
        "without the right to lock memory, it does not start",
    )
    .prints("cannot lock memory"),
    // The client.
    row(248, "export KES_SERVER=https://127.0.0.1:7373"),
    row(256, "export KES_CLIENT_CERT=client.crt"),
    row(259, "export KES_CLIENT_KEY=client.key"),
    row(268, "kes key create my-key-1")
        .fails()
        .says("Error: cannot trust the server {text} MINIO_KMS_KES_CAPATH or SSL_CERT_FILE, or use --insecure (-k) {text}"),
    row(268, "kes key create my-key-1").instead(
        "SSL_CERT_FILE=public.crt kes key create my-key-1",
        "the document does not say how its client comes to trust the server",
    )
    .prints("")
    .says(""),
    row(268, "kes key create other-key")
        .instead(
            "export MINIO_KMS_KES_CAPATH=public.crt\nfails kes key create other-key",
            "its policy is tried out, and another way to trust the server",
        )
        .says("Error: not authorized: insufficient permissions (prohibited by policy)"),
    row(274, "kes key dek my-key-1")
        .prints("{\n  plaintext : {base64}\n  ciphertext: {base64}\n}\n")
        .then(&[(
            "kes key dek my-key-1 | cat",
            "{\"plaintext\":\"{base64}\",\"ciphertext\":\"{base64}\"}",
        )]),
    // The reference configuration, and the container.
    row(399, "`kes identity of client.cert`").instead(
        "cp client.crt client.cert && kes identity of client.cert",
        "it has another name in the table of settings",
    )
    .prints("\n  Identity:  {identity CLIENT}\n"),
    row(308, "root: ${ROOT_IDENTITY}").instead(
        "mkdir /certs && cd /certs
         kes identity new --key kes-server.key --cert kes-server.cert --ip 127.0.0.1 localhost
         for name in minio root; do kes identity new --key $name.key --cert $name.cert $name; done
         export ROOT_IDENTITY=$(kes identity of root.cert | cat)",
        "the certificates that the configuration names, and the variables",
    ),
    row(335, "- ${MINIO_IDENTITY}").instead(
        "export MINIO_IDENTITY=$(kes identity of minio.cert | cat)",
        "the variable that the configuration has",
    ),
    file(
        307,
        "/etc/default/kes-config.yaml",
        configuration!("documents/aws-secrets-manager-reference.yml"),
    ),
    row(385, "kes server --config=/etc/default/kes-config.yaml")
        .instead(
            "fails kes server --check --config=/etc/default/kes-config.yaml 2>missing
             grep -o 'AWS_[A-Z]*_KEY is not set' missing
             export AWS_ACCESS_KEY=$ACCESS_KEY AWS_SECRET_KEY=$SECRET_KEY
             kes server --check --config=/etc/default/kes-config.yaml 2>/dev/null
             fails kes server --config=/etc/default/kes-config.yaml 2>refusal
             tail -n 1 refusal",
            "the placeholders of the configuration load, and nobody answers for them",
        )
        .prints(
            "AWS_ACCESS_KEY is not set\nAWS_SECRET_KEY is not set\n...\nError: {text}REGION.amazonaws{text}",
        ),
    file(
        381,
        "/etc/default/kes-config.yaml",
        configuration!("documents/aws-secrets-manager-reference.yml"),
    )
    .fill(&[
        ("secretsmanager.REGION.amazonaws", "secretsmanager.us-east-2.amazonaws.com"),
        ("REGION", "us-east-2"),
    ]),
    row(203, "sudo podman pod create -p 9000:9000 -p 9001:9001 -p 7373:7373 -v ~/minio-kes-aws/certs:/certs \
              -v ~/minio-kes-aws/minio:/mnt/minio -v ~/minio-kes-aws/config:/etc/default/ -n minio-kes-aws")
        .not_here("there are no containers: their ports and folders are the room's"),
    row(210, "sudo podman run -dt --cap-add IPC_LOCK --name kes-server --pod minio-kes-aws -e KES_SERVER=https://127.0.0.1:7373 \
              -e KES_CLIENT_KEY=/certs/kes-server.key -e KES_CLIENT_CERT=/certs/kes-server.cert \
              quay.io/minio/kes:2024-01-11T13-09-29Z server --auth --config=/etc/default/kes-config.yaml")
        .instead(
            "KES_SERVER=https://127.0.0.1:7373 KES_CLIENT_KEY=/certs/kes-server.key KES_CLIENT_CERT=/certs/kes-server.cert \
             setpriv --bounding-set=-all,+ipc_lock --inh-caps=-all,+ipc_lock --ambient-caps=-all,+ipc_lock \
             kes server --auth --config=/etc/default/kes-config.yaml",
            "the executable is started with the arguments, the environment and the rights of the container",
        )
        .serves(7373)
        .prints(REFERENCE_BANNER),
    row(349, "keys: minio-encryption-key-alpha, minio-encryption-key-baker, minio-encryption-key-charlie")
        .instead(
            "export KES_CLIENT_CERT=minio.cert KES_CLIENT_KEY=minio.key MINIO_KMS_KES_CAPATH=kes-server.cert
             kes key ls",
            "they are there, for MinIO",
        )
        .prints("Key\nminio-encryption-key-alpha\nminio-encryption-key-baker\nminio-encryption-key-charlie\nmy-key-1\n"),
    row(221, "sudo podman run -dt --name minio-server --pod minio-kes-aws -e MINIO_CONFIG_ENV_FILE=/etc/default/minio \
              quay.io/minio/minio:RELEASE.2024-01-31T20-20-33Z server --console-address :9001")
        .instead(
            "cat >/etc/default/minio <<'END'
MINIO_VOLUMES=/mnt/minio
MINIO_ROOT_USER=minio
MINIO_ROOT_PASSWORD=minio12345
MINIO_KMS_KES_ENDPOINT=https://127.0.0.1:7373
MINIO_KMS_KES_CERT_FILE=/certs/minio.cert
MINIO_KMS_KES_KEY_FILE=/certs/minio.key
MINIO_KMS_KES_CAPATH=/certs/kes-server.cert
MINIO_KMS_KES_KEY_NAME=minio-encryption-key-alpha
END
             mount -t tmpfs tmpfs /mnt && mkdir /mnt/minio",
            "the file that its container has in /etc/default, as MinIO's documentation writes it",
        ),
    row(221, "sudo podman run -dt --name minio-server --pod minio-kes-aws -e MINIO_CONFIG_ENV_FILE=/etc/default/minio \
              quay.io/minio/minio:RELEASE.2024-01-31T20-20-33Z server --console-address :9001")
        .instead(
            "MINIO_CONFIG_ENV_FILE=/etc/default/minio minio server --console-address :9001",
            "the program is started with the arguments and the environment of the container",
        )
        .serves(9000)
        .then(&[
            ("mc alias set l http://127.0.0.1:9000 minio minio12345 && mc ready l", "...\n{text}ready{text}"),
            ("mc admin kms key status l minio-encryption-key-baker", "Key: minio-encryption-key-baker\n...\n{text}Decryption ✔"),
        ]),
    row(233, "sudo podman container list").not_here("there are no containers"),
];

const BANNER: &str = "\
Version     {text}
Runtime     {text}
License     {text}

KMS         AWS Secrets Manager: https://secretsmanager.us-east-2.amazonaws.com
API         · https://127.0.0.1:7373

...
Admin       <disabled>
Auth        off
Logs        error=stderr level=INFO
...
=> {text}";

const LOCKED_BANNER: &str = "\
...
Admin       <disabled>
...
MLock       enabled
...
=> {text}";

const REFERENCE_BANNER: &str = "\
...
KMS         AWS Secrets Manager: https://secretsmanager.us-east-2.amazonaws.com
...
Admin       {identity ROOT_IDENTITY}
Auth        off
Logs        error=stderr level=INFO
MLock       enabled
...
=> {text}";
