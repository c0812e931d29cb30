//! The keys of today, in the order in which they are printed.

use super::{Group, Key, Without};

/// A value that nobody has to think about.
const PLAIN: Key = Key {
    path: "",
    accepts: "text",
    default: Without::Required,
    variable: true,
    meaning: "",
    sample: "",
    refused: &[],
};

const DURATION: Key = Key {
    accepts: "duration",
    refused: &["soon", "-1s", "5"],
    ..PLAIN
};

const COUNT: Key = Key {
    accepts: "whole number from 1",
    refused: &["0", "-1", "many"],
    ..PLAIN
};

const FILE: Key = Key {
    accepts: "file",
    ..PLAIN
};

const CA: Key = Key {
    accepts: "file or folder",
    default: Without::Says("the system's"),
    meaning: "CAs in PEM, **instead of** the system's",
    sample: "ca.pem",
    ..PLAIN
};

const LOGIN_NAMESPACE: Key = Key {
    default: Without::Says("that of the engines"),
    meaning: "namespace of the login; `/` is the root namespace",
    sample: "team-b",
    ..PLAIN
};

/// All keys.
pub const GROUPS: &[Group] = &[
    Group {
        title: "General",
        about: "",
        keys: &[
            Key {
                path: "version",
                accepts: "`v1`",
                default: Without::Says("`v1`"),
                variable: false,
                meaning: "version of the file's form",
                sample: "v1",
                refused: &["v2", "1"],
            },
            Key {
                path: "address",
                accepts: "IP address and port",
                default: Without::Is("0.0.0.0:7373"),
                meaning: "where the server listens; a port alone (`:7373`) means all interfaces",
                sample: "127.0.0.1:7374",
                refused: &["localhost:7373", "127.0.0.1"],
                ..PLAIN
            },
            Key {
                path: "admin.identity",
                accepts: "identity, or a word",
                meaning: "the identity that may do everything. A text that is no identity, such as `disabled`, leaves the server without \
                          an administrator",
                sample: "disabled",
                refused: &["''"],
                ..PLAIN
            },
        ],
    },
    Group {
        title: "tls",
        about: "",
        keys: &[
            Key {
                path: "tls.key",
                meaning: "private key of the server: PEM; PKCS#8, PKCS#1 or SEC1; may be encrypted",
                sample: "server.key",
                refused: &["''"],
                ..FILE
            },
            Key {
                path: "tls.cert",
                meaning: "certificate of the server, then those between it and the CA: PEM",
                sample: "server.crt",
                refused: &["''"],
                ..FILE
            },
            Key {
                path: "tls.password",
                default: Without::Says("none"),
                meaning: "password of an encrypted private key",
                sample: "secret",
                ..PLAIN
            },
            Key {
                path: "tls.auth",
                accepts: "`on`, `off`",
                default: Without::Is("off"),
                meaning: "`off`: any client certificate will do, and its public key is the identity. `on`: a CA that is trusted must have \
                          issued it, too",
                sample: "on",
                refused: &["maybe"],
                ..PLAIN
            },
            Key {
                path: "tls.ca",
                accepts: "file or folder",
                default: Without::Says("the system's alone"),
                meaning: "CAs in PEM for `tls.auth: on`, beside the system's",
                sample: "clients.pem",
                ..PLAIN
            },
            Key {
                path: "tls.proxy.identities",
                accepts: "list of identities",
                default: Without::Says("none"),
                meaning: "TLS proxies in front of the server, which forward the certificate of a client in a header",
                sample: "[ 3ecfcdf38fcbe141ae26a1030f81e96b753365a46760ae6b578698a97c59fd22 ]",
                refused: &["[ 'a b' ]", "[ '' ]", "one"],
                ..PLAIN
            },
            Key {
                path: "tls.proxy.header.cert",
                accepts: "name of a header",
                default: Without::Is("X-Tls-Client-Cert"),
                meaning: "that header",
                sample: "X-Client-Cert",
                refused: &["'a b'"],
                ..PLAIN
            },
        ],
    },
    Group {
        title: "api",
        about: "`<path>` is a path of the API, such as `/v1/metrics` or `/v1/key/create/`. One that the server does not know is warned of and ignored.",
        keys: &[
            Key {
                path: "api.<path>.skip_auth",
                accepts: "switch",
                default: Without::Is("off"),
                meaning: "opens `/v1/ready`, `/v1/status`, `/v1/metrics` or `/v1/api` to clients without a certificate; other paths never",
                sample: "on",
                refused: &["maybe"],
                ..PLAIN
            },
            Key {
                path: "api.<path>.timeout",
                default: Without::Says("by path, mostly `15s`"),
                meaning: "how long an answer may take; for a stream, how long until it begins. `kes status --api` shows what counts",
                sample: "3s",
                ..DURATION
            },
        ],
    },
    Group {
        title: "policy",
        about: "[Below](#policies) is what rules mean.",
        keys: &[
            Key {
                path: "policy.<name>.allow",
                accepts: "list of rules",
                default: Without::Says("none"),
                variable: false,
                meaning: "what may be done",
                sample: "[ /v1/key/create/* ]",
                refused: &["[ '/v1/[' ]", "/v1/status"],
            },
            Key {
                path: "policy.<name>.deny",
                accepts: "list of rules",
                default: Without::Says("none"),
                variable: false,
                meaning: "what may not be done, although a rule of `allow` says so",
                sample: "[ '/v1/key/*/internal-?' ]",
                refused: &["[ '/v1/[' ]", "[ status ]"],
            },
            Key {
                path: "policy.<name>.identities",
                accepts: "list of identities",
                default: Without::Says("nobody"),
                meaning: "who has the policy. An identity has one policy at most",
                sample: "[ 7bbffa635fc160ef8048a344a53aab54e472e5c654c6339a9cec9223301808c7 ]",
                refused: &["[ 'a b' ]", "[ '' ]"],
                ..PLAIN
            },
        ],
    },
    Group {
        title: "keys",
        about: "",
        keys: &[Key {
            path: "keys[].name",
            accepts: "name of a key",
            meaning: "a key that is made at the start unless it exists",
            sample: "minio-default-key",
            refused: &["'a/b'", "''"],
            ..PLAIN
        }],
    },
    Group {
        title: "cache",
        about: "",
        keys: &[
            Key {
                path: "cache.expiry.any",
                default: Without::Is("5m"),
                meaning: "a key is used at most this long after it was read from the key store. For so long can another server's deletion go \
                          unnoticed. `0s` is the default",
                sample: "1m",
                ..DURATION
            },
            Key {
                path: "cache.expiry.unused",
                default: Without::Is("30s"),
                meaning: "a key that was not used for this long leaves the cache. `0s` is the default",
                sample: "10s",
                ..DURATION
            },
            Key {
                path: "cache.expiry.offline",
                default: Without::Is("0s"),
                meaning: "while the key store cannot be reached, keys in the cache stay usable for this long from the start of the outage. A \
                          key store that is lost again before the keys could be read anew continues the outage",
                sample: "1h",
                ..DURATION
            },
            Key {
                path: "cache.entries",
                default: Without::Is("1000000"),
                meaning: "keys in the cache; past it, roughly the least recently used leave. A full cache of a million keys takes about 430 MB",
                sample: "5000",
                ..COUNT
            },
        ],
    },
    Group {
        title: "log",
        about: "A level is `debug`, `info`, `warn` or `error`, also with an offset (`warn+1`), or a number. [Operating](operating.md#logs) has the formats.",
        keys: &[
            Key {
                path: "log.error",
                accepts: "`on`, `off`, level",
                default: Without::Is("on"),
                meaning: "least level of what goes to the standard error output; `on` is `info`",
                sample: "warn",
                refused: &["warning", "on+"],
                ..PLAIN
            },
            Key {
                path: "log.audit",
                accepts: "`on`, `off`, level",
                default: Without::Is("off"),
                meaning: "`on`: one JSON object for each request on the standard output. Who follows the log with `kes log` gets it in any case",
                sample: "on",
                refused: &["json"],
                ..PLAIN
            },
        ],
    },
    Group {
        title: "limits",
        about: "",
        keys: &[
            Key {
                path: "limits.connections",
                default: Without::Says("80 % of the limit of open files"),
                meaning: "connections at a time; past it, accepting pauses",
                sample: "100",
                ..COUNT
            },
            Key {
                path: "limits.body_memory",
                accepts: "size from 1MiB: bytes, or with `KiB`, `MiB`, `GiB`",
                default: Without::Is("256MiB"),
                meaning: "request bodies in memory at a time; past it, requests get a `503`",
                sample: "16MiB",
                refused: &["1KiB", "0", "10MB"],
                ..PLAIN
            },
            Key {
                path: "limits.log_streams",
                default: Without::Is("64"),
                meaning: "open streams of the audit and the error log; past it, requests for one get a `503`",
                sample: "3",
                ..COUNT
            },
        ],
    },
    Group {
        title: "health",
        about: "A second listener, for probes and monitoring: [operating.md](operating.md#the-health-listener).",
        keys: &[Key {
            path: "health.address",
            accepts: "IP address and port",
            default: Without::Says("no such listener"),
            meaning: "where `/v1/ready`, `/v1/metrics` and `/version` are served over plain HTTP, without a certificate, and nothing else",
            sample: "127.0.0.1:7375",
            refused: &["localhost:7375"],
            ..PLAIN
        }],
    },
    Group {
        title: "keystore.embedded",
        about: "One encrypted file: [embedded.md](embedded.md). Exactly one section below `keystore` is there, this or another one.",
        keys: &[
            Key {
                path: "keystore.embedded.path",
                meaning: "the file with the keys, made if absent; its folder must exist. One server at a time can have it open",
                sample: "keys.redb",
                refused: &["''"],
                ..FILE
            },
            Key {
                path: "keystore.embedded.seal[].file",
                default: Without::Says("`env` instead"),
                meaning: "what opens the key store: a file with 32 random bytes in base64, which nobody but its owner may read. One seal needs no \
                          list; [below](#the-embedded-key-store) is what a list means",
                sample: "seal.key",
                refused: &["''", "DUQJ9LvJW0SZ6QBhTIUFLZBjKkMaYPWgK0hfI1Oe05Q="],
                ..FILE
            },
            Key {
                path: "keystore.embedded.seal[].env",
                accepts: "name of a variable",
                default: Without::Says("`file` instead"),
                variable: false,
                meaning: "the same text in an environment variable of this name",
                sample: "KES_SEAL_KEY",
                refused: &["''", "NOT_SET"],
            },
            Key {
                path: "keystore.embedded.undelete",
                default: Without::Is("7d"),
                meaning: "how long `kes key undelete` can bring a deleted key back; `0s`: it is gone at once",
                sample: "1d",
                refused: &["5", "10ms"],
                ..DURATION
            },
        ],
    },
    Group {
        title: "keystore.fs",
        about: "A folder, **not encrypted**: for development, and to read what MinIO KES left.",
        keys: &[Key {
            path: "keystore.fs.path",
            accepts: "folder",
            meaning: "the folder with the keys, made if absent. The server keeps it open: unmounting it needs a stopped server, and a folder put \
                      in its place needs a restart",
            sample: "keys",
            refused: &["''"],
            ..PLAIN
        }],
    },
    Group {
        title: "keystore.vault",
        about: "OpenBao or HashiCorp Vault: [keystores/vault.md](keystores/vault.md). There is exactly one of the sections `approle`, `kubernetes`, `token` and `cert`.",
        keys: &[
            Key {
                path: "keystore.vault.endpoint",
                accepts: "URL",
                meaning: "address of the server, or of a load balancer in front of several",
                sample: "https://vault.example.net:8200",
                refused: &["vault.example.net", "https://user@vault.example.net"],
                ..PLAIN
            },
            Key {
                path: "keystore.vault.engine",
                default: Without::Is("kv"),
                meaning: "where the K/V engine is mounted; may have slashes",
                sample: "secret",
                ..PLAIN
            },
            Key {
                path: "keystore.vault.version",
                accepts: "`v1`, `v2`",
                default: Without::Is("v1"),
                meaning: "version of the engine; [take `v2`](keystores/vault.md#why-version-2-of-the-kv-engine)",
                sample: "v2",
                refused: &["2"],
                ..PLAIN
            },
            Key {
                path: "keystore.vault.namespace",
                default: Without::Says("none"),
                meaning: "[namespace](keystores/vault.md#namespaces) of the engines",
                sample: "team-a",
                ..PLAIN
            },
            Key {
                path: "keystore.vault.prefix",
                default: Without::Says("none"),
                meaning: "folder inside the engine; several installations can share an engine by it",
                sample: "kes",
                ..PLAIN
            },
            Key {
                path: "keystore.vault.transit.engine",
                default: Without::Is("transit"),
                meaning: "where the [transit](keystores/vault.md#transit) engine is mounted",
                sample: "seal",
                ..PLAIN
            },
            Key {
                path: "keystore.vault.transit.key",
                default: Without::Together("no transit"),
                meaning: "key of the transit engine, under which values are encrypted before they are stored",
                sample: "kes",
                ..PLAIN
            },
            Key {
                path: "keystore.vault.approle.engine",
                default: Without::Is("approle"),
                meaning: "where the login method is mounted",
                sample: "roles",
                ..PLAIN
            },
            Key {
                path: "keystore.vault.approle.namespace",
                ..LOGIN_NAMESPACE
            },
            Key {
                path: "keystore.vault.approle.id",
                meaning: "role id",
                sample: "role",
                refused: &["''"],
                ..PLAIN
            },
            Key {
                path: "keystore.vault.approle.secret",
                meaning: "secret id",
                sample: "secret",
                refused: &["''"],
                ..PLAIN
            },
            Key {
                path: "keystore.vault.kubernetes.engine",
                default: Without::Is("kubernetes"),
                meaning: "where the login method is mounted",
                sample: "cluster",
                ..PLAIN
            },
            Key {
                path: "keystore.vault.kubernetes.namespace",
                ..LOGIN_NAMESPACE
            },
            Key {
                path: "keystore.vault.kubernetes.role",
                meaning: "the role to log in as",
                sample: "kes",
                refused: &["''"],
                ..PLAIN
            },
            Key {
                path: "keystore.vault.kubernetes.jwt",
                accepts: "file, or text",
                meaning: "file with the token of the service account, read at each login; without a slash in it, the token itself",
                sample: "/var/run/secrets/kubernetes.io/serviceaccount/token",
                refused: &["''"],
                ..PLAIN
            },
            Key {
                path: "keystore.vault.token.file",
                meaning: "file with a token that somebody else keeps in it, read again when it changes",
                sample: "./agent/token",
                ..FILE
            },
            Key {
                path: "keystore.vault.cert.engine",
                default: Without::Is("cert"),
                meaning: "where the login method is mounted",
                sample: "certificates",
                ..PLAIN
            },
            Key {
                path: "keystore.vault.cert.namespace",
                ..LOGIN_NAMESPACE
            },
            Key {
                path: "keystore.vault.cert.role",
                default: Without::Says("the server chooses"),
                meaning: "name of the certificate's role; the certificate is that of `keystore.vault.tls`",
                sample: "kes",
                ..PLAIN
            },
            Key {
                path: "keystore.vault.tls.key",
                default: Without::Together("none"),
                meaning: "private key of the client certificate",
                sample: "client.key",
                ..FILE
            },
            Key {
                path: "keystore.vault.tls.cert",
                default: Without::Together("none"),
                meaning: "client certificate",
                sample: "client.crt",
                ..FILE
            },
            Key {
                path: "keystore.vault.tls.ca",
                ..CA
            },
            Key {
                path: "keystore.vault.status.ping",
                default: Without::Is("15s"),
                meaning: "how often the server's state is asked for",
                sample: "5s",
                ..DURATION
            },
        ],
    },
    Group {
        title: "keystore.aws.secretsmanager",
        about: "AWS Secrets Manager: [keystores/aws.md](keystores/aws.md).",
        keys: &[
            Key {
                path: "keystore.aws.secretsmanager.region",
                meaning: "region of the secrets, such as `eu-central-1`",
                sample: "eu-central-1",
                ..PLAIN
            },
            Key {
                path: "keystore.aws.secretsmanager.endpoint",
                accepts: "host or URL",
                default: Without::Says("the region's"),
                meaning: "where Secrets Manager is",
                sample: "secretsmanager-fips.us-east-2.amazonaws.com",
                refused: &["ftp://elsewhere"],
                ..PLAIN
            },
            Key {
                path: "keystore.aws.secretsmanager.kmskey",
                default: Without::Says("the account's own"),
                meaning: "id, ARN or alias of the [KMS key](keystores/aws.md#a-kms-key-of-your-own) for new keys",
                sample: "alias/kes",
                ..PLAIN
            },
            Key {
                path: "keystore.aws.secretsmanager.credentials.accesskey",
                default: Without::Together("[the environment's](keystores/aws.md#credentials)"),
                meaning: "access key",
                sample: "AKIAIOSFODNN7EXAMPLE",
                ..PLAIN
            },
            Key {
                path: "keystore.aws.secretsmanager.credentials.secretkey",
                default: Without::Together("the environment's"),
                meaning: "its secret key",
                sample: "secret",
                ..PLAIN
            },
            Key {
                path: "keystore.aws.secretsmanager.credentials.token",
                default: Without::Says("none"),
                meaning: "session token of temporary credentials",
                sample: "token",
                ..PLAIN
            },
            Key {
                path: "keystore.aws.secretsmanager.tls.ca",
                ..CA
            },
        ],
    },
    Group {
        title: "Key stores that are not built yet",
        about: "These sections of MinIO KES are read and checked, and a server that has one does not start, and says so.",
        keys: &[
            Key {
                path: "keystore.gcp.secretmanager.project_id",
                meaning: "Google Cloud: project",
                sample: "project",
                ..PLAIN
            },
            Key {
                path: "keystore.gcp.secretmanager.endpoint",
                default: Without::Is("secretmanager.googleapis.com"),
                meaning: "address of the service",
                sample: "secretmanager.example.net",
                ..PLAIN
            },
            Key {
                path: "keystore.gcp.secretmanager.scopes",
                accepts: "list of texts",
                default: Without::Says("none"),
                meaning: "OAuth scopes",
                sample: "[ https://www.googleapis.com/auth/cloud-platform ]",
                ..PLAIN
            },
            Key {
                path: "keystore.gcp.secretmanager.credentials.client_email",
                default: Without::Together("the environment's"),
                meaning: "service account",
                sample: "kes@example.net",
                ..PLAIN
            },
            Key {
                path: "keystore.gcp.secretmanager.credentials.client_id",
                default: Without::Together("the environment's"),
                meaning: "its id",
                sample: "id-1",
                ..PLAIN
            },
            Key {
                path: "keystore.gcp.secretmanager.credentials.private_key_id",
                default: Without::Together("the environment's"),
                meaning: "id of its key",
                sample: "id-2",
                ..PLAIN
            },
            Key {
                path: "keystore.gcp.secretmanager.credentials.private_key",
                default: Without::Together("the environment's"),
                meaning: "its key",
                sample: "secret",
                ..PLAIN
            },
            Key {
                path: "keystore.azure.keyvault.endpoint",
                meaning: "Azure Key Vault: its address",
                sample: "https://kes.vault.azure.net",
                ..PLAIN
            },
            Key {
                path: "keystore.azure.keyvault.credentials.tenant_id",
                meaning: "tenant",
                sample: "tenant",
                ..PLAIN
            },
            Key {
                path: "keystore.azure.keyvault.credentials.client_id",
                meaning: "client",
                sample: "client",
                ..PLAIN
            },
            Key {
                path: "keystore.azure.keyvault.credentials.client_secret",
                meaning: "its secret",
                sample: "secret",
                ..PLAIN
            },
            Key {
                path: "keystore.azure.keyvault.managed_identity.client_id",
                meaning: "managed identity, instead of `credentials`",
                sample: "client",
                ..PLAIN
            },
            Key {
                path: "keystore.fortanix.sdkms.endpoint",
                meaning: "Fortanix SDKMS: its address",
                sample: "https://sdkms.example.net",
                ..PLAIN
            },
            Key {
                path: "keystore.fortanix.sdkms.group_id",
                default: Without::Says("the application's"),
                meaning: "group of the keys",
                sample: "group",
                ..PLAIN
            },
            Key {
                path: "keystore.fortanix.sdkms.credentials.key",
                meaning: "API key",
                sample: "secret",
                ..PLAIN
            },
            Key {
                path: "keystore.fortanix.sdkms.tls.ca",
                ..CA
            },
            Key {
                path: "keystore.gemalto.keysecure.endpoint",
                meaning: "Thales CipherTrust, Gemalto KeySecure: its address",
                sample: "https://keysecure.example.net",
                ..PLAIN
            },
            Key {
                path: "keystore.gemalto.keysecure.credentials.token",
                meaning: "refresh token",
                sample: "secret",
                ..PLAIN
            },
            Key {
                path: "keystore.gemalto.keysecure.credentials.domain",
                default: Without::Says("the root domain"),
                meaning: "domain",
                sample: "storage",
                ..PLAIN
            },
            Key {
                path: "keystore.gemalto.keysecure.tls.ca",
                ..CA
            },
            Key {
                path: "keystore.entrust.keycontrol.endpoint",
                meaning: "Entrust KeyControl: its address",
                sample: "https://keycontrol.example.net",
                ..PLAIN
            },
            Key {
                path: "keystore.entrust.keycontrol.vault_id",
                meaning: "vault",
                sample: "vault",
                ..PLAIN
            },
            Key {
                path: "keystore.entrust.keycontrol.box_id",
                meaning: "box",
                sample: "box",
                ..PLAIN
            },
            Key {
                path: "keystore.entrust.keycontrol.credentials.username",
                meaning: "name to log in with",
                sample: "kes",
                ..PLAIN
            },
            Key {
                path: "keystore.entrust.keycontrol.credentials.password",
                meaning: "its password",
                sample: "secret",
                ..PLAIN
            },
            Key {
                path: "keystore.entrust.keycontrol.tls.ca",
                ..CA
            },
        ],
    },
];
