//! Nothing that is said about a configuration has a value of it in it, however broken it is.

use kes_config::{Loaded, Overrides};

const SECRET: &str = "hunter2";

/// Every key that can hold a secret, and those next to them, with one.
const TEXT: &str = "
version: hunter2
address: hunter2
admin:
  identity: hunter2 !
root: hunter2
tls:
  key: hunter2
  cert: hunter2
  password: hunter2
  auth: hunter2
  ca: hunter2
  proxy:
    identities: [hunter2!, hunter2, hunter2]
    header: {cert: hunter2 }
api:
  /v1/ready: {skip_auth: hunter2, timeout: hunter2}
policy:
  p:
    allow: [hunter2, '/hunter2[']
    deny: [hunter2, '/hunter2[']
    identities: [hunter2, hunter2]
keys:
  - name: hunter2 !
  - name: hunter2
  - name: hunter2
cache:
  entries: hunter2
  expiry: {any: hunter2, unused: hunter2, offline: hunter2, all: hunter2}
log: {error: hunter2, audit: hunter2}
limits: {connections: hunter2, body_memory: hunter2, log_streams: hunter2}
";

const KEYSTORES: [&str; 9] = [
    "embedded:
    path: hunter2
    seal:
      - file: hunter2
      - env: hunter2
      - file: hunter2
        env: hunter2
      - other: hunter2
    undelete: hunter2",
    "fs:\n    path: hunter2\n    other: hunter2",
    "vault:
    endpoint: hunter2
    engine: hunter2
    version: hunter2
    namespace: hunter2
    prefix: hunter2
    transit: {engine: hunter2, key: hunter2}
    approle:
      id: hunter2
      secret: hunter2
      namespace: hunter2
    kubernetes:
      role: hunter2
      jwt: hunter2
    token: {file: hunter2}
    tls: {key: hunter2}
    status: {ping: hunter2}",
    "fortanix:\n    sdkms:\n      endpoint: hunter2\n      group_id: hunter2\n      credentials:\n        key: hunter2",
    "gemalto:\n    keysecure:\n      endpoint: hunter2\n      credentials:\n        token: hunter2\n        domain: hunter2",
    "gcp:
    secretmanager:
      project_id: hunter2
      scopes: [hunter2]
      credentials:
        client_email: hunter2
        client_id: hunter2
        private_key_id: hunter2
        private_key: hunter2",
    "aws:
    secretsmanager:
      endpoint: hunter2
      region: hunter2
      credentials:
        accesskey: hunter2
        secretkey: hunter2
        token: hunter2",
    "azure:
    keyvault:
      endpoint: hunter2
      credentials:
        tenant_id: hunter2
        client_id: hunter2
        client_secret: hunter2
      managed_identity: {client_id: hunter2}",
    "entrust:
    keycontrol:
      endpoint: hunter2
      vault_id: hunter2
      box_id: hunter2
      credentials:
        username: hunter2
        password: hunter2
      tls: {ca: hunter2}",
];

/// Ways to break a line that has a secret in it, as a slip of the hand does.
fn broken(line: &str) -> Vec<String> {
    let mut lines: Vec<String> = [
        ("hunter2", "'hunter2"),
        ("hunter2", "\"hunter2"),
        ("hunter2", "\"\\hunter2\""),
        ("hunter2", "[hunter2]"),
        ("hunter2", "[hunter2"),
        ("hunter2", "{a: hunter2}"),
        ("hunter2", "@hunter2"),
        ("hunter2", "%hunter2"),
        ("hunter2", "*hunter2"),
        ("hunter2", "&hunter2 &hunter2 x"),
        ("hunter2", "!hunter2 x"),
        ("hunter2", "!!hunter2 x"),
        ("hunter2", "!hunter2!x y"),
        ("hunter2", "|hunter2"),
        ("hunter2", "${hunter2:-x}"),
        ("hunter2", "${SECRET}"),
        ("hunter2", "a: hunter2"),
        ("hunter2", "hunter2: a"),
        ("hunter2", "\thunter2"),
        ("hunter2", "hunter2 # hunter2"),
        (": hunter2", ":hunter2"),
        (": hunter2", "=hunter2"),
        (": hunter2", " hunter2"),
        (": hunter2", ":\n  hunter2"),
        (": hunter2", ":\n\thunter2"),
        (": hunter2", "s: hunter2"),
    ]
    .iter()
    .map(|(from, to)| line.replace(from, to))
    .collect();
    lines.extend([
        format!("{line}\n{line}"),
        format!("  {line}"),
        line.trim_start().to_owned(),
        format!("\t{line}"),
        format!("- {line}"),
        format!("{line}}}"),
        String::new(),
    ]);
    lines
}

fn check(text: &str) {
    let environment = |name: &str| (name == "SECRET").then(|| SECRET.to_owned());
    let parsed = kes_config::parse(text, "kes.yml", &Overrides::default(), &environment);
    let (mut said, warnings) = match parsed {
        // What a good configuration shows of itself is another test's.
        Ok(Loaded {
            warnings,
            settings: _,
        }) => (String::new(), warnings),
        Err(error) => (format!("{error}\n{error:?}"), error.warnings),
    };
    for warning in warnings {
        said.push_str(&format!("{warning}\n{warning:?}"));
    }
    assert!(!said.contains(SECRET), "{text}\n{said}");
}

#[test]
fn no_error_and_no_warning_has_a_value_in_it() {
    for keystore in KEYSTORES {
        let text = format!("{TEXT}keystore:\n  {keystore}\n");
        check(&text);
        // Where the general part is right, the key store's is read to its end.
        let good = format!("admin: {{identity: a}}\ntls: {{key: a, cert: b}}\nkeystore:\n  {keystore}\n");
        check(&good);
        check(&good.replace(SECRET, "\"${SECRET}\""));
        for text in [&text, &good] {
            let lines: Vec<&str> = text.lines().collect();
            for (i, line) in lines.iter().enumerate().filter(|(_, line)| line.contains(SECRET)) {
                for broken in broken(line) {
                    let mut lines = lines.clone();
                    lines[i] = &broken;
                    check(&lines.join("\n"));
                }
            }
        }
    }
}

#[test]
fn debug_output_of_settings_has_no_secret_in_it() {
    for keystore in [
        "embedded: {path: p, seal: {env: SEAL}}",
        "vault: {endpoint: https://e, approle: {id: hunter2, secret: hunter2}}",
        "vault: {endpoint: https://e, kubernetes: {role: r, jwt: hunter2}}",
        "fortanix: {sdkms: {endpoint: e, credentials: {key: hunter2}}}",
        "gemalto: {keysecure: {endpoint: e, credentials: {token: hunter2}}}",
        "gcp: {secretmanager: {project_id: p, credentials: {client_email: a, client_id: b, private_key_id: hunter2, private_key: hunter2}}}",
        "aws: {secretsmanager: {region: r, credentials: {accesskey: hunter2, secretkey: hunter2, token: hunter2}}}",
        "azure: {keyvault: {endpoint: https://e, credentials: {tenant_id: t, client_id: c, client_secret: hunter2}}}",
        "entrust: {keycontrol: {endpoint: e, vault_id: v, box_id: b, credentials: {username: u, password: hunter2}}}",
    ] {
        let text = format!(
            "admin: {{identity: a}}\ntls: {{key: a, cert: b, password: hunter2}}\nkeystore:\n  {keystore}\n"
        );
        let settings = super::settings(&text);
        let shown = format!("{settings:?} {settings:#?}");
        assert!(
            !shown.contains(SECRET) && !shown.contains("the seal's key"),
            "{shown}"
        );
    }
}
