//! What the program prints, word for word. `TRYCMD=overwrite cargo test -p kes-cli golden` writes it anew.

#[test]
fn command_lines_print_what_is_written_down() {
    trycmd::TestCases::new()
        .case("tests/cmd/*.trycmd")
        .env("NO_COLOR", "1");
}
