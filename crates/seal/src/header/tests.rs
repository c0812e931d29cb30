use proptest::prelude::*;

use super::*;
use crate::vectors::{Inputs, of_document};

fn wrapping() -> impl Strategy<Value = Wrapping> {
    let blob = proptest::collection::vec(any::<u8>(), 1..200);
    ("[a-z0-9-]{1,32}", any::<[u8; 8]>(), blob)
        .prop_map(|(kind, check, blob)| Wrapping::new(SealId { kind, check }, blob).unwrap())
}

prop_compose! {
    fn header()(
        store_id: [u8; 16],
        generation: u64,
        created in -100_000_000_000_i64..200_000_000_000,
        wrappings in proptest::collection::vec(wrapping(), 1..=MAX_WRAPPINGS),
        tag: [u8; OVERHEAD],
    ) -> Header {
        let created = Timestamp::from_unix_timestamp(created).unwrap();
        Header { store_id, generation, created, wrappings, tag }
    }
}

proptest! {
    #[test]
    fn a_header_is_read_as_it_was_written(header in header()) {
        let bytes = header.encode();
        prop_assert!(bytes.len() <= MAX_HEADER);
        prop_assert_eq!(Header::parse(&bytes).unwrap(), header);
    }

    #[test]
    fn what_is_read_is_written_as_it_was(header in header(), at: prop::sample::Index, byte: u8) {
        let mut bytes = header.encode();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(read) = Header::parse(&bytes) {
            prop_assert_eq!(read.encode(), bytes);
        }
    }

    #[test]
    fn a_header_that_is_cut_off_is_refused(header in header(), at: prop::sample::Index) {
        let bytes = header.encode();
        let cut = &bytes[..at.index(bytes.len())];
        prop_assert_eq!(Header::parse(cut), Err(HeaderError::TooShort));
    }
}

#[test]
fn the_largest_header_is_within_the_limit() {
    let wrappings = (0..16).map(|n| {
        let kind = "k".repeat(32);
        Wrapping::new(SealId { kind, check: [n; 8] }, vec![n; 4000]).unwrap()
    });
    let header = Header {
        wrappings: wrappings.collect(),
        ..of_vectors()
    };
    let bytes = header.encode();
    assert!(bytes.len() <= MAX_HEADER, "{}", bytes.len());
    assert_eq!(Header::parse(&bytes).unwrap(), header);
}

#[test]
fn what_a_header_cannot_hold_is_no_wrapping() {
    let new = |kind: &str, length| {
        let kind = kind.to_owned();
        Wrapping::new(SealId { kind, check: [0; 8] }, vec![0; length])
    };
    assert!(new("key", 4000).is_ok());
    assert!(new(&"k".repeat(32), 1).is_ok());
    for (kind, length) in [
        ("key", 0),
        ("key", 4001),
        ("", 1),
        (&"k".repeat(33), 1),
        ("Key", 1),
        ("k y", 1),
        ("ké", 1),
    ] {
        assert!(
            matches!(new(kind, length), Err(SealError::Unfit { .. })),
            "{kind} {length}"
        );
    }
}

#[test]
fn fields_out_of_range_are_refused() {
    let bytes = of_vectors().encode();
    let refused = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut changed = bytes.clone();
        change(&mut changed);
        Header::parse(&changed).unwrap_err()
    };
    let malformed = |change: &dyn Fn(&mut Vec<u8>)| match refused(change) {
        HeaderError::Malformed(reason) => reason,
        other => panic!("{other:?}"),
    };

    assert_eq!(refused(&|b| b[0] = b'k'), HeaderError::NotAHeader);
    assert_eq!(refused(&|b| b[11] = 0), HeaderError::NotAHeader);
    assert_eq!(refused(&|b| b[11] = 2), HeaderError::NewerFormat { version: 2 });
    assert_eq!(
        refused(&|b| b[8] = 0xff),
        HeaderError::NewerFormat { version: 0xff00_0001 }
    );
    assert_eq!(malformed(&|b| b[36] = 0x7f), "its time of creation is none");
    assert_eq!(
        malformed(&|b| b[44] = 0),
        "the number of its wrappings is out of range"
    );
    assert_eq!(
        malformed(&|b| b[44] = 17),
        "the number of its wrappings is out of range"
    );
    assert_eq!(malformed(&|b| b[45] = 0), "a wrapping has no kind");
    assert_eq!(malformed(&|b| b[45] = 33), "a wrapping has no kind");
    assert_eq!(malformed(&|b| b[46] = b'K'), "a wrapping has no kind");
    assert_eq!(malformed(&|b| b[46] = 0xff), "a wrapping has no kind");
    assert_eq!(
        malformed(&|b| b[57] = 0xff),
        "the length of a wrapping is out of range"
    );
    assert_eq!(
        malformed(&|b| b[58] = 0),
        "the length of a wrapping is out of range"
    );
    assert_eq!(malformed(&|b| b.push(0)), "it has bytes after its end");
    assert_eq!(malformed(&|b| b[44] = 1), "it has bytes after its end");
    assert_eq!(refused(&|b| b.resize(MAX_HEADER + 1, 0)), HeaderError::TooLarge);

    let mut twice = of_vectors();
    twice.wrappings[1] = twice.wrappings[0].clone();
    assert_eq!(
        Header::parse(&twice.encode()),
        Err(HeaderError::Malformed("it has two wrappings by the same seal"))
    );
}

#[test]
fn debug_output_shows_no_wrapping() {
    let text = format!("{:?}", of_vectors());
    assert_eq!(
        text,
        "Header { store_id: 202122232425262728292a2b2c2d2e2f, generation: 2, created: 2026-01-01 0:00:00.0 +00:00:00, \
         wrappings: [Wrapping(key 3c6aa78a3f553ca4, 61 bytes), Wrapping(key 87aea7f5ea0eb8a2, 61 bytes)], .. }"
    );
}

/// With two wrappings.
fn of_vectors() -> Header {
    Inputs::read(&of_document()).record(2).0
}
