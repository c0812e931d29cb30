mod matrix;

use super::*;

fn parsed(line: &[&str]) -> Result<Cli, String> {
    let words = ["/usr/bin/kes"].iter().chain(line).map(OsString::from);
    match parse(words) {
        Ok(Parsed::Run { cli, former: _ }) => Ok(*cli),
        Ok(Parsed::Help(help)) => Err(format!("help: {help}")),
        Err(Failure::Usage(message)) => Err(message),
        Err(Failure::NoCommand(help)) => Err(format!("group: {help}")),
        Err(other) => panic!("{other:?}"),
    }
}

fn error(line: &[&str]) -> String {
    parsed(line).expect_err("the command line is wrong")
}

fn server(line: &[&str]) -> ServerArgs {
    let line: Vec<_> = ["server"].iter().chain(line).copied().collect();
    match parsed(&line).unwrap().command {
        Some(TopCommand::Server(args)) => args,
        other => panic!("{other:?}"),
    }
}

fn ls(line: &[&str]) -> LsArgs {
    let line: Vec<_> = ["ls"].iter().chain(line).copied().collect();
    match parsed(&line).unwrap().command {
        Some(TopCommand::Ls(args)) => args,
        other => panic!("{other:?}"),
    }
}

fn identity_new(line: &[&str]) -> IdentityNewArgs {
    let line: Vec<_> = ["identity", "new"].iter().chain(line).copied().collect();
    match parsed(&line).unwrap().command {
        Some(TopCommand::Identity {
            command: Some(IdentityCommand::New(args)),
            ..
        }) => args,
        other => panic!("{other:?}"),
    }
}

#[test]
fn values_of_long_options_stand_after_an_equals_sign_or_a_space() {
    for line in [
        &["--addr", "1.2.3.4:5"][..],
        &["--addr=1.2.3.4:5"],
        &["-addr", "1.2.3.4:5"],
        &["-addr=1.2.3.4:5"],
    ] {
        assert_eq!(server(line).addr.as_deref(), Some("1.2.3.4:5"), "{line:?}");
    }
    assert_eq!(
        server(&["--addr", "-x"]).addr.as_deref(),
        Some("-x"),
        "the next argument is the value, whatever it is"
    );
    assert_eq!(server(&["--root="]).root.as_deref(), Some(""));
}

#[test]
fn short_options_cluster() {
    let args = ls(&["-ik"]);
    assert!(args.identity && args.connection.insecure);
    for line in [
        &["-ka", "KEY"][..],
        &["-kaKEY"],
        &["-ka=KEY"],
        &["-k", "-a=KEY"],
        &["-k=true", "--api-key=KEY"],
    ] {
        let args = ls(line);
        assert!(args.connection.insecure, "{line:?}");
        assert_eq!(args.connection.api_key.as_deref(), Some("KEY"), "{line:?}");
    }
    assert_eq!(
        error(&["ls", "-kx"]),
        "unknown option '-x' in '-kx'; see 'kes ls --help'"
    );
}

#[test]
fn a_single_dash_is_enough_for_a_long_option() {
    assert!(ls(&["-json"]).json);
    assert_eq!(ls(&["-server", "a:1"]).connection.server.as_deref(), Some("a:1"));
    assert!(identity_new(&["-force"]).force);
}

/// What is said of former spellings in `line`.
fn former(line: &str) -> Vec<(String, String)> {
    match parse(line.split(' ').map(OsString::from)) {
        Ok(Parsed::Run { cli: _, former }) => former,
        other => panic!("{other:?}"),
    }
}

#[test]
fn former_spellings_of_options_are_noted() {
    for (line, want) in [
        ("kes ls -json", &[("-json", "--json")][..]),
        (
            "kes ls -server=a:1 -json=false",
            &[("-server", "--server"), ("-json", "--json")],
        ),
        ("kes identity new --time 5h", &[("--time", "--expiry")]),
        ("kes identity new -t5h", &[("-t", "--expiry")]),
        ("kes identity new -time=5h", &[("-time", "--expiry")]),
        ("kes server -config x", &[("-config", "--config")]),
        // Of these the server says that its configuration has them.
        ("kes server --tls-key a --mtls-auth off", &[]),
        ("kes ls -ka KEY --server a:1 -s b:2 -i", &[]),
        ("kes identity new --expiry 5h -f", &[]),
        ("kes ls -- -json", &[]),
    ] {
        let want: Vec<_> = want
            .iter()
            .map(|(typed, now)| ((*typed).to_owned(), (*now).to_owned()))
            .collect();
        assert_eq!(former(line), want, "{line}");
    }
}

#[test]
fn options_and_arguments_mix() {
    let args = ls(&["prefix", "-k", "--json"]);
    assert!(args.json && args.connection.insecure && args.prefix.as_deref() == Some("prefix"));
    assert_eq!(ls(&["--json", "--", "-k"]).prefix.as_deref(), Some("-k"));
    assert_eq!(ls(&["-"]).prefix.as_deref(), Some("-"));
}

#[test]
fn booleans_take_a_value_after_an_equals_sign_only() {
    for yes in ["1", "t", "TRUE", "on", "Yes"] {
        assert!(ls(&[&format!("--insecure={yes}")]).connection.insecure, "{yes}");
    }
    for no in ["0", "f", "False", "off", "no"] {
        assert!(
            !ls(&["-k", &format!("--insecure={no}")]).connection.insecure,
            "{no}"
        );
    }
    assert_eq!(ls(&["--insecure", "true"]).prefix.as_deref(), Some("true"));
    assert_eq!(
        error(&["ls", "--json=maybe"]),
        "invalid value 'maybe' for '--json': want true or false; see 'kes ls --help'"
    );
}

#[test]
fn of_a_repeated_option_the_last_counts_and_lists_grow() {
    assert_eq!(
        server(&["--addr=a:1", "--addr", "b:2"]).addr.as_deref(),
        Some("b:2")
    );
    assert_eq!(
        identity_new(&["--ip", "1.1.1.1", "--ip=2.2.2.2"]).ip,
        ["1.1.1.1", "2.2.2.2"]
    );
}

#[test]
fn an_optional_value_does_not_swallow_the_next_option() {
    let args = server(&["--auth", "--config=/etc/default/kes-config.yaml"]);
    assert_eq!(args.auth.as_deref(), Some(""));
    assert_eq!(args.config.unwrap(), Path::new("/etc/default/kes-config.yaml"));
    for line in [
        &["--auth", "off"][..],
        &["--auth=off"],
        &["-auth", "off"],
        &["--mtls-auth=off"],
        &["--mtls-auth", "off"],
    ] {
        assert_eq!(server(line).auth.as_deref(), Some("off"), "{line:?}");
    }
    assert_eq!(server(&["--auth"]).auth.as_deref(), Some(""));
    assert_eq!(server(&[]).auth, None);
}

#[test]
fn a_server_takes_a_folder_and_init_takes_lists() {
    for line in [
        &["--init", "./data"][..],
        &["./data", "-init"],
        &["--init=true", "--", "./data"],
    ] {
        let args = server(line);
        assert!(args.init, "{line:?}");
        assert_eq!(args.directory.as_deref(), Some(Path::new("./data")));
    }
    let cli = parsed(&[
        "init",
        "-f",
        "dir",
        "--ip=::1,10.0.0.1",
        "--ip",
        "10.0.0.2",
        "--dns=a",
    ])
    .unwrap();
    let Some(TopCommand::Init(args)) = cli.command else {
        panic!("{cli:?}")
    };
    assert!(args.force);
    assert_eq!((args.ip.len(), args.dns.len()), (2, 1));
}

#[test]
fn options_are_not_abbreviated() {
    assert_eq!(
        error(&["ls", "--insec"]),
        "unknown option '--insec'; see 'kes ls --help'"
    );
}

#[test]
fn errors_name_the_word_and_the_command_that_helps() {
    for (line, want) in [
        (
            &["frobnicate"][..],
            "unknown command 'frobnicate'; see 'kes --help'",
        ),
        (
            &["key", "frobnicate"],
            "unknown command 'frobnicate'; see 'kes key --help'",
        ),
        (
            &["key", "create", "--frobnicate"],
            "unknown option '--frobnicate'; see 'kes key create --help'",
        ),
        (
            &["key", "create"],
            "missing argument NAME...; see 'kes key create --help'",
        ),
        (
            &["key", "import", "name"],
            "missing argument KEY; see 'kes key import --help'",
        ),
        (
            &["key", "info", "a", "b"],
            "unexpected argument 'b'; see 'kes key info --help'",
        ),
        (
            &["ls", "--server"],
            "option '--server' needs a value; see 'kes ls --help'",
        ),
        (
            &["ls", "-i", "-p"],
            "'--identity' cannot be used with '--policy'; see 'kes ls --help'",
        ),
        (
            &["ls", "--color=pink"],
            "invalid value 'pink' for '--color': want always, auto or never; see 'kes ls --help'",
        ),
        (
            &["identity", "new", "--key="],
            "invalid value '' for '--key': must not be empty; see 'kes identity new --help'",
        ),
        (
            &["identity", "of", ""],
            "invalid value '' for 'KEY|FILE': must not be empty; see 'kes identity of --help'",
        ),
        (
            &["status", "extra"],
            "unexpected argument 'extra'; see 'kes status --help'",
        ),
        (
            &["--version", "extra"],
            "unknown command 'extra'; see 'kes --help'",
        ),
        (
            &["identity", "new", "a", "b"],
            "unexpected argument 'b'; see 'kes identity new --help'",
        ),
        (&["--version", "ls"], "unexpected argument 'ls'; see 'kes --help'"),
        (
            &["identity", "x", "y"],
            "unexpected argument 'y'; see 'kes identity --help'",
        ),
    ] {
        assert_eq!(error(line), want, "{line:?}");
    }
    let expiry = error(&["identity", "new", "--expiry=300"]);
    assert!(
        expiry.starts_with("invalid value '300' for '--expiry': must be a duration"),
        "{expiry}"
    );
    for rate in ["0s", "-5m", "5", ""] {
        let message = error(&["metric", "--rate", rate]);
        assert!(
            message.starts_with(&format!("invalid value '{rate}' for '--rate'")),
            "{message}"
        );
    }
    for expiry in ["0s", "-5m", "-1h"] {
        let message = error(&["identity", "new", "--expiry", expiry]);
        assert!(
            message.starts_with(&format!("invalid value '{expiry}' for '--expiry'")),
            "{message}"
        );
    }
}

#[test]
fn it_is_known_whether_a_choice_was_made() {
    let audit = |line: &[&str]| {
        let line: Vec<_> = ["log"].iter().chain(line).copied().collect();
        match parsed(&line).unwrap().command {
            Some(TopCommand::Log { args, command: None }) => args.audit,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(audit(&[]), None);
    assert_eq!(audit(&["--audit"]), Some(true));
    assert_eq!(audit(&["-audit=on", "--json"]), Some(true));
    assert_eq!(audit(&["--audit", "--audit=0"]), Some(false));
    assert_eq!(
        error(&["log", "--audit=maybe"]),
        "invalid value 'maybe' for '--audit': want true or false; see 'kes log --help'"
    );
    assert_eq!(
        error(&["log", "--audit", "true"]),
        "unexpected argument 'true'; see 'kes log --help'"
    );
}

#[test]
fn logs_were_traced_once() {
    for line in [
        &["log", "trace"][..],
        &["log", "trace", "-k", "--json", "--type", "error"],
        &["log", "trace", "-type=audit"],
        &["log", "trace", "--type=metric", "--rate", "3s"],
        &["audit", "trace", "-json"],
    ] {
        assert!(parsed(line).is_ok(), "{line:?}: {:?}", parsed(line));
    }
    assert_eq!(
        error(&["log", "trace", "--type=x"]),
        "invalid value 'x' for '--type': want one of audit, error, metric; see 'kes log trace --help'"
    );
    assert!(error(&["audit"]).starts_with("group: "));
}

#[test]
fn durations_have_days() {
    for line in [
        &["--expiry", "365d"][..],
        &["--time=8760h"],
        &["-t", "8760h"],
        &["-t8760h"],
    ] {
        assert_eq!(
            identity_new(line).expiry.unwrap().as_secs(),
            31_536_000,
            "{line:?}"
        );
    }
}

#[test]
fn help_is_for_the_command_at_hand() {
    assert!(error(&["--help"]).starts_with("help: "));
    let help = error(&["key", "create", "-h"]);
    assert!(help.contains("Usage: kes key create"), "{help}");
    assert!(error(&["key"]).starts_with("group: "));
    assert!(error(&[]).starts_with("group: "));
    assert!(parsed(&["identity"]).is_ok(), "this group is a command, too");
}

#[test]
fn the_help_of_a_former_name_says_what_the_command_does_and_its_name_now() {
    for (line, want) in [
        ("key list", "List keys; the name until 2022 of `kes key ls`"),
        ("key delete", "Delete a key; the name until 2022 of `kes key rm`"),
        (
            "key derive",
            "Make a data encryption key; the name until 2022 of `kes key dek`",
        ),
        (
            "policy list",
            "List policies; the name until 2022 of `kes policy ls`",
        ),
        (
            "identity list",
            "List identities; the name until 2022 of `kes identity ls`",
        ),
        (
            "log trace",
            "Follow a log, or the metrics; the name until 2022 of `kes log` and `kes metric`",
        ),
        (
            "audit trace",
            "Follow the audit log; the name until 2020 of `kes log`",
        ),
        (
            "tool migrate",
            "Copy keys between key stores; the name until 2022 of `kes migrate`",
        ),
        (
            "tool identity new",
            "Make a private key and a certificate; the name until 2022 of `kes identity new`",
        ),
        (
            "tool identity of",
            "Show the identity of certificates or API keys; the name until 2022 of `kes identity of`",
        ),
    ] {
        let words = ["kes"].into_iter().chain(line.split(' ')).chain(["--help"]);
        let Ok(Parsed::Help(help)) = parse(words.map(OsString::from)) else {
            panic!("{line} has no help");
        };
        assert_eq!(help.lines().next(), Some(want), "{line}");
    }
}

#[test]
fn help_names_the_program_as_it_was_called() {
    let outcome = parse(["./bin/my-kes", "ls", "--help"].map(OsString::from));
    let Ok(Parsed::Help(help)) = outcome else {
        panic!("{outcome:?}")
    };
    assert!(help.contains("Usage: my-kes ls"), "{help}");
}

#[test]
fn commands_that_are_gone_name_what_takes_their_place() {
    for (line, want) in [
        (&["enclave", "create", "x", "-k"][..], "one server per tenant"),
        (&["secret", "ls"], "no replacement"),
        (&["policy", "assign", "p", "id"], "SIGHUP"),
        (&["policy", "add", "p", "f"], "SIGHUP"),
        (&["identity", "forget", "id"], "SIGHUP"),
    ] {
        let message = error(line);
        assert!(
            message.contains("does not exist any more") && message.contains(want),
            "{message}"
        );
    }
}

#[test]
fn a_migration_is_told_from_where_to_where_and_how() {
    let cli = parsed(&["migrate", "-fq", "a*", "--from=x", "-target", "y"]).unwrap();
    let Some(TopCommand::Migrate(args)) = cli.command else {
        panic!("{cli:?}");
    };
    assert_eq!((args.from, args.to), ("x".into(), Some("y".into())));
    assert_eq!(args.pattern.as_deref(), Some("a*"));
    assert!(args.force && args.quiet && !args.merge && !args.dry_run);
    for line in [
        &[
            "tool",
            "migrate",
            "-from",
            "x",
            "-to",
            "y",
            "--merge",
            "--dry-run",
        ][..],
        &[
            "migrate", "--from", "x", "-s", "host", "-e", "tenant", "-a", "key", "-k",
        ],
    ] {
        assert!(parsed(line).is_ok(), "{line:?}");
    }
}

#[test]
fn command_lines_of_public_documents_parse() {
    for line in [
        // "AWS Secrets Manager" tutorial, also in Chinese.
        "kes identity new --ip 127.0.0.1 localhost",
        "kes identity new --key=client.key --cert=client.crt MyApp",
        "kes identity of client.crt",
        "kes server --config config.yml --auth off",
        "kes server --config config.yml --auth off --mlock",
        "kes server --auth --config=/etc/default/kes-config.yaml",
        "kes key create my-key-1",
        "kes key dek my-key-1",
        // "Deploy MinIO and KES with Server-Side Encryption", 2023.
        "kes --version",
        "kes identity new kes_server --key /opt/kes/certs/kes-server.key --cert /opt/kes/certs/kes-server.cert --ip 127.0.0.1 --dns localhost",
        "kes identity of /opt/minio/certs/minio-kes.cert",
        "kes server --auth=off --config=/opt/kes/config/kes-config.yaml",
        "kes server --config=/opt/kes/config.yaml",
        "kes key create -k encrypted-bucket-key",
        // "MinIO KMS Quickstart Guide", 2020.
        "kes tool identity new MinIO --key=minio.key --cert=minio.cert --time=8760h",
        "kes tool identity of minio.cert",
        "kes server --config=kes-config.toml --mlock --root=disabled --mtls-auth=ignore",
        "kes key create minio-key-1 -k",
        // The guide to running without a configuration.
        "kes server --cert server.crt --key private.key --root 7bbffa635fc160ef8048a344a53aab54e472e5c654c6339a9cec9223301808c7",
        "kes server --tls-key server.key --tls-cert server.crt -q",
    ] {
        let words: Vec<_> = line.split(' ').skip(1).collect();
        assert!(parsed(&words).is_ok(), "{line}: {:?}", parsed(&words));
    }
}
