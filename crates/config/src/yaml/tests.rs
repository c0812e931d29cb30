use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;

/// Prints a tree on one line, with lines where they matter least: `{key@2: 'text', list: ['a', null]}`.
fn print(node: &Node, out: &mut String) {
    match &node.kind {
        Kind::Null => out.push_str("null"),
        Kind::Scalar(text) => write!(out, "'{}'", text.as_str()).unwrap(),
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
                write!(
                    out,
                    "{}{}@{}: ",
                    if i == 0 { "" } else { ", " },
                    entry.key,
                    entry.at.line
                )
                .unwrap();
                print(&entry.value, out);
            }
            out.push('}');
        }
    }
}

fn tree(text: &str) -> String {
    let document = parse(text)
        .unwrap_or_else(|e| panic!("{text:?}: {e:?}"))
        .expect("a document");
    let mut out = String::new();
    print(&document.root, &mut out);
    out
}

fn error(text: &str) -> SyntaxError {
    parse(text).err().unwrap_or_else(|| panic!("{text:?} parses"))
}

#[test]
fn scalars_stay_as_they_are_written() {
    assert_eq!(
        tree(
            "a: 0123\nb: 1e5\nc: 0x1F\nd: true\ne: 'it''s'\nf: \"tab\\t\"\ng: 2001-01-01\nh: on\ni: .5\nj: 1_000"
        ),
        "{a@1: '0123', b@2: '1e5', c@3: '0x1F', d@4: 'true', e@5: 'it's', f@6: 'tab\t', g@7: '2001-01-01', h@8: 'on', \
         i@9: '.5', j@10: '1_000'}"
    );
    assert_eq!(
        tree("a: !!int 07\nb: !!str null\nc: !custom x\nd: !!null x"),
        "{a@1: '07', b@2: 'null', c@3: 'x', d@4: null}"
    );
    assert_eq!(
        tree("a: |\n  one\n  two\nb: >-\n  one\n  two\n"),
        "{a@1: 'one\ntwo\n', b@4: 'one two'}"
    );
}

#[test]
fn nothing_and_the_words_for_it_are_null_unless_quoted() {
    assert_eq!(
        tree("a:\nb: ~\nc: null\nd: NULL\ne: ''\nf: \"null\"\ng: [null, '']\nh: nULL"),
        "{a@1: null, b@2: null, c@3: null, d@4: null, e@5: '', f@6: 'null', g@7: [null, ''], h@8: 'nULL'}"
    );
    assert_eq!(tree("null: 1\n~: 2"), "{null@1: '1', ~@2: '2'}");
}

#[test]
fn order_duplicates_and_lines_survive() {
    assert_eq!(
        tree("b: 1\na:\n  x: 1\n\n  x: 2\nb: 3"),
        "{b@1: '1', a@2: {x@3: '1', x@5: '2'}, b@6: '3'}"
    );
    let document = parse("# comment\na:\n    b: c").unwrap().unwrap();
    let Kind::Map(entries) = &document.root.kind else {
        panic!()
    };
    let Kind::Map(inner) = &entries[0].value.kind else {
        panic!()
    };
    assert_eq!(inner[0].at, Position { line: 3, column: 5 });
    assert_eq!(inner[0].value.at, Position { line: 3, column: 8 });
}

#[test]
fn byte_order_marks_and_line_ends_of_windows_are_fine() {
    assert_eq!(
        tree("\u{feff}a: 1\r\nb:\r\n  - c # why\r\n"),
        "{a@1: '1', b@2: ['c']}"
    );
}

#[test]
fn a_text_without_a_document_has_no_tree() {
    for text in ["", "\n\n", "# only a comment\n", "\u{feff}", "   \n"] {
        assert!(parse(text).unwrap().is_none(), "{text:?}");
    }
    assert_eq!(tree("---\n"), "null");
    assert_eq!(tree("{}"), "{}");
}

#[test]
fn only_the_first_document_is_read_and_the_second_is_noticed() {
    let document = parse("a: 1\n---\nb: 2\n").unwrap().unwrap();
    assert_eq!(document.second, Some(Position { line: 2, column: 1 }));
    assert_eq!(tree("a: 1\n---\nb: 2\n"), "{a@1: '1'}");
    assert!(parse("---\na: 1\n...\n").unwrap().unwrap().second.is_none());
}

#[test]
fn aliases_stand_for_their_anchors() {
    assert_eq!(
        tree("a: &x [1, 2]\nb: *x\nc: &y text\n*y : d"),
        "{a@1: ['1', '2'], b@2: ['1', '2'], c@3: 'text', text@4: 'd'}"
    );
    assert!(error("a: *nowhere").message.contains("unknown anchor"));
    assert!(
        error("a: &x [*x]")
            .message
            .contains("inside of what it stands for")
    );
}

#[test]
fn merges_add_what_a_mapping_does_not_have() {
    let text = "base: &base {a: 1, b: 2}\nmore: &more {b: 3, c: 4}\none:\n  <<: *base\n  b: 9\ntwo: {<<: [*base, *more], d: 5}";
    assert_eq!(
        tree(text),
        "{base@1: {a@1: '1', b@1: '2'}, more@2: {b@2: '3', c@2: '4'}, one@3: {a@1: '1', b@5: '9'}, \
         two@6: {a@1: '1', b@1: '2', c@2: '4', d@6: '5'}}"
    );
    assert_eq!(tree("'<<': 1\na: <<"), "{<<@1: '1', a@2: '<<'}");
    assert!(
        error("a:\n  <<: text")
            .message
            .contains("must be given a mapping")
    );
    assert_eq!(error("<<: {a: 1}\n<<: {b: 1}").at.unwrap().line, 2);
}

#[test]
fn aliases_of_aliases_do_not_explode() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for i in 1..30 {
        let item = format!("*a{}", i - 1);
        writeln!(bomb, "a{i}: &a{i} [{}]", [item.as_str(); 10].join(", ")).unwrap();
    }
    let error = error(&bomb);
    assert!(
        error.message.contains("aliases stand for more"),
        "{}",
        error.message
    );

    let many = format!("a: &a [{}]\nb: [{}]", "x,".repeat(1000), "*a,".repeat(1000));
    assert!(parse(&many).is_err());
}

#[test]
fn merges_of_merges_do_not_explode() {
    let mut bomb = format!(
        "a: &a {{{}}}\n",
        (0..1000).map(|i| format!("k{i}: x, ")).collect::<String>()
    );
    bomb.push_str(&"b:\n  <<: *a\n".repeat(1000));
    assert!(parse(&bomb).is_err());
}

#[test]
fn deep_nesting_is_refused_however_it_is_written() {
    for text in ["[".repeat(100_000), "{a: ".repeat(100_000), "- ".repeat(100_000)] {
        assert!(parse(&text).is_err());
    }
    let block: String = (0..1000).map(|i| format!("{}a:\n", " ".repeat(i))).collect();
    assert!(error(&block).message.contains("too deeply"));
    let mut aliased = "a0: &a0 [x]\n".to_owned();
    for i in 1..200 {
        writeln!(aliased, "a{i}: &a{i} [*a{}]", i - 1).unwrap();
    }
    assert!(error(&aliased).message.contains("too deeply"));
    assert!(parse(&format!("{}x{}", "[".repeat(50), "]".repeat(50))).is_ok());
}

#[test]
fn syntax_errors_have_a_place_and_quote_nothing() {
    for (text, line, part) in [
        ("a:\n\t- hunter2", 2, "a tab"),
        ("a: [hunter2", 1, "is not valid YAML"),
        ("a: 1\n  hunter2: x\n b: 2", 2, "is not valid YAML"),
        ("a: 'hunter2", 1, "is not valid YAML"),
        ("a: @hunter2", 1, "put the text in quotes"),
        ("? [hunter2]\n: 1", 1, "cannot be a key"),
        ("a: !!binary aHVudGVyMg==", 1, "not supported"),
        ("a: 1\n- hunter2", 2, "is not valid YAML"),
        ("a: %hunter2", 1, "put the text in quotes"),
    ] {
        let error = error(text);
        assert!(error.message.contains(part), "{text:?}: {}", error.message);
        assert!(
            !error.message.contains("hunter2") && !error.message.contains('@'),
            "{text:?}: {}",
            error.message
        );
        assert_eq!(error.at.unwrap().line, line, "{text:?}: {}", error.message);
    }
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in any::<String>(), yaml in "[-a:{}\\[\\]&*<!?|>'\"#% \n\t,x0~]{0,80}") {
        let _ = parse(&text);
        let _ = parse(&yaml);
    }
}
