//! MinIO's guide to key management of 2020, with Vault: certificates without names, self-signed and marked as an authority's; version 1
//! of the K/V engine with a policy that gives no `update` and no `list`; TOML; the commands and options of that time.

use super::super::table::{Document, Row, Service, file, row, service};
use super::configuration;

pub(super) const DOCUMENT: Document = Document {
    name: "kms-2020",
    title: "KMS Guide of MinIO, 2020",
    rows: ROWS,
    lines: None,
};

/// A command of Vault as the call that it makes.
macro_rules! vault {
    ($method:literal, $path:literal, $body:literal) => {
        concat!(
            "curl -skS --fail-with-body -X ",
            $method,
            " -H \"X-Vault-Token: $VAULT_TOKEN\" $VAULT_ADDR/v1/",
            $path,
            " -d '",
            $body,
            "'"
        )
    };
}

const NO_VAULT: &str = "the command `vault` is not to be had: these are the calls that it makes";
const NO_KES: &str = "it has nothing to do with a key server";

const ROWS: &[Row] = &[
    // 2: certificates.
    row(92, "openssl ecparam -genkey -name prime256v1 | openssl ec -out vault-tls.key"),
    row(
        97,
        r#"openssl req -new -x509 -days 365 -key vault-tls.key -out vault-tls.crt -subj "/C=US/ST=state/L=location/O=organization/CN=localhost""#,
    ),
    row(106, "openssl ecparam -genkey -name prime256v1 | openssl ec -out kes-tls.key")
        .then(&[("head -n 1 kes-tls.key", "-----BEGIN EC PRIVATE KEY-----")]),
    row(
        111,
        r#"openssl req -new -x509 -days 365 -key kes-tls.key -out kes-tls.crt -subj "/C=US/ST=state/L=location/O=organization/CN=localhost""#,
    )
    .then(&[
        ("openssl x509 -in kes-tls.crt -noout -ext subjectAltName 2>&1", "No extensions {text}"),
        (
            "openssl x509 -in kes-tls.crt -noout -ext basicConstraints",
            "X509v3 Basic Constraints:{text}\n    CA:TRUE",
        ),
    ]),
    // 3: Vault.
    row(129, "sudo setcap cap_ipc_lock=+ep $(readlink -f $(which vault))")
        .not_here("there is no executable of Vault, only its code in a program for tests"),
    row(
        134,
        r#"cat > vault-config.json <<EOF
{
  "api_addr": "https://127.0.0.1:8200",
  "backend": {
    "file": {
      "path": "vault/file"
    }
  },
  "default_lease_ttl": "168h",
  "max_lease_ttl": "720h",
  "listener": {
    "tcp": {
      "address": "0.0.0.0:8200",
      "tls_cert_file": "vault-tls.crt",
      "tls_key_file": "vault-tls.key",
      "tls_min_version": "tls12"
    }
  }
}
EOF"#,
    ),
    service(160, "vault server -config vault-config.json", Service::Vault),
    row(167, "export VAULT_ADDR='https://127.0.0.1:8200'"),
    row(170, "export VAULT_SKIP_VERIFY=true"),
    row(176, "vault operator init").instead(
        "export VAULT_TOKEN=root
         curl -skS $VAULT_ADDR/v1/sys/init
         curl -skS -X PUT -H \"X-Vault-Token: $VAULT_TOKEN\" $VAULT_ADDR/v1/sys/seal",
        "the Vault of the tests is initialised when it starts: it is sealed, as one would be that has just been initialised",
    )
    .prints("{\"initialized\":true}"),
    row(207, "export VAULT_TOKEN=s.zaU4Gbcu0Wh46uj2V3VuUde0")
        .instead("export VAULT_TOKEN=root", "that is the root token of the tests' Vault"),
    row(212, "vault operator unseal eyW/+8ZtsgT81Cb0e8OVxzJAQP5lY7Dcamnze+JnWEDT")
        .instead(
            "curl -skS -X PUT $VAULT_ADDR/v1/sys/unseal -d \"{\\\"key\\\":\\\"$UNSEAL_KEY\\\"}\" | jq .sealed",
            NO_VAULT,
        )
        .prints("false"),
    row(213, "vault operator unseal 0tZn+7QQCxphpHwTm6/dC3LpP5JGIbYl6PK8Sy79R+P2")
        .not_here("the key of the tests' Vault has one part, and it has been given"),
    row(214, "vault operator unseal cmhs+AUMXUuB6Lzsvgcbp3bRT6VDGQjgCBwB2xm0ANeF")
        .not_here("the key of the tests' Vault has one part, and it has been given"),
    row(225, "vault secrets enable kv").instead(vault!("POST", "sys/mounts/kv", r#"{"type":"kv"}"#), NO_VAULT),
    row(233, "vault auth enable approle")
        .instead(vault!("POST", "sys/auth/approle", r#"{"type":"approle"}"#), NO_VAULT),
    row(
        241,
        r#"cat > minio-kes-policy.hcl <<EOF
path "kv/minio/*" {
  capabilities = [ "create", "read", "delete" ]
}

EOF"#,
    ),
    row(255, "vault policy write minio-key-policy ./minio-kes-policy.hcl").instead(
        "jq -n --rawfile policy ./minio-kes-policy.hcl '{policy: $policy}' |
         curl -skS --fail-with-body -X PUT -H \"X-Vault-Token: $VAULT_TOKEN\" -d @- \
           $VAULT_ADDR/v1/sys/policies/acl/minio-key-policy",
        NO_VAULT,
    ),
    row(
        266,
        "vault write auth/approle/role/kes-role token_num_uses=0  secret_id_num_uses=0  period=5m",
    )
    .instead(
        vault!(
            "PUT",
            "auth/approle/role/kes-role",
            r#"{"token_num_uses":"0","secret_id_num_uses":"0","period":"5m"}"#
        ),
        NO_VAULT,
    ),
    row(271, "vault write auth/approle/role/kes-role policies=minio-key-policy").instead(
        vault!("PUT", "auth/approle/role/kes-role", r#"{"policies":"minio-key-policy"}"#),
        NO_VAULT,
    ),
    row(277, "vault read auth/approle/role/kes-role/role-id").instead(
        "curl -skS -H \"X-Vault-Token: $VAULT_TOKEN\" $VAULT_ADDR/v1/auth/approle/role/kes-role/role-id |
         jq -r .data.role_id",
        NO_VAULT,
    )
    .prints("{word ROLE_ID}"),
    row(282, "vault write -f auth/approle/role/kes-role/secret-id").instead(
        "curl -skS -X PUT -H \"X-Vault-Token: $VAULT_TOKEN\" $VAULT_ADDR/v1/auth/approle/role/kes-role/secret-id |
         jq -r .data.secret_id",
        NO_VAULT,
    )
    .prints("{word SECRET_ID}"),
    // 4: KES.
    row(292, "sudo setcap cap_ipc_lock=+ep $(readlink -f $(which kes))")
        .prints("")
        .then(&[("getcap $(which kes)", "/usr/local/bin/kes cap_ipc_lock=ep")]),
    row(303, "kes tool identity new MinIO --key=minio.key --cert=minio.cert --time=8760h")
        .prints(
            "
  Private key:  minio.key
  Certificate:  minio.cert
  Identity:     {identity MINIO}
  API key:      {api-key}
",
        )
        .says("deprecated: --time: use --expiry\ndeprecated: kes tool identity new: use kes identity new")
        .then(&[(
            "openssl x509 -in minio.cert -noout -subject
             openssl x509 -in minio.cert -noout -checkend $((364 * 86400))
             fails openssl x509 -in minio.cert -noout -checkend $((366 * 86400))",
            "subject=CN = MinIO\nCertificate will not expire\nCertificate will expire",
        )]),
    row(311, "kes tool identity of minio.cert")
        .prints("\n  Identity:  {identity MINIO}\n")
        .says("deprecated: kes tool identity of: use kes identity of"),
    file(323, "kes-config.toml", configuration!("eras/guide-2020-unfilled.toml")),
    row(348, r#"id     = ""    # Your AppRole Role ID"#)
        .instead(
            "kes server --check --config=kes-config.toml --root=disabled",
            "a server does not start before the ids are filled in",
        )
        .fails()
        .prints("")
        .says("...\nError: {text}keystore.vault: {text}`approle` is there, but has no values"),
    file(361, "kes-config.toml", configuration!("eras/guide-2020-unfilled.toml")).fill(&[
        ("dd46485bedc9ad2909d2e8f9017216eec4413bc5c64b236d992f7ec19c843c5f", "$MINIO"),
        (r#"id     = """#, "\"id = '$ROLE_ID'\""),
        (r#"secret = """#, "\"secret = '$SECRET_ID'\""),
    ]),
    row(366, "kes server --config=kes-config.toml --mlock --root=disabled --mtls-auth=ignore")
        .serves(7373)
        .prints(BANNER)
        .says(DEPRECATED),
    row(380, "export KES_CLIENT_TLS_KEY_FILE=minio.key"),
    row(381, "export KES_CLIENT_TLS_CERT_FILE=minio.cert"),
    row(386, "kes key create minio-key-1 -k").prints("").then(&[(
        "curl -skS -H \"X-Vault-Token: $VAULT_TOKEN\" $VAULT_ADDR/v1/kv/minio/minio-key-1 | jq -r '.data | keys | .[]'",
        "minio-key-1",
    )]),
    row(391, "kes key create my-key-1 -k")
        .fails()
        .says("Error: {text}prohibited by policy{text}"),
    row(246, "capabilities of the policy: no list")
        .instead(
            "sed -i 's,\"/v1/key/create,\"/v1/key/list/*\"\\, \"/v1/key/create,' kes-config.toml
             kill -HUP $(pidof kes)
             until fails kes key ls -k 2>refusal && ! grep -q 'prohibited by policy' refusal; do :; done
             cat refusal
             until grep -oh 'the policy needs .* on kv/minio/' /tmp/driver/*.err | head -n 1 | grep .; do :; done",
            "listing is allowed by KES and not by Vault, and the log says what is missing",
        )
        .prints("Error: {text}\nthe policy needs \\\"list\\\" on kv/minio/"),
    // 5: MinIO.
    row(400, "export MINIO_KMS_KES_ENDPOINT=https://localhost:7373"),
    row(401, "export MINIO_KMS_KES_KEY_FILE=minio.key"),
    row(402, "export MINIO_KMS_KES_CERT_FILE=minio.cert"),
    row(403, "export MINIO_KMS_KES_KEY_NAME=minio-key-1"),
    row(404, "export MINIO_KMS_KES_CAPATH=kes-tls.crt"),
    row(410, "export MINIO_KMS_AUTO_ENCRYPTION=on"),
    row(417, "export MINIO_ACCESS_KEY=minio"),
    row(418, "export MINIO_SECRET_KEY=minio123"),
    row(422, "minio server ~/export")
        .fails()
        .says(
            "FATAL Failed to connect to KMS: {text}: tls: failed to verify certificate: x509: certificate relies on legacy \
             Common Name field, use SANs instead",
        ),
    row(111, "the certificate of KES once more")
        .instead(
            "openssl req -new -x509 -days 365 -key kes-tls.key -out kes-tls.crt -addext subjectAltName=DNS:localhost,IP:127.0.0.1 \
             -subj \"/C=US/ST=state/L=location/O=organization/CN=localhost\"",
            "a MinIO of today takes no certificate without names: this is the one that later guides make",
        ),
    row(366, "kes server --config=kes-config.toml --mlock --root=disabled --mtls-auth=ignore")
        .serves(7373)
        .prints(BANNER),
    row(422, "minio server ~/export").serves(9000),
    // Appendix A.
    row(435, "export MINIO_KMS_AUTO_ENCRYPTION=on").not_here("it is set since line 410"),
    row(445, "mc cp test.file myminio/crypt/")
        .instead(
            "mc alias set myminio http://127.0.0.1:9000 minio minio123 && mc ready myminio && mc mb myminio/crypt && echo test >test.file",
            "the document takes the alias, the bucket and the file for granted",
        ),
    row(445, "mc cp test.file myminio/crypt/").prints("{text}test.file{text}\n..."),
    // Newer releases of the command say the same in other words.
    row(447, "mc stat myminio/crypt/test.file").prints("Name      : test.file\n...\nEncrypt{text}\n..."),
    // Appendix B.
    row(
        463,
        "export MINIO_KMS_MASTER_KEY=minio-demo-key:6368616e676520746869732070617373776f726420746f206120736563726574",
    )
    .not_here(NO_KES),
    row(469, "head -c 32 /dev/urandom | xxd -c 32 -ps").not_here(NO_KES),
    row(
        477,
        "echo \"my-minio-key:6368616e676520746869732070617373776f726420746f206120736563726574\" | docker secret create kms_master_key",
    )
    .not_here(NO_KES),
    row(484, "export MINIO_KMS_MASTER_KEY_FILE=my_kms_master_key").not_here(NO_KES),
];

const BANNER: &str = "\
...
KMS         Vault: https://127.0.0.1:8200/kv/minio
API         · https://127.0.0.1:7373
...
Admin       <disabled>
Auth        off
Logs        error=stderr level=INFO
MLock       enabled
...
=> {text}";

/// What has other names since 2020.
const DEPRECATED: &str = "\
deprecated: kes server --root, --auth: use admin.identity, tls.auth in the configuration file
Warning: {text} policy.minio.paths: is deprecated {text}
Warning: {text} cache.expiry.all: is deprecated {text}
Warning: {text} keystore.vault.address: is deprecated {text}
Warning: {text} keystore.vault.name: is deprecated {text}
Warning: {text} keystore.vault.approle.retry: is deprecated{text}
...
{text}the server's certificate is in keystore.vault.tls.ca itself: neither its names nor its issuer are checked{text}
...
{text}the TLS certificate names no host{text}
...";
