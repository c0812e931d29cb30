//! What claims to be a backup: any bytes are one or an error, in whatever pieces they arrive.
#![no_main]

use kes_keystore_embedded::{BackupCheck, BackupError, Report};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let whole = check(bytes, bytes.len().max(1));
    let in_pieces = check(bytes, 1 + bytes.len() % 61);
    match (whole, in_pieces) {
        (Ok(whole), Ok(in_pieces)) => assert_eq!(whole, in_pieces),
        (Err(whole), Err(in_pieces)) => assert_eq!(whole.to_string(), in_pieces.to_string()),
        (whole, in_pieces) => panic!("{whole:?} or {in_pieces:?}"),
    }
});

fn check(bytes: &[u8], piece: usize) -> Result<Report, BackupError> {
    let mut check = BackupCheck::new();
    bytes.chunks(piece).try_for_each(|piece| check.update(piece))?;
    check.finish()
}
