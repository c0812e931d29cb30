//! What a person reads on a terminal, beside what a program reads from a pipe, byte for byte.

use std::fs;
use std::process::Stdio;

use crate::inspection::Place;
use crate::server::silent;
use crate::terminal;

/// What may be anything but empty, within a line.
const ANY: &str = "…";

/// What a command writes to its standard output if that is a terminal.
fn shown(place: &Place, arguments: &[&str]) -> String {
    let (terminal, side) = terminal::open();
    let mut command = crate::kes::command(place.path(), arguments);
    // Without colours: they are another matter.
    command.envs(place.variables()).env("NO_COLOR", "1");
    // The standard error output is no terminal, which makes no difference.
    command.stdin(Stdio::null()).stdout(side).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    drop(command);
    let shown = terminal.read_to_end().replace("\r\n", "\n");
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        (output.status.code(), errors.as_str()),
        (Some(0), ""),
        "{arguments:?}"
    );
    shown
}

/// What it writes into a pipe, while the standard error output is a terminal.
fn piped(place: &Place, arguments: &[&str]) -> String {
    let (terminal, side) = terminal::open();
    let mut command = crate::kes::command(place.path(), arguments);
    command.envs(place.variables());
    command.stdin(Stdio::null()).stderr(side);
    let output = command.output().unwrap();
    drop(command);
    let errors = terminal.read_to_end();
    assert_eq!(
        (output.status.code(), errors.as_str()),
        (Some(0), ""),
        "{arguments:?}"
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Whether `text` is `template`, where [`ANY`] stands for some characters of a line.
fn matches(template: &str, text: &str) -> bool {
    let is_line = |(template, line): (&str, &str)| {
        let mut parts = template.split(ANY);
        let Some(mut rest) = parts.next().and_then(|first| line.strip_prefix(first)) else {
            return false;
        };
        let mut parts = parts.peekable();
        while let Some(part) = parts.next() {
            let found = match parts.peek() {
                None if part.is_empty() => Some(rest.len()),
                None => rest.rfind(part),
                Some(_) => rest.find(part),
            };
            match found {
                Some(at @ 1..) => rest = &rest[at + part.len()..],
                Some(0) | None => return false,
            }
        }
        rest.is_empty()
    };
    template.split('\n').count() == text.split('\n').count()
        && template.split('\n').zip(text.split('\n')).all(is_line)
}

#[track_caller]
fn check(place: &Place, arguments: &[&str], on_terminal: &str, in_pipe: &str) {
    let (shown, piped) = (shown(place, arguments), piped(place, arguments));
    assert!(
        matches(on_terminal, &shown),
        "{arguments:?} on a terminal:\n{shown:?}\nnot\n{on_terminal:?}"
    );
    assert!(
        matches(in_pipe, &piped),
        "{arguments:?} in a pipe:\n{piped:?}\nnot\n{in_pipe:?}"
    );
}

#[track_caller]
fn check_same(place: &Place, arguments: &[&str], both: &str) {
    check(place, arguments, both, both);
}

#[test]
fn templates_match_what_they_should() {
    assert!(matches("a …\n", "a bc\n") && matches("{…:…}", "{a:b:c}") && matches("x", "x"));
    for (template, text) in [
        ("a …\n", "a \n"),
        ("a\n", "a"),
        ("…b", "ac"),
        ("a", "ab"),
        ("", "a"),
    ] {
        assert!(!matches(template, text), "{template:?} {text:?}");
    }
}

#[test]
fn keys_are_laid_out_for_people_and_for_programs() {
    let place = Place::new();
    silent(&place.kes("key create my-key"));
    silent(&place.kes("key create other"));
    for line in [&["ls"][..], &["key", "ls"], &["key", "ls", "*"]] {
        check_same(&place, line, "Key\nmy-key\nother\n");
    }
    check_same(&place, &["ls", "m"], "Key\nmy-key\n");
    check_same(&place, &["ls", "zzz"], "");
    check_same(&place, &["ls", "--json"], "[\"my-key\",\"other\"]\n");
    check_same(&place, &["key", "ls", "--json", "zzz"], "[]\n");
    check(
        &place,
        &["key", "dek", "my-key"],
        "{\n  plaintext : …=\n  ciphertext: …\n}\n",
        "{\"plaintext\":\"…=\",\"ciphertext\":\"…\"}",
    );
    check(
        &place,
        &["key", "encrypt", "my-key", "message"],
        "\nciphertext: …\n",
        "{\"ciphertext\":\"…\"}",
    );
    let sealed = piped(&place, &["key", "encrypt", "my-key", "message"]);
    let sealed: serde_json::Value = serde_json::from_str(&sealed).unwrap();
    check(
        &place,
        &["key", "decrypt", "my-key", sealed["ciphertext"].as_str().unwrap()],
        "\nplaintext: bWVzc2FnZQ==\n",
        "{\"plaintext\":\"bWVzc2FnZQ==\"}",
    );
    check_same(
        &place,
        &["key", "info", "my-key"],
        "Name        my-key\nAlgorithm   …\nDate        20…-…-… …:…:…\nOwner       …\n",
    );
    check_same(
        &place,
        &["key", "info", "my-key", "--json"],
        "{\"name\":\"my-key\",\"algorithm\":\"…\",\"created_at\":\"20…T…Z\",\"created_by\":\"…\"}\n",
    );
    for line in [&["key", "create", "a"][..], &["key", "rm", "a"]] {
        assert_eq!(shown(&place, line), "", "{line:?}");
    }
}

#[test]
fn policies_are_laid_out_for_people_and_for_programs() {
    let place = Place::new();
    check_same(&place, &["policy", "ls"], "Policy\nminio\nnothing\n");
    check_same(&place, &["ls", "-p"], "Policy\nminio\nnothing\n");
    check_same(
        &place,
        &["policy", "info", "minio"],
        "Name        minio\nDate        20…-…-… …:…:…\nCreated by  …\n",
    );
    check(
        &place,
        &["policy", "info", "minio", "--json"],
        "{\n  \"name\": \"minio\",\n  \"created_at\": \"20…Z\",\n  \"created_by\": \"…\"\n}\n",
        "{\"name\":\"minio\",\"created_at\":\"20…Z\",\"created_by\":\"…\"}\n",
    );
    let compact = "{\"allow\":{\"/v1/key/create/*\":{},\"/v1/key/list/*\":{}},\"deny\":{\"/v1/key/create/internal*\":{}},\
                   \"created_at\":\"20…Z\",\"created_by\":\"…\"}\n";
    check(
        &place,
        &["policy", "show", "minio"],
        "Allow:\n  · /v1/key/create/*\n  · /v1/key/list/*\n\nDeny:\n  · /v1/key/create/internal*\n\n\
         Created at: 20…-…-… …:…:…\nCreated by: …\n",
        compact,
    );
    check(
        &place,
        &["policy", "show", "minio", "--json"],
        "{\n  \"allow\": {\n    \"/v1/key/create/*\": {},\n    \"/v1/key/list/*\": {}\n  },\n  \"deny\": {\n    \
         \"/v1/key/create/internal*\": {}\n  },\n  \"created_at\": \"20…Z\",\n  \"created_by\": \"…\"\n}\n",
        compact,
    );
}

#[test]
fn identities_are_laid_out_for_people_and_for_programs() {
    const KEY: &str = "kes:v1:ADsGCjJoWziQ82wPUG6oHbqhhlbkajaRGP+3+JSfx5Wq";
    const IDENTITY: &str = "7bbffa635fc160ef8048a344a53aab54e472e5c654c6339a9cec9223301808c7";
    let place = Place::new();
    check(
        &place,
        &["identity"],
        "\n  API key:   kes:v1:…\n  Identity:  …\n\nKeep the API key secret. It is shown only once and cannot be recovered.\n",
        "kes:v1:…",
    );
    for line in [&["identity", KEY][..], &["identity", "of", KEY]] {
        check(&place, line, &format!("\n  Identity:  {IDENTITY}\n"), IDENTITY);
    }
    for line in [&["identity", "public.crt"][..], &["identity", "of", "public.crt"]] {
        check(&place, line, "\n  Identity:  …\n", "…");
    }
    check(
        &place,
        &["identity", "private.key"],
        "\n  API key:  kes:v1:…\n\nKeep the API key secret.\n",
        "kes:v1:…",
    );
    check(
        &place,
        &["identity", "of", "public.crt", KEY],
        &format!("public.crt: …\n{KEY}: {IDENTITY}\n"),
        &format!(
            "{{\"name\":\"public.crt\",\"identity\":\"…\"}}\n{{\"name\":\"{KEY}\",\"identity\":\"{IDENTITY}\"}}\n"
        ),
    );
    check_same(
        &place,
        &["identity", "new"],
        "\n  Identity:     …\n  API key:      kes:v1:…\n",
    );
    let files = ["identity", "new", "--key=a.key", "--cert=a.crt", "--force"];
    check_same(
        &place,
        &files,
        "\n  Private key:  a.key\n  Certificate:  a.crt\n  Identity:     …\n  API key:      kes:v1:…\n",
    );
    fs::remove_file(place.path().join("a.key")).unwrap();
    check_same(&place, &["identity", "ls"], "Identity\n…\n…\n");
    check_same(&place, &["ls", "-i"], "Identity\n…\n…\n");
    check_same(
        &place,
        &["identity", "info"],
        "Identity    …\nCreated At  20…-…-… …:…:…\nRole        Admin\n",
    );
    check(
        &place,
        &["identity", "info", "--json"],
        "{\n  \"identity\": \"…\",\n  \"admin\": true,\n  \"created_at\": \"20…Z\"\n}\n",
        "{\"identity\":\"…\",\"admin\":true,\"created_at\":\"20…Z\"}\n",
    );
}

#[test]
fn the_state_of_a_server_is_laid_out_for_people_and_for_programs() {
    let place = Place::new();
    let address = place.server.address();
    check_same(
        &place,
        &["status"],
        &format!(
            "● {address}\n  Version  …\n  Uptime   …\n  Latency  …ms\n  OS       linux\n  CPUs     … …\n  Memory\n  · Heap   …MB\n  · Stack  …B\n"
        ),
    );
    check_same(&place, &["status", "--short"], &format!("● {address}\n"));
    let fields = [
        "version",
        "os",
        "arch",
        "uptime",
        "num_cpu",
        "num_cpu_used",
        "mem_heap_used",
        "mem_stack_used",
        "keystore_latency",
        "keystore_unreachable",
        "keystore_unavailable",
    ];
    let joined = |between: &str, end: &str| {
        let fields = fields.map(|field| format!("\"{field}\":{between}{ANY}"));
        fields.join(end)
    };
    check(
        &place,
        &["status", "--json"],
        &format!("{{\n  {}\n}}\n", joined(" ", ",\n  ")),
        &format!("{{{}}}\n", joined("", ",")),
    );
    check_same(
        &place,
        &["status", "--json", "--short"],
        &format!("{{{}}}\n", joined("", ",")),
    );
    for to_terminal in [true, false] {
        let line = ["status", "--api", "--short"];
        let text = if to_terminal {
            shown(&place, &line)
        } else {
            piped(&place, &line)
        };
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines[1..3],
            ["", "Method  API                          Timeout"],
            "{text}"
        );
        assert!(
            lines.contains(&"GET     /v1/status                   15s"),
            "{text}"
        );
        let mut paths: Vec<_> = lines[3..].iter().map(|line| &line[8..]).collect();
        let listed = paths.clone();
        paths.sort_unstable();
        assert_eq!(listed, paths, "by path");
    }
    let api = shown(&place, &["status", "--api", "--json"]);
    assert!(api.starts_with("[\n  {\n    \"method\": \""), "{api}");
    let api = piped(&place, &["status", "--api", "--json"]);
    assert!(
        api.starts_with("[{\"method\":\"") && api.lines().count() == 1,
        "{api}"
    );
}
