//! The format on its own: what is written is read back, and nothing else is taken for a backup.

use aws_lc_rs::digest::{SHA256, digest};
use kes_keystore::EntryName;
use kes_seal::{HeaderRecord, MAX_HEADER, MAX_SEALED};
use proptest::prelude::*;

use super::format::{END, PIECE, put_head};
use super::*;
use crate::snapshot::StoredEntry;
use crate::verify::Report;

mod sending;

const STORE: [u8; 16] = [7; 16];

#[test]
fn what_was_written_is_read_back() {
    let (bytes, entries) = (written(&sample()), sample());
    for piece in [1, 7, 64, bytes.len()] {
        let (events, report) = read(bytes.chunks(piece)).unwrap();
        assert_eq!(events, entries);
        assert_eq!((report.keys, report.deleted, report.format), (3, 1, 1));
        assert_eq!(report.store_id, "07".repeat(16));
    }
}

#[test]
fn a_backup_begins_with_the_header_of_its_store() {
    let mut decoder = Decoder::new();
    decoder.feed(&written(&sample()));
    let Ok(Some(Event::Start {
        store_id,
        record: header,
    })) = decoder.next()
    else {
        panic!("it begins with something else");
    };
    assert_eq!((store_id, header), (STORE, record()));
}

#[test]
fn a_backup_of_nothing_is_a_backup() {
    let (events, report) = read([&*written(&[])]).unwrap();
    assert_eq!(events, []);
    assert_eq!((report.keys, report.deleted), (0, 0));
}

#[test]
fn values_that_are_longer_than_a_piece_are_cut_and_joined() {
    let entries = [
        live("long", &vec![1; MAX_SEALED]),
        live("longer-than-a-piece", &vec![2; PIECE + 1]),
        live("piece", &vec![3; PIECE]),
    ];
    let mut encoder = Encoder::new(STORE, &record()).unwrap();
    let mut pieces = Vec::new();
    for entry in &entries {
        encoder.entry(entry).unwrap();
        pieces.extend(std::iter::from_fn(|| encoder.piece()));
    }
    pieces.extend(encoder.finish(tag).unwrap());
    assert!(pieces.iter().all(|piece| (1..=PIECE).contains(&piece.len())));
    let (read, _) = read(pieces.iter().map(|piece| &piece[..])).unwrap();
    assert_eq!(read, entries);
}

#[test]
fn what_could_not_be_read_again_is_not_written() {
    let mut encoder = Encoder::new(STORE, &record()).unwrap();
    assert!(encoder.entry(&live("long", &vec![0; MAX_SEALED + 1])).is_err());
    encoder.entry(&live("b", b"value")).unwrap();
    assert!(encoder.entry(&live("b", b"value")).is_err(), "twice");
    assert!(encoder.entry(&deleted("a", 1, b"value")).is_err(), "out of order");

    let long = HeaderRecord {
        header: vec![0; MAX_HEADER + 1],
        ..record()
    };
    assert!(Encoder::new(STORE, &long).is_err());
}

#[test]
fn a_backup_that_ends_too_early_is_refused_wherever_it_ends() {
    let bytes = written(&sample());
    for length in 0..bytes.len() {
        let error = read([&bytes[..length]]).unwrap_err();
        assert!(
            matches!(error, BackupError::Truncated { length: said } if said == length as u64),
            "{length}: {error:?}"
        );
    }
}

#[test]
fn bytes_after_the_end_are_refused() {
    let bytes = written(&sample());
    for more in [&[0][..], b"more", &bytes] {
        let error = read([&bytes, more]).unwrap_err();
        assert!(matches!(error, BackupError::Extended { .. }), "{error:?}");
        let error = read([&*[&bytes, more].concat()]).unwrap_err();
        assert!(matches!(error, BackupError::Extended { .. }), "{error:?}");
    }
}

/// The tag is beyond what can be told without the root key.
#[test]
fn each_flipped_bit_before_the_tag_is_refused() {
    let bytes = written(&sample());
    for at in 0..bytes.len() - TAG.len() {
        for bit in 0..8 {
            let mut altered = bytes.clone();
            altered[at] ^= 1 << bit;
            assert!(read([&*altered]).is_err(), "bit {bit} of byte {at}");
        }
    }
}

#[test]
fn other_files_and_other_versions_are_told_apart() {
    for other in [
        &b"redb\x1a\n\xa9\r\n"[..],
        b"KES-BKP\r",
        b"{",
        b"\0\0\0\0\0\0\0\0\0",
    ] {
        assert!(matches!(read([other]), Err(BackupError::NotABackup)), "{other:?}");
    }
    let mut newer = written(&sample());
    newer[11] = 2;
    let error = read([&*newer]).unwrap_err();
    assert!(matches!(error, BackupError::Newer { found: 2 }), "{error:?}");
    assert_eq!(
        error.to_string(),
        "the backup has format version 2, and this program reads version 1: use a newer release of it"
    );
    newer[11] = 0;
    assert_damaged(&newer, "version 0");
}

#[test]
fn entries_out_of_order_are_refused() {
    let (a, b) = (live("a", b"1"), live("b", b"2"));
    for (entries, what) in [
        (vec![b.clone(), a.clone()], "swapped"),
        (vec![a.clone(), a.clone()], "twice"),
        (vec![a.clone(), deleted("a", 1, b"1")], "there and deleted"),
        (vec![deleted("a", 1, b"1"), a.clone()], "deleted and there"),
    ] {
        println!("{what}");
        assert_damaged(&raw(&entries), "order of names");
    }
    assert!(read([&*raw(&[a, b])]).is_ok(), "and these are right otherwise");
}

#[test]
fn names_that_no_key_can_have_are_refused() {
    let (long, longest) = ("x".repeat(81), "x".repeat(80));
    for name in [
        &b""[..],
        b"..",
        b"a/b",
        b"\xff\xfe",
        b"-a",
        b"a ",
        long.as_bytes(),
        &[b'x'; 255],
    ] {
        let entry = [&[1, name.len() as u8], name, &[0, 0, 0, 1, 9]].concat();
        assert_damaged(&raw_of(&entry, 1, 0), "the name of an entry");
    }
    let entry = [&[1, 80], longest.as_bytes(), &[0, 0, 0, 1, 9]].concat();
    assert!(read([&*raw_of(&entry, 1, 0)]).is_ok());
}

#[test]
fn absurd_lengths_are_refused_before_anything_is_kept_for_them() {
    let start = [&MAGIC[..], &[0, 0, 0, 1], &STORE].concat();
    let long = [&start, &[0xff; 4][..]].concat();
    assert_damaged(&long, "the header is too long");
    let long = [&start, &[0, 0, 0, 1, 9, 0, 1, 0, 0][..]].concat();
    assert_damaged(&long, "the generation record is too long");
    let long = [
        &start,
        &[0, 0, 0, 0, 0, 0, 0, 0][..],
        &[1, 1, b'a', 0, 0x20, 0, 1],
    ]
    .concat();
    assert_damaged(&long, "the value of an entry is too long");
    let long = [&start, &[0, 0, 0, 0, 0, 0, 0, 0][..], &[0; 1 + 16 + 32], &[1, 1]].concat();
    assert_damaged(&long, "the tag of the trailer is too long");
}

#[test]
fn unknown_kinds_of_entries_and_wrong_counts_are_refused() {
    let entry = [3, 1, b'a', 0, 0, 0, 1, 9];
    assert_damaged(&raw_of(&entry, 1, 0), "no such kind of entry");
    let entry = [1, 1, b'a', 0, 0, 0, 1, 9];
    assert!(read([&*raw_of(&entry, 1, 0)]).is_ok());
    for (keys, deleted) in [(0, 0), (2, 0), (0, 1), (1, 1), (u64::MAX, 0)] {
        assert_damaged(&raw_of(&entry, keys, deleted), "the counts of the trailer");
    }
}

#[test]
fn what_was_refused_stays_refused() {
    let bytes = written(&sample());
    let mut check = BackupCheck::new();
    assert!(check.update(b"something else").is_err());
    assert!(matches!(check.update(&bytes), Err(BackupError::Refused)));
    assert!(matches!(check.finish(), Err(BackupError::Refused)));

    let mut check = BackupCheck::new();
    check.update(&bytes).unwrap();
    assert_eq!(check.entries(), 4);
    check.update(b"").unwrap();
    assert!(check.update(b"x").is_err());
    assert!(check.finish().is_err());
}

#[test]
fn the_content_has_one_digest_whatever_the_header() {
    let digest_of = |record: &HeaderRecord, entries: &[StoredEntry], store| {
        let mut encoder = Encoder::new(store, record).unwrap();
        entries.iter().for_each(|entry| encoder.entry(entry).unwrap());
        let bytes = encoder.finish(tag).unwrap().concat();
        read([&*bytes]).unwrap().1.digest
    };
    let resealed = HeaderRecord {
        header: b"other".to_vec(),
        generation: b"2".to_vec(),
    };
    let digest = digest_of(&record(), &sample(), STORE);
    assert_eq!(digest, digest_of(&resealed, &sample(), STORE));
    assert_ne!(digest, digest_of(&record(), &sample(), [8; 16]));

    let alter: [fn(&mut Vec<StoredEntry>); 6] = [
        |entries| entries[0].deleted = Some(0),
        |entries| entries[1].deleted = Some(1_700_000_001),
        |entries| entries[1].deleted = None,
        |entries| entries[0].sealed[0] ^= 1,
        |entries| entries[0].name = name("aa"),
        |entries| drop(entries.pop()),
    ];
    for (number, alter) in alter.into_iter().enumerate() {
        let mut entries = sample();
        alter(&mut entries);
        assert_ne!(digest, digest_of(&record(), &entries, STORE), "{number}");
    }
}

/// The construction as the document words it, written down a second time.
#[test]
fn the_digest_of_the_content_is_made_as_documented() {
    let mut content = b"KES store content v1\0".to_vec();
    content.extend(STORE);
    content.extend(b"\x01\x01a\0\0\0\x03one");
    content.extend(b"\x02\0\0\0\0\x65\x53\xf1\0\x01b\0\0\0\x03two");
    content.extend(b"\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x01");
    let (_, report) = read([&*written(&[
        live("a", b"one"),
        deleted("b", 1_700_000_000, b"two"),
    ])])
    .unwrap();
    assert_eq!(report.digest, hex(digest(&SHA256, &content).as_ref()));
}

proptest! {
    #[test]
    fn any_entries_in_any_pieces_are_read_back(
        entries in proptest::collection::btree_map(
            "[a-z0-9]{1,20}",
            (proptest::option::of(any::<u64>()), proptest::collection::vec(any::<u8>(), 0..300)),
            0..40,
        ),
        piece in 1_usize..3000,
    ) {
        let entries: Vec<_> = entries
            .into_iter()
            .map(|(text, (deleted, sealed))| StoredEntry { name: name(&text), deleted, sealed })
            .collect();
        let bytes = written(&entries);
        let (events, report) = read(bytes.chunks(piece)).unwrap();
        prop_assert_eq!(&events, &entries);
        prop_assert_eq!(report.keys + report.deleted, entries.len() as u64);
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(bytes: Vec<u8>, from in 0_usize..200) {
        let mut start = written(&sample());
        start.truncate(from);
        start.extend(bytes);
        let _ = read([&*start]);
    }
}

const TAG: &[u8] = b"the tag";

fn tag(_: &[u8; 32]) -> Result<Vec<u8>, kes_seal::SealError> {
    Ok(TAG.to_vec())
}

fn record() -> HeaderRecord {
    HeaderRecord {
        header: b"header".to_vec(),
        generation: b"generation".to_vec(),
    }
}

fn name(text: &str) -> EntryName {
    EntryName::parse(text).unwrap()
}

fn live(text: &str, sealed: &[u8]) -> StoredEntry {
    StoredEntry {
        name: name(text),
        deleted: None,
        sealed: sealed.to_vec(),
    }
}

fn deleted(text: &str, time: u64, sealed: &[u8]) -> StoredEntry {
    StoredEntry {
        deleted: Some(time),
        ..live(text, sealed)
    }
}

fn sample() -> Vec<StoredEntry> {
    vec![
        live("a", b"value of a"),
        deleted("b", 1_700_000_000, b"value of b"),
        live("c", b""),
        live("key-0001", &[0xab; 100]),
    ]
}

fn written(entries: &[StoredEntry]) -> Vec<u8> {
    let mut encoder = Encoder::new(STORE, &record()).unwrap();
    entries.iter().for_each(|entry| encoder.entry(entry).unwrap());
    encoder.finish(tag).unwrap().concat()
}

/// What the encoder would not write: these entries as they are, with the right counts and digest.
fn raw(entries: &[StoredEntry]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in entries {
        put_head(&mut bytes, entry);
        bytes.extend(&entry.sealed);
    }
    let deleted = entries.iter().filter(|entry| entry.deleted.is_some()).count();
    raw_of(&bytes, (entries.len() - deleted) as u64, deleted as u64)
}

fn raw_of(entries: &[u8], keys: u64, deleted: u64) -> Vec<u8> {
    let start = [&MAGIC[..], &[0, 0, 0, 1], &STORE, &[0, 0, 0, 1, 9, 0, 0, 0, 1, 9]].concat();
    let mut bytes = [
        &start,
        entries,
        &[END],
        &keys.to_be_bytes(),
        &deleted.to_be_bytes(),
    ]
    .concat();
    bytes.extend(digest(&SHA256, &bytes).as_ref());
    bytes.extend([0, TAG.len() as u8]);
    bytes.extend(TAG);
    bytes
}

fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<(Vec<StoredEntry>, Report), BackupError> {
    let pieces: Vec<_> = pieces.into_iter().collect();
    let decoded = decode(&pieces);
    // Both ways to read say the same.
    match (&decoded, check(&pieces)) {
        (Ok((_, report)), Ok(checked)) => assert_eq!(*report, checked),
        (Err(error), Err(checked)) => assert_eq!(error.to_string(), checked.to_string()),
        (decoded, checked) => panic!("{decoded:?}, {checked:?}"),
    }
    decoded
}

fn decode(pieces: &[&[u8]]) -> Result<(Vec<StoredEntry>, Report), BackupError> {
    let mut decoder = Decoder::new();
    let (mut entries, mut end) = (Vec::new(), None);
    for piece in pieces {
        decoder.feed(piece);
        while let Some(event) = decoder.next()? {
            match event {
                Event::Start { .. } => {}
                Event::Entry(entry) => entries.push(entry),
                Event::End { report, .. } => end = Some(report),
            }
        }
    }
    decoder.finish()?;
    Ok((entries, end.unwrap()))
}

fn check(pieces: &[&[u8]]) -> Result<Report, BackupError> {
    let mut check = BackupCheck::new();
    pieces.iter().try_for_each(|piece| check.update(piece))?;
    check.finish()
}

fn assert_damaged(bytes: &[u8], part: &str) {
    match read([bytes]) {
        Err(BackupError::Damaged { what, .. }) if what.contains(part) => {}
        other => panic!("{part}: {other:?}"),
    }
}
