use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::testing::chain;

const GOOD: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// A file with this text and these permissions, in a folder of its own.
fn file(text: &[u8], mode: u32) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("seal.key");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    (folder, path)
}

fn refusal(path: &Path) -> String {
    chain(&KeySeal::from_file(path).unwrap_err())
}

#[test]
fn a_key_is_read_from_a_file_and_from_a_variable() {
    let id = KeySeal::from_variable("SEAL", GOOD).unwrap().id();
    assert_eq!(id.to_string(), "key 3c6aa78a3f553ca4");
    for (text, mode) in [
        (GOOD.to_owned(), 0o600),
        (format!("{GOOD}\n"), 0o400),
        (format!("{GOOD}\r\n"), 0o700),
    ] {
        let (_folder, path) = file(text.as_bytes(), mode);
        let seal = KeySeal::from_file(&path).unwrap();
        assert_eq!(seal.id(), id);
        assert_eq!(seal.to_string(), format!("file {}", path.display()));
        assert_eq!(KeySeal::from_variable("SEAL", &text).unwrap().id(), id);
    }
    let (folder, path) = file(GOOD.as_bytes(), 0o600);
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert_eq!(KeySeal::from_file(&link).unwrap().id(), id);
}

#[test]
fn a_key_is_read_from_a_pipe() {
    let (reader, mut writer) = io::pipe().unwrap();
    writer.write_all(GOOD.as_bytes()).unwrap();
    drop(writer);
    let path = PathBuf::from(format!("/dev/fd/{}", reader.as_raw_fd()));
    KeySeal::from_file(&path).unwrap();
}

#[test]
fn a_pipe_may_be_slow_and_must_not_be_silent() {
    let (reader, mut writer) = io::pipe().unwrap();
    let path = PathBuf::from(format!("/dev/fd/{}", reader.as_raw_fd()));
    let silent = read(&path, Duration::ZERO).unwrap_err();
    assert!(chain(&silent).contains("timed out"), "{silent:?}");

    std::thread::scope(|scope| {
        let reading = scope.spawn(|| KeySeal::from_file(&path).map(drop));
        for part in [&GOOD[..10], &GOOD[10..]] {
            writer.write_all(part.as_bytes()).unwrap();
            std::thread::yield_now();
        }
        drop(writer);
        reading.join().unwrap().unwrap();
    });
}

#[test]
fn a_named_pipe_that_nobody_writes_to_is_empty() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe");
    rustix::fs::mknodat(CWD, &path, rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    assert!(refusal(&path).contains("is empty"));
}

#[test]
fn a_file_that_others_can_access_is_refused_with_the_command_that_helps() {
    for mode in [
        0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644, 0o666, 0o777, 0o4604,
    ] {
        let (_folder, path) = file(GOOD.as_bytes(), mode);
        let shown = path.display();
        assert_eq!(
            refusal(&path),
            format!(
                "the seal file {shown} is accessible to group or others (mode {mode:04o}): run `chmod 600 {shown}`, \
                 and replace the seal if somebody may have read it"
            )
        );
    }
}

#[test]
fn what_cannot_be_read_is_named_with_the_reason() {
    let (folder, path) = file(GOOD.as_bytes(), 0o600);
    assert_eq!(
        refusal(folder.path()),
        format!("the seal file {} is a folder", folder.path().display())
    );
    fs::remove_file(&path).unwrap();
    assert_eq!(
        refusal(&path),
        format!(
            "cannot read the seal file {}: No such file or directory (os error 2)",
            path.display()
        )
    );
}

#[test]
fn what_is_no_key_is_told_why_and_never_shown() {
    let too_long = "A".repeat(100_000);
    let cases = [
        ("", "is empty"),
        ("\n", "is empty"),
        (&format!("{GOOD}\n\n"), "has more than one line"),
        (&format!("{GOOD}\n{GOOD}\n"), "has more than one line"),
        (&format!("\n{GOOD}"), "has more than one line"),
        (&format!("{GOOD}\r\r\n"), "has more than one line"),
        (&too_long, "is too long"),
        (&format!("{GOOD} "), "is too long"),
        (&GOOD[..43], "is not standard base64"),
        (
            " AECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
            "is not standard base64",
        ),
        (
            "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh9=",
            "is not standard base64",
        ),
        (
            "-_ECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
            "is not standard base64",
        ),
        ("000102030405060708090a0b0c0d0e0f1011", "does not have 32 bytes"),
        (
            "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHg==",
            "does not have 32 bytes",
        ),
        (
            "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g",
            "does not have 32 bytes",
        ),
    ];
    for (text, problem) in cases {
        let expected = |place: &str| {
            format!(
                "the seal in {place} {problem}: it has to be 32 random bytes in standard base64, on one line"
            )
        };
        let (_folder, path) = file(text.as_bytes(), 0o600);
        assert_eq!(
            refusal(&path),
            expected(&format!("file {}", path.display())),
            "{text}"
        );
        let error = KeySeal::from_variable("SEAL", text).unwrap_err();
        assert_eq!(chain(&error), expected("environment variable SEAL"), "{text}");
        for line in text.lines().filter(|line| !line.is_empty()) {
            assert!(!format!("{error:?}").contains(line.trim()), "{error:?}");
        }
    }
}

#[test]
fn no_more_of_a_file_is_read_than_a_key_has() {
    // It would never end.
    let (reader, mut writer) = io::pipe().unwrap();
    writer.write_all(&[b'A'; 4096]).unwrap();
    let path = PathBuf::from(format!("/dev/fd/{}", reader.as_raw_fd()));
    let error = KeySeal::from_file(&path).unwrap_err();
    assert!(error.to_string().contains("is too long"), "{error}");
}

#[test]
fn a_generated_key_is_a_line_that_can_be_read_and_always_another() {
    let (one, two) = (
        KeySeal::generate_text().unwrap(),
        KeySeal::generate_text().unwrap(),
    );
    assert_ne!(*one, *two);
    assert_eq!((one.len(), one.lines().count()), (45, 1));
    assert!(one.ends_with("=\n"));
    let ids = [&one, &two].map(|text| KeySeal::from_variable("SEAL", text).unwrap().id());
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn debug_output_shows_no_key() {
    let seal = KeySeal::from_variable("SEAL", GOOD).unwrap();
    assert_eq!(
        format!("{seal:?}"),
        r#"KeySeal { check: "3c6aa78a3f553ca4", source: Variable("SEAL"), .. }"#
    );
}

#[tokio::test]
async fn a_wrapping_opens_only_with_its_seal_and_in_its_context() {
    let seal = KeySeal::from_variable("SEAL", GOOD).unwrap();
    let other = KeySeal::from_variable("SEAL", &KeySeal::generate_text().unwrap()).unwrap();
    let root = SecretBytes::copy_of(&[7; 32]);
    let blob = seal.wrap(b"context", &root).await.unwrap();
    assert_eq!(blob.len(), 61);
    assert_ne!(blob, seal.wrap(b"context", &root).await.unwrap());
    assert!(seal.unwrap(b"context", &blob).await.unwrap().ct_eq(&root));

    let does_not_open = |result| matches!(result, Err(SealError::DoesNotOpen));
    assert!(does_not_open(seal.unwrap(b"", &blob).await));
    assert!(does_not_open(seal.unwrap(b"contexu", &blob).await));
    assert!(does_not_open(other.unwrap(b"context", &blob).await));
    for length in 0..blob.len() {
        assert!(does_not_open(seal.unwrap(b"context", &blob[..length]).await));
    }
    for bit in 0..blob.len() * 8 {
        let mut flipped = blob.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(seal.unwrap(b"context", &flipped).await.is_err(), "bit {bit}");
    }
}

proptest! {
    #[test]
    fn any_32_bytes_are_a_key_and_no_other_number(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
        let read = KeySeal::from_variable("SEAL", &STANDARD.encode(&bytes));
        prop_assert_eq!(read.is_ok(), bytes.len() == 32);
    }

    #[test]
    fn no_text_makes_it_panic(text in "[A-Za-z0-9+/=\\-\r\n ]{0,70}") {
        let _ = KeySeal::from_variable("SEAL", &text);
    }
}
