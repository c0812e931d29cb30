//! The key store sections.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kes_config::Overrides;
use kes_config::keystore::{
    Aws, Azure, AzureLogin, ClientTls, Entrust, Fortanix, Fs, Gcp, Gemalto, Jwt, KeyStoreSettings, KvVersion,
    LoginNamespace, Vault, VaultLogin,
};

use super::{errors, load, settings, warnings};

fn with(keystore: &str) -> String {
    let keystore: String = keystore.lines().map(|line| format!("  {line}\n")).collect();
    format!("admin: {{identity: disabled}}\ntls: {{key: a.key, cert: a.crt}}\nkeystore:\n{keystore}")
}

fn keystore(text: &str) -> KeyStoreSettings {
    settings(&with(text)).keystore
}

fn vault(text: &str) -> Vault {
    match keystore(&format!("vault:\n  endpoint: https://vault:8200\n{text}")) {
        KeyStoreSettings::Vault(vault) => *vault,
        other => panic!("{other:?}"),
    }
}

/// Each text has one error, at this line, at this key, with this part.
fn check(cases: &[(&str, usize, &str, &str)]) {
    for (text, line, key, part) in cases {
        let errors = errors(&with(text));
        let [error] = errors.as_slice() else {
            panic!("{text}\n{errors:#?}")
        };
        assert!(
            error.starts_with(&format!("kes.yml:{line}: keystore{key}: ")),
            "{text}\n{error}"
        );
        assert!(error.contains(part), "{text}\n{error}");
    }
}

#[test]
fn a_folder() {
    assert_eq!(
        keystore("fs:\n  path: ./keys"),
        KeyStoreSettings::Fs(Fs {
            path: "./keys".into()
        })
    );
    check(&[
        (
            "fs: {path: ''}",
            4,
            ".fs.path",
            "is empty: without it this key store is not chosen",
        ),
        ("fs: {paht: x}", 4, ".fs.path", "is missing"),
        ("fs: x", 4, ".fs", "must be a section"),
        ("fs: {path: [x]}", 4, ".fs.path", "must be a single value"),
    ]);
}

#[test]
fn vault_with_its_defaults() {
    let vault = vault("  approle: {id: i, secret: s}\n  kubernetes: {role: '', jwt: '', retry: 15s}");
    assert_eq!(
        (vault.endpoint.as_str(), vault.engine.as_str()),
        ("https://vault:8200", "kv")
    );
    assert_eq!(
        (vault.version, vault.namespace, vault.prefix, vault.transit),
        (KvVersion::V1, None, None, None)
    );
    assert_eq!(vault.ping, Duration::from_secs(15));
    assert_eq!(
        vault.tls,
        ClientTls {
            client: None,
            ca: None
        }
    );
    let VaultLogin::AppRole {
        engine,
        namespace,
        id,
        secret,
    } = vault.login
    else {
        panic!()
    };
    assert_eq!((engine.as_str(), namespace), ("approle", LoginNamespace::Inherit));
    assert_eq!((id.expose_secret(), secret.expose_secret()), ("i", "s"));
}

#[test]
fn vault_with_everything() {
    let text = "  engine: a/b\n  version: v2\n  namespace: ns\n  prefix: minio\n  transit: {engine: t, key: k}\n  \
                kubernetes: {engine: k8s, namespace: /, role: r, jwt: /var/run/token}\n  tls: {key: k.pem, cert: c.pem, ca: ca.pem}\n  status: {ping: 1s}";
    let KeyStoreSettings::Vault(vault) = keystore(&format!("vault:\n  endpoint: https://v\n{text}")) else {
        panic!()
    };
    assert_eq!(
        (vault.engine.as_str(), vault.version, vault.namespace.as_deref()),
        ("a/b", KvVersion::V2, Some("ns"))
    );
    assert_eq!(
        (vault.prefix.as_deref(), vault.ping),
        (Some("minio"), Duration::from_secs(1))
    );
    let transit = vault.transit.as_ref().unwrap();
    assert_eq!((transit.engine.as_str(), transit.key.as_str()), ("t", "k"));
    let VaultLogin::Kubernetes {
        engine,
        namespace,
        role,
        jwt,
    } = &vault.login
    else {
        panic!()
    };
    assert_eq!(
        (engine.as_str(), namespace, role.as_str()),
        ("k8s", &LoginNamespace::Root, "r")
    );
    assert_eq!(jwt, &Jwt::File("/var/run/token".into()));
    let settings = KeyStoreSettings::Vault(vault);
    assert_eq!(
        settings.files(),
        ["ca.pem", "k.pem", "c.pem", "/var/run/token"].map(Path::new)
    );
}

#[test]
fn the_ways_into_vault() {
    let VaultLogin::Kubernetes { jwt, namespace, .. } =
        vault("  kubernetes: {role: r, jwt: a.b.c, namespace: n}").login
    else {
        panic!()
    };
    assert!(matches!(jwt, Jwt::Token(token) if token.expose_secret() == "a.b.c"));
    assert_eq!(namespace, LoginNamespace::Named("n".to_owned()));
    assert_eq!(
        vault("  token: {file: /t}").login,
        VaultLogin::Token { file: "/t".into() }
    );
    let VaultLogin::Cert { engine, role, .. } = vault("  cert: {role: r}\n  tls: {key: a, cert: b}").login
    else {
        panic!()
    };
    assert_eq!((engine.as_str(), role.as_deref()), ("cert", Some("r")));
    check(&[
        (
            "vault: {endpoint: https://e}",
            4,
            ".vault",
            "none is configured of `approle`",
        ),
        (
            "vault: {endpoint: https://e, approle: {id: '', secret: '', retry: 5s}}",
            4,
            ".vault",
            "none is configured",
        ),
        (
            "vault: {endpoint: https://e, approle: {id: a}, token: {file: b}}",
            4,
            ".vault",
            "more than one is configured",
        ),
        (
            "vault:\n  endpoint: https://e\n  approle:\n    id: a",
            7,
            ".vault.approle.secret",
            "is missing",
        ),
        (
            "vault: {endpoint: https://e, approle: {secret: a}}",
            4,
            ".vault.approle.id",
            "is missing",
        ),
        (
            "vault: {endpoint: https://e, kubernetes: {jwt: a}}",
            4,
            ".vault.kubernetes.role",
            "is missing",
        ),
        (
            "vault: {endpoint: https://e, kubernetes: {role: a}}",
            4,
            ".vault.kubernetes.jwt",
            "is missing",
        ),
        (
            "vault: {endpoint: https://e, cert: {role: a}}",
            4,
            ".vault.cert",
            "`tls.key` and `tls.cert` are needed",
        ),
        (
            "vault: {endpoint: https://e, token: text}",
            4,
            ".vault.token",
            "must be a section",
        ),
        (
            "vault: {endpoint: https://e, version: v3, token: {file: a}}",
            4,
            ".vault.version",
            "must be `v1` or `v2`",
        ),
        (
            "vault: {endpoint: https://e, token: {file: a}, transit: {engine: a}}",
            4,
            ".vault.transit.key",
            "is missing",
        ),
        (
            "vault: {endpoint: https://e, token: {file: a}, tls: {key: a}}",
            4,
            ".vault.tls.key",
            "needs `cert` beside it",
        ),
        (
            "vault: {endpoint: https://e, token: {file: a}, tls: {cert: a}}",
            4,
            ".vault.tls.cert",
            "needs `key` beside it",
        ),
        (
            "vault: {endpoint: https://e, token: {file: a}, status: {ping: -1s}}",
            4,
            ".vault.status.ping",
            "must not be negative",
        ),
        ("vault: {endpoint: ''}", 4, ".vault.endpoint", "is empty"),
    ]);
    let disagreeing = errors(&with(
        "vault: {endpoint: https://e, name: n, prefix: p, address: https://a, token: {file: a}}",
    ));
    assert_eq!(
        disagreeing,
        [
            "kes.yml:4: keystore.vault.name: is not the same as `keystore.vault.prefix` in line 4: remove it",
            "kes.yml:4: keystore.vault.address: is not the same as `keystore.vault.endpoint` in line 4: remove it",
        ]
    );
}

#[test]
fn a_sample_of_vault_with_every_login_left_empty_but_one_loads() {
    let empty = "  namespace: ''\n  prefix: ''\n  transit: {engine: '', key: ''}\n  \
                 approle: {engine: '', namespace: '', id: '', secret: '', retry: 15s}\n  token: {file: ~}\n  \
                 cert: {engine: '', namespace: '', role: '${EMPTY}'}\n  tls: {key: '', cert: '', ca: ''}\n  status: {ping: ~}\n";
    let full = "  kubernetes: {role: r, jwt: /j}";
    assert_eq!(vault(&format!("{empty}{full}")), vault(full));
}

#[test]
fn an_endpoint_is_an_address() {
    check(&[
        (
            "vault: {endpoint: 'vault:8200', token: {file: a}}",
            4,
            ".vault.endpoint",
            "must be an address such as `https://",
        ),
        (
            "vault: {endpoint: 'tcp://vault:8200', token: {file: a}}",
            4,
            ".vault.endpoint",
            "must be an address",
        ),
        (
            "vault: {endpoint: 'https://root:hunter2@vault:8200', token: {file: a}}",
            4,
            ".vault.endpoint",
            "remove what stands before the `@`",
        ),
        (
            "aws:\n  secretsmanager: {endpoint: 'ftp://a', region: r}",
            5,
            ".aws.secretsmanager.endpoint",
            "must be an address",
        ),
    ]);
}

#[test]
fn an_endpoint_that_is_not_encrypted_is_warned_of_unless_it_is_this_machine() {
    let vault = |endpoint: &str| with(&format!("vault: {{endpoint: '{endpoint}', token: {{file: a}}}}"));
    let aws = |endpoint: &str| {
        with(&format!(
            "aws: {{secretsmanager: {{endpoint: '{endpoint}', region: r}}}}"
        ))
    };
    for text in [vault("http://vault:8200"), aws("http://10.0.0.1:4566")] {
        let warnings = warnings(&text);
        assert_eq!(warnings.len(), 1, "{text}");
        assert!(
            warnings[0].contains("endpoint: is another machine and has `http`"),
            "{warnings:?}"
        );
    }
    for text in [
        vault("http://127.0.0.1:8200"),
        vault("http://[::1]:8200"),
        vault("https://vault:8200"),
        aws("http://localhost:4566"),
        aws("vpce-1.secretsmanager.us-east-2.vpce.amazonaws.com"),
        aws("https://vpce-1.secretsmanager.us-east-2.vpce.amazonaws.com/"),
    ] {
        settings(&text);
    }
}

#[test]
fn every_value_of_vault_and_of_aws_can_come_from_the_environment() {
    let samples = [
        "vault:\n  endpoint: https://vault:8200\n  engine: e\n  version: v2\n  namespace: n\n  prefix: p\n  transit:\n    \
         engine: t\n    key: k\n  approle:\n    engine: a\n    namespace: /\n    id: i\n    secret: s\n  tls:\n    key: tk\n    cert: tc\n    \
         ca: ta\n  status:\n    ping: 3s",
        "vault:\n  endpoint: https://vault:8200\n  kubernetes:\n    engine: a\n    namespace: n\n    role: r\n    jwt: /j",
        "vault:\n  endpoint: https://vault:8200\n  token:\n    file: f",
        "vault:\n  endpoint: https://vault:8200\n  cert:\n    engine: a\n    namespace: n\n    role: r\n  tls:\n    key: tk\n    cert: tc",
        "aws:\n  secretsmanager:\n    endpoint: https://e\n    region: r\n    kmskey: k\n    credentials:\n      accesskey: a\n      secretkey: s\n      \
         token: t\n    tls:\n      ca: c",
    ];
    for sample in samples {
        let sample = format!("{sample}\n");
        let expected = keystore(&sample);
        for line in sample.lines() {
            let Some((key, value)) = line.split_once(": ") else {
                continue;
            };
            let text = with(&sample.replace(&format!("{line}\n"), &format!("{key}: ${{VALUE}}\n")));
            let environment = |name: &str| (name == "VALUE").then(|| value.to_owned());
            let loaded = kes_config::parse(&text, "kes.yml", &Overrides::default(), &environment);
            assert_eq!(loaded.unwrap().settings.keystore, expected, "{text}");
        }
    }
}

#[test]
fn an_empty_transit_section_is_absent() {
    assert!(
        vault("  token: {file: a}\n  transit: {engine: '', key: ''}")
            .transit
            .is_none()
    );
    assert!(
        vault("  token: {file: a}\n  transit: {engine: '', key: '${EMPTY}'}")
            .transit
            .is_none()
    );
}

#[test]
fn fortanix() {
    let text = "fortanix: {sdkms: {endpoint: e, group_id: g, credentials: {key: k}, tls: {ca: c}}}";
    let settings = keystore(text);
    assert_eq!(
        (settings.kind(), settings.files()),
        ("fortanix.sdkms", vec![Path::new("c")])
    );
    let KeyStoreSettings::Fortanix(Fortanix {
        endpoint,
        group_id,
        key,
        ca,
    }) = settings
    else {
        panic!()
    };
    assert_eq!(
        (endpoint.as_str(), group_id.as_deref(), key.expose_secret()),
        ("e", Some("g"), "k")
    );
    assert_eq!(ca, Some(PathBuf::from("c")));
    check(&[
        (
            "fortanix: {sdkms: {endpoint: e}}",
            4,
            ".fortanix.sdkms.credentials.key",
            "is missing",
        ),
        (
            "fortanix: {sdkms: {endpoint: ''}}",
            4,
            ".fortanix.sdkms.endpoint",
            "is empty",
        ),
    ]);
}

#[test]
fn gemalto() {
    let text = "gemalto: {keysecure: {endpoint: e, credentials: {token: t, domain: d}, tls: {ca: c}}}";
    let settings = keystore(text);
    assert_eq!(settings.kind(), "gemalto.keysecure");
    let KeyStoreSettings::Gemalto(Gemalto {
        endpoint,
        token,
        domain,
        ca,
    }) = settings
    else {
        panic!()
    };
    assert_eq!(
        (endpoint.as_str(), token.expose_secret(), domain.as_deref()),
        ("e", "t", Some("d"))
    );
    assert_eq!(ca, Some(PathBuf::from("c")));
    check(&[(
        "gemalto: {keysecure: {endpoint: e}}",
        4,
        ".gemalto.keysecure.credentials.token",
        "is missing",
    )]);
}

#[test]
fn gcp() {
    let settings = keystore(
        "gcp: {secretmanager: {project_id: p, scopes: ['', s], credentials: {client_email: '', private_key: ''}}}",
    );
    assert_eq!(settings.kind(), "gcp.secretmanager");
    let KeyStoreSettings::Gcp(Gcp {
        project_id,
        endpoint,
        scopes,
        credentials,
    }) = settings
    else {
        panic!()
    };
    assert_eq!(
        (project_id.as_str(), endpoint.as_str()),
        ("p", "secretmanager.googleapis.com")
    );
    assert_eq!((scopes, credentials), (vec!["s".to_owned()], None));
    let KeyStoreSettings::Gcp(Gcp {
        credentials: Some(credentials),
        ..
    }) = keystore(
        "gcp: {secretmanager: {project_id: p, credentials: {client_email: e, client_id: i, private_key_id: k, private_key: s}}}",
    )
    else {
        panic!()
    };
    assert_eq!(credentials.private_key.expose_secret(), "s");
    check(&[
        (
            "gcp: {secretmanager: {project_id: ''}}",
            4,
            ".gcp.secretmanager.project_id",
            "is empty",
        ),
        (
            "gcp: {secretmanager: {project_id: p, scopes: s}}",
            4,
            ".gcp.secretmanager.scopes",
            "must be a list",
        ),
    ]);
    let partial = errors(&with(
        "gcp: {secretmanager: {project_id: p, credentials: {client_id: i}}}",
    ));
    assert_eq!(partial.len(), 3);
    assert!(
        partial
            .iter()
            .all(|error| error.contains("all four credentials are needed")),
        "{partial:?}"
    );
}

#[test]
fn aws() {
    let text = "aws: {secretsmanager: {region: r, kmskey: k, tls: {ca: c}, credentials: {accesskey: a, secretkey: s, token: t}}}";
    let KeyStoreSettings::Aws(Aws {
        endpoint,
        region,
        kmskey,
        credentials,
        ca,
    }) = keystore(text)
    else {
        panic!()
    };
    assert_eq!(
        (endpoint, region.as_str(), kmskey.as_deref()),
        (None, "r", Some("k"))
    );
    assert_eq!(ca, Some(PathBuf::from("c")));
    assert_eq!(credentials.unwrap().token.unwrap().expose_secret(), "t");
    check(&[
        (
            "aws: {secretsmanager: {endpoint: e}}",
            4,
            ".aws.secretsmanager.region",
            "is missing",
        ),
        (
            "aws: {secretsmanager: {region: r, credentials: {accesskey: a}}}",
            4,
            ".aws.secretsmanager.credentials.secretkey",
            "or neither",
        ),
        (
            "aws: {secretsmanager: {region: r, credentials: {secretkey: a}}}",
            4,
            ".aws.secretsmanager.credentials.accesskey",
            "or neither",
        ),
        (
            "aws: {secretsmanager: {region: r, kms_key_id: a, kmskey: b}}",
            4,
            ".aws.secretsmanager.kms_key_id",
            "is not the same as `keystore.aws.secretsmanager.kmskey`",
        ),
        (
            "aws: {secretsmanager: {region: r}}\nsecretsmanager: {region: r}",
            5,
            ".secretsmanager",
            "remove one",
        ),
    ]);
    let token_alone = errors(&with(
        "aws: {secretsmanager: {region: r, credentials: {token: a}}}",
    ));
    assert_eq!(token_alone.len(), 2);
}

#[test]
fn azure() {
    let login = |text: &str| match keystore(&format!("azure: {{keyvault: {{endpoint: e{text}}}}}")) {
        KeyStoreSettings::Azure(Azure { endpoint, login }) => {
            assert_eq!(endpoint, "e");
            login
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(login(""), AzureLogin::Ambient);
    assert_eq!(
        login(", credentials: {client_id: ''}, managed_identity: {client_id: ''}"),
        AzureLogin::Ambient
    );
    assert_eq!(
        login(", credentials: {client_id: ''}, managed_identity: {client_id: m}"),
        AzureLogin::ManagedIdentity {
            client_id: "m".to_owned()
        }
    );
    let AzureLogin::ClientSecret {
        tenant_id,
        client_id,
        client_secret,
    } = login(", credentials: {tenant_id: t, client_id: c, client_secret: s}")
    else {
        panic!()
    };
    assert_eq!(
        (
            tenant_id.as_str(),
            client_id.as_str(),
            client_secret.expose_secret()
        ),
        ("t", "c", "s")
    );
    check(&[
        (
            "azure: {keyvault: {endpoint: https://e, credentials: {client_id: a}, managed_identity: {client_id: b}}}",
            4,
            ".azure.keyvault.managed_identity",
            "stands beside `credentials`",
        ),
        (
            "azure: {keyvault: {endpoint: https://e, credentials: {tenant_id: t, client_id: c}}}",
            4,
            ".azure.keyvault.credentials.client_secret",
            "is missing",
        ),
    ]);
}

#[test]
fn entrust() {
    let text = "entrust: {keycontrol: {endpoint: e, vault_id: v, box_id: b, credentials: {username: u, password: p}}}";
    let KeyStoreSettings::Entrust(Entrust {
        endpoint,
        vault_id,
        box_id,
        username,
        password,
        ca,
    }) = keystore(text)
    else {
        panic!()
    };
    assert_eq!(
        (endpoint.as_str(), vault_id.as_str(), box_id.as_str()),
        ("e", "v", "b")
    );
    assert_eq!(
        (username.as_str(), password.expose_secret(), ca),
        ("u", "p", None)
    );
    let without = errors(&with(
        "entrust: {keycontrol: {endpoint: e, vault_id: v, box_id: b}}",
    ));
    assert_eq!(without.len(), 2);
    assert!(
        without[0].contains("keystore.entrust.keycontrol.credentials.username: is missing"),
        "{without:?}"
    );
    let with_ca = with(&text.replace("box_id", "tls: {ca: c}, box_id"));
    assert!(warnings(&with_ca)[0].contains("now replace those of the system"));
}

#[test]
fn one_key_store_must_be_chosen() {
    check(&[
        (
            "fs: {path: a}\nvault: {endpoint: https://b}",
            4,
            "",
            "there are `keystore.fs`, `keystore.vault`",
        ),
        (
            "aws: {secretsmanager: {region: a}}\ngcp: {secretmanager: {project_id: b}}",
            4,
            "",
            "`keystore.gcp.secretmanager`, `keystore.aws.secretsmanager`",
        ),
        (
            "fs: {path: ''}\nvault: {endpoint: ''}",
            4,
            "",
            "`keystore.embedded` keeps keys in one encrypted file",
        ),
        ("{}", 4, "", "no key store is configured"),
        ("- fs", 4, "", "must be a section"),
    ]);
}

#[test]
fn a_sample_with_every_key_store_left_empty_but_one_loads() {
    let text = with(
        "fs:\n  path: ''\nvault:\n  endpoint: ''\n  engine: ''\n  approle: {id: '', secret: '', retry: 15s}\n  status: {ping: 10s}\n\
         fortanix: {sdkms: {endpoint: '', credentials: {key: ''}}}\ngemalto: {keysecure: {endpoint: '', credentials: {token: '', retry: 15s}}}\n\
         gcp: {secretmanager: {project_id: '', scopes: ['']}}\nazure: {keyvault: {endpoint: '', credentials: {tenant_id: ''}}}\n\
         entrust: {keycontrol: {endpoint: ''}}\nkes: {endpoint: ''}\ngeneric: {endpoint: ''}\n\
         aws: {secretsmanager: {endpoint: e, region: r, credentials: {accesskey: '', secretkey: '', token: ''}}}",
    );
    let settings = settings(&text).keystore;
    assert_eq!(settings.kind(), "aws.secretsmanager");
    assert!(matches!(
        settings,
        KeyStoreSettings::Aws(Aws {
            credentials: None,
            ..
        })
    ));
}

#[test]
fn key_stores_that_exist_no_more_say_when_they_went() {
    check(&[
        (
            "kes: {endpoint: e}",
            4,
            ".kes",
            "was removed after the release of 2023-10-03",
        ),
        (
            "generic:\n  endpoint: e\nfs: {path: a}",
            5,
            ".generic",
            "was removed after",
        ),
    ]);
}

#[test]
fn a_misspelled_key_store_is_warned_of_beside_the_error() {
    let error = kes_config::parse(
        &with("aws: {secretmanager: {endpoint: e, region: r}}"),
        "kes.yml",
        &Overrides::default(),
        &|_| None,
    )
    .unwrap_err();
    assert!(error.errors[0].message.starts_with("no key store is configured"));
    assert_eq!(error.warnings[0].key, "keystore.aws.secretmanager");
}

#[test]
fn a_reload_can_tell_whether_the_key_store_changed() {
    let text = with("vault: {endpoint: https://e, approle: {id: i, secret: s}}");
    let first = load(&text).unwrap().settings.keystore;
    assert_eq!(
        first,
        load(&format!("{text}log: {{audit: on}}\n"))
            .unwrap()
            .settings
            .keystore
    );
    assert_ne!(
        first,
        load(&text.replace("secret: s", "secret: t"))
            .unwrap()
            .settings
            .keystore
    );
}
