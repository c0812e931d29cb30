mod crash;

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use tracing_subscriber::fmt::MakeWriter;

use super::*;

fn name(text: &str) -> EntryName {
    EntryName::parse(text).unwrap()
}

fn secret(text: &str) -> SecretBytes {
    SecretBytes::copy_of(text.as_bytes())
}

fn private_folder() -> (TempDir, Folder) {
    let temp = tempfile::tempdir().unwrap();
    let folder = Folder::connect(temp.path().join("keys")).unwrap();
    (temp, folder)
}

fn value_of(folder: &Folder, text: &str) -> Vec<u8> {
    folder.get(&name(text)).unwrap().value.expose_secret().to_vec()
}

fn files(folder: &Folder) -> Vec<String> {
    let entries = fs::read_dir(&folder.path).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    names
}

fn cause(error: &StoreError) -> (io::ErrorKind, String) {
    let (StoreError::Backend { source, .. } | StoreError::Unreachable { source, .. }) = error else {
        panic!("{error:?}")
    };
    let error: &FileError = source.downcast_ref().unwrap();
    (error.source.kind(), error.to_string())
}

#[test]
fn both_ways_to_publish_store_the_value_and_leave_nothing_else() {
    let (_temp, folder) = private_folder();
    for (text, publish) in [("renamed", Publish::Rename), ("linked", Publish::Link)] {
        let mut steps = Vec::new();
        folder
            .create_stepwise(&name(text), &secret("value"), publish, |step| steps.push(step))
            .unwrap();
        assert_eq!(steps, [Step::TempCreated, Step::TempWritten, Step::Published]);
        assert_eq!(value_of(&folder, text), b"value");
    }
    assert_eq!(files(&folder), ["linked", "renamed"]);
}

#[test]
fn whoever_publishes_second_learns_that_the_name_exists() {
    for publish in [Publish::Rename, Publish::Link] {
        let (_temp, folder) = private_folder();
        let late = folder.create_stepwise(&name("contested"), &secret("late"), publish, |step| {
            if step == Step::TempWritten {
                folder.create(&name("contested"), &secret("early")).unwrap();
            }
        });
        assert!(matches!(late, Err(StoreError::Exists)), "{late:?}");
        assert_eq!(value_of(&folder, "contested"), b"early");
        assert_eq!(files(&folder), ["contested"]);
    }
}

#[test]
fn a_create_that_fails_removes_only_what_it_made() {
    let (_temp, folder) = private_folder();
    folder.create(&name("other"), &secret("stays")).unwrap();
    for publish in [Publish::Rename, Publish::Link] {
        let result = folder.create_stepwise(&name("failing"), &secret("a secret value"), publish, |step| {
            if step == Step::TempWritten {
                let temp = files(&folder)
                    .into_iter()
                    .find(|file| file.starts_with('.'))
                    .unwrap();
                fs::remove_file(folder.path.join(temp)).unwrap();
            }
        });
        let error = result.unwrap_err();
        let path = folder.path.join("failing");
        assert_eq!(
            cause(&error),
            (
                io::ErrorKind::NotFound,
                format!("giving its name to {}", path.display())
            )
        );
        assert!(!format!("{error:?}").contains("a secret value"));
        assert_eq!(files(&folder), ["other"]);
    }
    assert_eq!(value_of(&folder, "other"), b"stays");
}

#[test]
fn what_cannot_be_published_is_no_reason_to_remove_what_has_the_name() {
    let (_temp, folder) = private_folder();
    fs::create_dir(folder.path.join("a-folder")).unwrap();
    symlink("nowhere", folder.path.join("a-link")).unwrap();
    for text in ["a-folder", "a-link"] {
        assert!(matches!(
            folder.create(&name(text), &secret("value")),
            Err(StoreError::Exists)
        ));
    }
    assert_eq!(files(&folder), ["a-folder", "a-link"]);
}

#[test]
fn cleaning_up_all_the_time_makes_no_create_fail() {
    let (_temp, folder) = private_folder();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                folder.remove_stale().unwrap();
            }
        });
        // The guard ends the other thread also when an assertion fails here.
        let _done = OnDrop(|| done.store(true, Ordering::SeqCst));
        for i in 0..100 {
            let publish = if i % 2 == 0 {
                Publish::Rename
            } else {
                Publish::Link
            };
            folder
                .create_stepwise(&name(&format!("key-{i}")), &secret("value"), publish, |_| ())
                .unwrap();
        }
    });
    assert_eq!(files(&folder).len(), 100);
}

#[test]
fn the_temporary_files_of_others_are_left_alone() {
    let (_temp, folder) = private_folder();
    let foreign = [".tmp-foreign", ".tmp-0123", "tmp-1", ".nfs0000"];
    for file in foreign {
        fs::write(folder.path.join(file), "theirs").unwrap();
    }
    let stale = ".tmp-0123456789abcdef0123456789abcdef";
    fs::write(folder.path.join(stale), "half a val").unwrap();
    // What has the name of one but is none.
    fs::create_dir(folder.path.join(".tmp-ffffffffffffffffffffffffffffffff")).unwrap();
    symlink("tmp-1", folder.path.join(".tmp-eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee")).unwrap();

    Folder::connect(folder.path.clone()).unwrap();
    let left = files(&folder);
    assert!(
        foreign.iter().all(|file| left.iter().any(|left| left == file)),
        "{left:?}"
    );
    assert!(!left.iter().any(|left| left == stale), "{left:?}");
    assert_eq!(left.len(), foreign.len() + 2, "{left:?}");
}

#[test]
fn what_is_not_permitted_fails_with_its_cause_and_removes_nothing() {
    as_nobody(|| {
        let (_temp, folder) = private_folder();
        folder.create(&name("present"), &secret("value")).unwrap();
        folder.create(&name("unreadable"), &secret("value")).unwrap();
        set_mode(&folder.path.join("unreadable"), 0o000);
        let (kind, text) = cause(&folder.get(&name("unreadable")).unwrap_err());
        assert_eq!(kind, io::ErrorKind::PermissionDenied);
        assert!(
            text.starts_with("reading /") && text.ends_with("/keys/unreadable"),
            "{text}"
        );
        // No key is read at the start, so that one which cannot be read does no harm to the others.
        Folder::connect(folder.path.clone()).unwrap();

        set_mode(&folder.path, 0o500);
        for error in [
            folder.ping().unwrap_err(),
            folder.create(&name("new"), &secret("value")).unwrap_err(),
            folder.delete(&name("present")).unwrap_err(),
        ] {
            assert_eq!(cause(&error).0, io::ErrorKind::PermissionDenied);
            assert!(!error.is_outage(), "reads still work");
        }
        assert!(matches!(
            folder.create(&name("present"), &secret("value")),
            Err(StoreError::Exists)
        ));
        assert_eq!(value_of(&folder, "present"), b"value");
        let error = Folder::connect(folder.path.clone()).unwrap_err();
        assert!(matches!(error, ConnectError::Unusable { .. }), "{error:?}");

        set_mode(&folder.path, 0o000);
        assert_eq!(
            cause(&folder.ping().unwrap_err()).0,
            io::ErrorKind::PermissionDenied
        );
        assert_eq!(
            cause(&folder.get(&name("present")).unwrap_err()).0,
            io::ErrorKind::PermissionDenied
        );
        set_mode(&folder.path, 0o700);
        assert_eq!(files(&folder), ["present", "unreadable"]);
    });
}

#[test]
fn a_folder_or_a_key_file_that_others_can_read_is_warned_about_once_and_used() {
    let (_temp, folder) = private_folder();
    let path = folder.path.clone();
    for text in ["first", "second"] {
        folder.create(&name(text), &secret("the-value")).unwrap();
    }
    let quiet = warnings_of(|| {
        let folder = Folder::connect(path.clone()).unwrap();
        folder.get(&name("first")).unwrap();
    });
    assert_eq!(quiet, "");

    set_mode(&path, 0o755);
    set_mode(&path.join("first"), 0o644);
    set_mode(&path.join("second"), 0o640);
    let warnings = warnings_of(|| {
        let folder = Folder::connect(path.clone()).unwrap();
        for text in ["first", "second", "first"] {
            folder.get(&name(text)).unwrap();
        }
        folder.ping().unwrap();
    });
    assert_eq!(warnings.lines().count(), 2, "{warnings}");
    assert!(
        warnings.contains("the key store folder is accessible to group or others"),
        "{warnings}"
    );
    assert!(
        warnings.contains("keys/first") && !warnings.contains("the-value"),
        "{warnings}"
    );
}

#[test]
fn a_folder_that_is_created_is_for_its_owner_only_and_so_are_its_new_parents() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("some/new/keys");
    let quiet = warnings_of(|| {
        let folder = Folder::connect(path.clone()).unwrap();
        folder.create(&name("key"), &secret("value")).unwrap();
        folder.get(&name("key")).unwrap();
    });
    assert_eq!(quiet, "");
    for (path, mode) in [
        ("some", 0o700),
        ("some/new", 0o700),
        ("some/new/keys", 0o700),
        ("some/new/keys/key", 0o600),
    ] {
        assert_eq!(
            fs::metadata(temp.path().join(path)).unwrap().permissions().mode() & 0o777,
            mode,
            "{path}"
        );
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Runs `test` in a thread without a superuser's rights; on Linux these belong to the thread.
fn as_nobody(test: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // Whoever is not the superuser cannot do this and need not.
            let _ = rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(65534));
            test();
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

fn warnings_of(test: impl FnOnce()) -> String {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(log.clone())
        .with_max_level(tracing::Level::WARN)
        .finish();
    tracing::subscriber::with_default(subscriber, test);
    String::from_utf8(std::mem::take(&mut *log.0.lock().unwrap())).unwrap()
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

struct OnDrop<F: Fn()>(F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
