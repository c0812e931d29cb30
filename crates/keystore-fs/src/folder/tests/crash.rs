//! A process is stopped in the middle of a create, looked at from outside, and killed.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};

use super::*;

const CASE: &str = "KES_TEST_STOP_CREATE_AT";
const FOLDER: &str = "KES_TEST_FOLDER";
const STOPPED: &str = "@stopped";

const CASES: [(&str, Step, Publish); 6] = [
    ("rename-created", Step::TempCreated, Publish::Rename),
    ("rename-written", Step::TempWritten, Publish::Rename),
    ("rename-published", Step::Published, Publish::Rename),
    ("link-created", Step::TempCreated, Publish::Link),
    ("link-written", Step::TempWritten, Publish::Link),
    ("link-published", Step::Published, Publish::Link),
];

/// What runs in the other process; does nothing in this one.
#[test]
fn other_process() {
    let Ok(case) = std::env::var(CASE) else { return };
    let (_, at, publish) = CASES.into_iter().find(|(text, ..)| *text == case).unwrap();
    let folder = Folder::connect(std::env::var_os(FOLDER).unwrap().into()).unwrap();
    let created = folder.create_stepwise(&name("key"), &secret("value of the killed"), publish, |step| {
        if step == at {
            println!("{STOPPED}");
            // Until the parent kills this process, or dies itself.
            let _ = io::stdin().read_line(&mut String::new());
        }
    });
    panic!("this process should have been killed: {created:?}");
}

#[test]
fn a_killed_create_leaves_the_name_free_or_the_whole_key() {
    for (case, at, _) in CASES {
        let (_temp, folder) = private_folder();
        folder.create(&name("other"), &secret("stays")).unwrap();
        let mut writer = Writer::stopped_at(case, &folder);
        let half_way = files(&folder);

        // Another server that starts meanwhile does not take away what this one is writing.
        let restarted = Folder::connect(folder.path.clone()).unwrap();
        assert_eq!(files(&folder), half_way, "{case}");
        assert_eq!(half_way.len(), 2, "{case}: {half_way:?}");

        writer.kill();
        if at == Step::Published {
            assert_eq!(value_of(&restarted, "key"), b"value of the killed", "{case}");
        } else {
            let read = restarted.get(&name("key"));
            assert!(matches!(read, Err(StoreError::NotFound)), "{case}: {read:?}");
            let page = restarted.list("", None, NonZeroUsize::MAX).unwrap();
            assert_eq!(page.names, [name("other")], "{case}");
            // Free at once, and cleaned up at the next start.
            restarted.create(&name("key"), &secret("a new value")).unwrap();
            assert_eq!(files(&folder).len(), 3, "{case}");
            Folder::connect(folder.path.clone()).unwrap();
            assert_eq!(value_of(&folder, "key"), b"a new value", "{case}");
        }
        assert_eq!(files(&folder), ["key", "other"], "{case}");
        assert_eq!(value_of(&folder, "other"), b"stays", "{case}");
    }
}

#[test]
fn a_key_with_a_leftover_second_name_loses_only_that_one() {
    let (_temp, folder) = private_folder();
    folder.create(&name("key"), &secret("value")).unwrap();
    let leftover = folder.path.join(".tmp-0123456789abcdef0123456789abcdef");
    fs::hard_link(folder.path.join("key"), leftover).unwrap();
    Folder::connect(folder.path.clone()).unwrap();
    assert_eq!(files(&folder), ["key"]);
    assert_eq!(value_of(&folder, "key"), b"value");
}

struct Writer(Child);

impl Writer {
    fn stopped_at(case: &str, folder: &Folder) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "folder::tests::crash::other_process",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(CASE, case)
            .env(FOLDER, &folder.path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let writer = Self(child);
        let stopped = output.lines().any(|line| line.unwrap().contains(STOPPED));
        assert!(stopped, "the other process ended before it came to {case}");
        writer
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        let ended = self.0.wait().unwrap();
        assert_eq!(ended.signal(), Some(9), "{ended:?}");
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
