use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;

/// Prints a tree on one line: `{key@2: 'text', list: ['a', true (a boolean)]}`.
fn print(node: &Node, out: &mut String) {
    match &node.kind {
        Kind::Null => out.push_str("null"),
        Kind::Scalar(text) => match node.typed {
            Some(typed) => write!(out, "{} ({typed})", text.as_str()).unwrap(),
            None => write!(out, "'{}'", text.as_str()).unwrap(),
        },
        Kind::List(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                out.push_str(if i == 0 { "" } else { ", " });
                print(item, out);
            }
            out.push(']');
        }
        Kind::Map(entries) => {
            out.push('{');
            for (i, entry) in entries.iter().enumerate() {
                let comma = if i == 0 { "" } else { ", " };
                write!(out, "{comma}{}@{}: ", entry.key, entry.at.line).unwrap();
                print(&entry.value, out);
            }
            out.push('}');
        }
    }
}

fn tree(text: &str) -> String {
    let root = parse(text)
        .unwrap_or_else(|e| panic!("{text:?}: {e:?}"))
        .expect("a document");
    let mut out = String::new();
    print(&root, &mut out);
    out
}

fn error(text: &str) -> SyntaxError {
    parse(text).err().unwrap_or_else(|| panic!("{text:?} parses"))
}

#[test]
fn tables_are_sections_in_the_order_of_the_text() {
    assert_eq!(
        tree(
            "b = \"1\"\n\n[z.y]\nk = 'l'\n\n[a]\nx = \"\"\"\nm\nn\"\"\"\nc.d = \"e\"\n\n[[keys]]\nname = \"f\"\n[[keys]]\nname = \"g\"\n[z]\nq = \"r\"\n"
        ),
        "{b@1: '1', a@6: {x@7: 'm\nn', c@10: {d@10: 'e'}}, keys@12: [{name@13: 'f'}, {name@15: 'g'}], \
         z@16: {y@3: {k@4: 'l'}, q@17: 'r'}}"
    );
}

#[test]
fn values_know_what_they_are() {
    assert_eq!(
        tree(
            "a = \"\\u00e4\"\nb = true\nc = 1_000\nd = 0x1F\ne = 1.5\nf = 2020-01-01\ng = [\"h\", 1, { i = \"j\" }]"
        ),
        "{a@1: 'ä', b@2: true (a boolean), c@3: 1000 (a number), d@4: 31 (a number), e@5: 1.5 (a number), \
         f@6: 2020-01-01 (a time), g@7: ['h', 1 (a number), {i@7: 'j'}]}"
    );
}

#[test]
fn windows_editors_are_fine() {
    assert_eq!(
        tree("\u{feff}# comment\r\na = \"b\"\r\n[c]\r\nd = \"e\"\r\n"),
        "{a@2: 'b', c@3: {d@4: 'e'}}"
    );
}

#[test]
fn nothing_is_no_document() {
    for text in ["", "\n", "# only a comment", "\u{feff}"] {
        assert!(parse(text).unwrap().is_none(), "{text:?}");
    }
    assert_eq!(tree("[tls]"), "{tls@1: {}}");
}

#[test]
fn columns_count_characters() {
    let root = parse("x = \"1\"\ny = [ \"ä\", 5 ]").unwrap().unwrap();
    let Kind::Map(entries) = &root.kind else { panic!() };
    let Kind::List(items) = &entries[1].value.kind else {
        panic!()
    };
    assert_eq!(items[1].at, Position { line: 2, column: 12 });
}

#[test]
fn errors_have_a_line_and_do_not_quote_the_text() {
    for (text, line, part) in [
        ("a = hunter2", 1, "string values must be quoted"),
        ("a = \"hunter2", 1, "is not valid TOML"),
        ("a = \"1\"\nhunter2", 2, "key with no value"),
        (
            "[a]\nb = \"1\"\n[a]\nc = \"1\"",
            3,
            "`a` stands here a second time",
        ),
        (
            "a = \"1\"\n\"a\" = \"hunter2\"",
            2,
            "`a` stands here a second time",
        ),
        (
            "a = { b = \"1\", b = \"hunter2\" }",
            1,
            "`b` stands here a second time",
        ),
        ("a = \"1\"\na.b = \"hunter2\"", 2, "is not valid TOML"),
        ("a = \"\\hunter2\"", 1, "is not valid TOML"),
        ("a = \"\u{0}hunter2\"", 1, "is not valid TOML"),
        ("a = 1 hunter2", 1, "is not valid TOML"),
        ("a = 99-99-99hunter2", 1, "is not valid TOML"),
        ("\n\n[hunter2", 3, "is not valid TOML"),
    ] {
        let error = error(text);
        assert!(error.message.contains(part), "{text:?}: {}", error.message);
        assert!(!error.message.contains("hunter2"), "{text:?}: {}", error.message);
        assert_eq!(error.at.unwrap().line, line, "{text:?}: {}", error.message);
    }
}

#[test]
fn endless_texts_are_refused_at_once() {
    for text in [
        format!("a = {}", "[".repeat(100_000)),
        format!("a = {}", "{ a = ".repeat(100_000)),
        format!("{}b = \"c\"", "a.".repeat(100_000)),
        format!("[{}b]", "a.".repeat(100_000)),
        format!("a = {}\"b\"{}", "[".repeat(70), "]".repeat(70)),
    ] {
        assert!(error(&text).message.starts_with("is not valid TOML") || error(&text).message == TOO_DEEP);
    }
    // All on one line, of which each place has a column.
    let wide: String = (0..40_000).map(|i| format!("k{i} = \"v\", ")).collect();
    assert!(tree(&format!("a = {{ {wide} }}")).len() > 40_000);
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in any::<String>(), toml in "[-a.={}\\[\\]'\"# \n\t,x0_\\\\]{0,80}") {
        let _ = parse(&text);
        let _ = parse(&toml);
    }
}
