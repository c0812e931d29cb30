//! Bars of long work, on terminals of all sizes, and what is left of them.

use std::fs;
use std::process::Stdio;

use crate::daemon::Daemon;
use crate::init::pasted;
use crate::inspection::Place;
use crate::kes::{command, run};
use crate::server::silent;
use crate::session::Session;
use crate::terminal;

const SIZES: [(u16, u16); 5] = [(200, 50), (80, 24), (20, 5), (1, 1), (0, 0)];

fn create_keys(count: usize, mut kes: impl FnMut(&str)) {
    let names: Vec<_> = (0..count).map(|number| format!("key-{number:03}")).collect();
    kes(&format!("key create {}", names.join(" ")));
}

#[test]
fn a_backup_shows_how_far_it_is_on_any_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let server = Daemon::start(dir.path(), &["--init", "data", "--addr=127.0.0.1:0"]);
    let variables = pasted(&server.banner.join("\n"));
    let kes = |line: &str| {
        let mut command = command(dir.path(), &line.split(' ').collect::<Vec<_>>());
        command
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .env("KES_SERVER", server.address())
            .env("TERM", "xterm");
        command
    };
    create_keys(100, |line| silent(&kes(line).output().unwrap().into()));

    let (terminal, side) = terminal::open();
    let mut backup = kes("store backup out --json");
    backup.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(side);
    let child = backup.spawn().unwrap();
    drop(backup);
    let shown = terminal.read_to_end();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{shown}");
    assert!(output.stdout.starts_with(b"{"), "{output:?}");
    assert!(shown.contains(" keys"), "{shown:?}");

    for size in SIZES {
        let name = format!("out-{}", size.0);
        let mut backup = Session::start(&kes(&format!("store backup {name}")), size);
        assert_eq!(backup.end(), Some(0), "{size:?}: {}", backup.text());
        assert!(dir.path().join(&name).exists(), "{size:?}");
        if size.0 >= 80 {
            // The bar has been where the first line is now.
            let text = backup.text();
            assert!(text.contains(&name) && !text.starts_with('\n'), "{text}");
        }
    }
    server.stop();
}

#[test]
fn a_migration_shows_how_far_it_is_on_any_terminal() {
    let place = Place::new();
    create_keys(100, |line| silent(&place.kes(line)));
    for size in SIZES {
        let target = format!("to-{}", size.0);
        fs::write(
            place.path().join("to.yml"),
            format!("keystore: {{fs: {{path: {target}}}}}\n"),
        )
        .unwrap();
        let line = ["migrate", "--from=config.yml", "--to=to.yml"];
        let mut migration = Session::start(&command(place.path(), &line), size);
        assert_eq!(migration.end(), Some(0), "{size:?}: {}", migration.text());
        if size.0 >= 80 {
            assert_eq!(
                migration.text().trim_end(),
                "Copied 100 keys",
                "nothing is left of the bar"
            );
        }
        let again = run(place.path(), &[&line[..], &["--merge"]].concat());
        assert_eq!(again.code, Some(0), "{again:?}");
    }
}
