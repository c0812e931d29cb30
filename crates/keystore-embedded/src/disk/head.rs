//! What the first page says before redb reads it, and the mark behind it.

use aws_lc_rs::digest::{Context, SHA256};

use crate::pages::PAGE;

/// What the header page says before redb reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Header {
    /// It is as redb wrote it.
    Sound,
    /// It may not be: everything that it leads to has to be checked.
    Doubtful {
        /// Whether it is as redb wrote it but for the bit that says which of the two commits is the current one.
        names_other: bool,
    },
    /// This is not the header of a store, for this reason.
    Foreign(&'static str),
}

/// Looks at a header page before redb is given it.
pub(crate) fn examine(head: &[u8], size: u64) -> Header {
    if size == 0 {
        return Header::Foreign("it is empty");
    }
    if head.get(..MAGIC.len()) != Some(&MAGIC[..]) {
        return Header::Foreign("it does not begin as a key store does");
    }
    let Some(header) = head.get(..HEADER) else {
        return Header::Foreign("it ends within its header");
    };
    let field = |at: usize| -> u64 {
        let bytes = header.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        u64::from(u32::from_le_bytes(bytes.unwrap_or_default()))
    };
    let page = PAGE as u64;
    if (field(12), field(16), field(20)) != (page, 0, REGION_PAGES) {
        return Header::Foreign("its header is damaged");
    }
    let flags = header.get(FLAGS).copied().unwrap_or_default();
    if flags & TWO_PHASE == 0 {
        // Every commit sets it.
        return Header::Foreign("its header is damaged");
    }
    let stored = page + (field(24) * REGION_PAGES + field(28)) * page;
    let marked = is_marked(head);
    if marked && size >= stored {
        return Header::Sound;
    }
    Header::Doubtful {
        names_other: !marked && is_marked(&with_other_commit(head)),
    }
}

/// The same page with the other commit as the current one.
pub(crate) fn with_other_commit(head: &[u8]) -> Vec<u8> {
    let mut head = head.to_vec();
    if let Some(flags) = head.get_mut(FLAGS) {
        *flags ^= PRIMARY;
    }
    head
}

fn is_marked(head: &[u8]) -> bool {
    let header = head.get(..HEADER).unwrap_or_default();
    head.get(HEADER..HEADER + MARK) == Some(&mark(header)[..])
}

pub(super) fn mark(header: &[u8]) -> [u8; MARK] {
    let mut context = Context::new(&SHA256);
    context.update(b"kes embedded head\0");
    context.update(header);
    let mut mark = [0; MARK];
    let digest = context.finish();
    mark.copy_from_slice(digest.as_ref().get(..MARK).unwrap_or(&[0; MARK]));
    mark
}

/// How much of the first page redb uses.
pub(crate) const HEADER: usize = 320;

/// Bytes of the mark behind it.
pub(crate) const MARK: usize = 16;

/// How redb files begin.
pub(crate) const MAGIC: [u8; 9] = [b'r', b'e', b'd', b'b', 0x1A, 0x0A, 0xA9, 0x0D, 0x0A];

/// Where redb keeps which commit is the current one, and how it was made.
const FLAGS: usize = MAGIC.len();
const PRIMARY: u8 = 1;
const TWO_PHASE: u8 = 4;

/// Pages of a full region in files that this program makes.
const REGION_PAGES: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_of_another_shape_is_foreign() {
        assert_eq!(examine(&[], 0), Header::Foreign("it is empty"));
        assert!(matches!(examine(b"keystore:", 9), Header::Foreign(_)));
        assert!(matches!(examine(&MAGIC, 9), Header::Foreign(_)));
        let mut head = vec![0; PAGE];
        head[..MAGIC.len()].copy_from_slice(&MAGIC);
        assert!(matches!(examine(&head, PAGE as u64), Header::Foreign(_)));
    }
}
