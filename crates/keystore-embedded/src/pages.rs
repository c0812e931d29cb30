//! Pages with checksums: what is not as it was written is an error, and nothing above has to make sense of it.
//!
//! redb believes what its pages say. Most damage makes it fail, some makes it panic, and some of those panics happen while it
//! cleans up after another one, which ends the process. So it is never shown a damaged page.

use std::io;
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};

use crate::medium::Medium;

/// A medium whose pages are followed by a checksum of their number and content, and are checked when they are read. The
/// first page is left as it is: it is written in parts, and has a mark of its own.
///
/// A page and its checksum are not written in one step. A crash may leave a page that does not match, but only one that was
/// being written, and that no commit has yet led to.
#[derive(Debug)]
pub struct Pages(Arc<dyn Medium>);

impl Pages {
    /// Pages on this medium.
    #[must_use]
    pub const fn over(medium: Arc<dyn Medium>) -> Self {
        Self(medium)
    }
}

impl Medium for Pages {
    /// The size of the pages alone. What is left of one that was cut off counts for nothing.
    fn size(&self) -> io::Result<u64> {
        let size = self.0.size()?;
        Ok(match size.checked_sub(PAGE as u64) {
            None => size,
            Some(slots) => (1 + slots / SLOT as u64) * PAGE as u64,
        })
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let in_first = in_first_page(offset, into.len());
        let (first, rest) = into.split_at_mut(in_first);
        if !first.is_empty() {
            self.0.read_at(offset, first)?;
        }
        if rest.is_empty() {
            return Ok(());
        }
        let offset = offset + first.len() as u64;
        let (mut number, before) = (offset / PAGE as u64, in_page(offset));
        let count = (before + rest.len()).div_ceil(PAGE);
        let mut slots = vec![0; count * SLOT];
        self.0.read_at(place(number), &mut slots)?;

        let mut rest = rest;
        let mut before = before;
        for slot in slots.chunks_exact(SLOT) {
            let (page, found) = slot.split_at(PAGE);
            if found != checksum(number, page) {
                return Err(io::Error::new(io::ErrorKind::InvalidData, Damaged { number }));
            }
            let wanted = page.get(before..).unwrap_or_default();
            let (to, later) = rest.split_at_mut(wanted.len().min(rest.len()));
            to.copy_from_slice(wanted.get(..to.len()).unwrap_or_default());
            (rest, before, number) = (later, 0, number + 1);
        }
        Ok(())
    }

    /// Writes whole pages, or a part of the first one.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let (first, rest) = bytes.split_at(in_first_page(offset, bytes.len()));
        if !first.is_empty() {
            self.0.write_at(offset, first)?;
        }
        if rest.is_empty() {
            return Ok(());
        }
        let offset = offset + first.len() as u64;
        if in_page(offset) != 0 || !rest.len().is_multiple_of(PAGE) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a part of a page was to be written",
            ));
        }
        let number = offset / PAGE as u64;
        let mut slots = Vec::with_capacity(rest.len() / PAGE * SLOT);
        for (number, page) in (number..).zip(rest.chunks_exact(PAGE)) {
            slots.extend_from_slice(page);
            slots.extend_from_slice(&checksum(number, page));
        }
        self.0.write_at(place(number), &slots)
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.0.set_size(with_checksums(size))
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn make_writable(&self) -> io::Result<()> {
        self.0.make_writable()
    }

    fn is_in_place(&self) -> io::Result<()> {
        self.0.is_in_place()
    }

    fn release(&self) {
        self.0.release();
    }
}

/// A page is not as it was written.
#[derive(Debug, thiserror::Error)]
#[error("page {number} of the file is damaged")]
struct Damaged {
    number: u64,
}

/// How much room pages of this size take, with their checksums.
pub(crate) const fn with_checksums(size: u64) -> u64 {
    let pages = size.div_ceil(PAGE as u64);
    if pages > 1 { place(pages) } else { size }
}

/// How many of `len` bytes from `offset` are in the first page.
fn in_first_page(offset: u64, len: usize) -> usize {
    let left = (PAGE as u64).saturating_sub(offset);
    usize::try_from(left).map_or(len, |left| left.min(len))
}

/// Where `offset` is within its page.
fn in_page(offset: u64) -> usize {
    usize::try_from(offset % PAGE as u64).unwrap_or(0)
}

/// Where the page with this number is on the medium; it is not the first one.
const fn place(number: u64) -> u64 {
    PAGE as u64 + (number - 1) * SLOT as u64
}

fn checksum(number: u64, page: &[u8]) -> [u8; CHECKSUM] {
    let mut context = Context::new(&SHA256);
    context.update(DOMAIN);
    context.update(&number.to_be_bytes());
    context.update(page);
    let mut checksum = [0; CHECKSUM];
    let digest = context.finish();
    checksum.copy_from_slice(digest.as_ref().get(..CHECKSUM).unwrap_or(&[0; CHECKSUM]));
    checksum
}

/// The size of redb's pages.
pub(crate) const PAGE: usize = 4096;

/// Bytes of the checksum behind each page. It finds damage; whoever can write to the file is kept out by the sealing.
const CHECKSUM: usize = 16;

/// A page with its checksum.
const SLOT: usize = PAGE + CHECKSUM;

const DOMAIN: &[u8] = b"kes embedded page\0";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::medium::testing::Memory;

    /// Five pages, each filled with its number.
    fn five() -> (Arc<Memory>, Pages) {
        let memory = Arc::new(Memory::default());
        let pages = Pages::over(Arc::clone(&memory) as _);
        pages.set_size(5 * PAGE as u64).unwrap();
        assert_eq!(pages.size().unwrap(), 5 * PAGE as u64);
        let bytes: Vec<_> = (0..5).flat_map(|number| [number; PAGE]).collect();
        pages.write_at(0, &bytes).unwrap();
        (memory, pages)
    }

    #[test]
    fn pages_are_read_as_they_were_written_in_any_pieces() {
        let (memory, pages) = five();
        assert_eq!(memory.size().unwrap(), (PAGE + 4 * SLOT) as u64);
        let mut all = vec![9; 5 * PAGE];
        pages.read_at(0, &mut all).unwrap();
        for (start, len) in [
            (0, 320),
            (0, PAGE),
            (PAGE, PAGE),
            (PAGE - 1, 2),
            (2 * PAGE, 3 * PAGE),
            (100, 4 * PAGE + 7),
        ] {
            let mut piece = vec![9; len];
            pages.read_at(start as u64, &mut piece).unwrap();
            assert_eq!(piece, all[start..start + len], "{len} bytes at {start}");
        }
        assert!(
            all.chunks(PAGE)
                .zip(0..)
                .all(|(page, number)| page.iter().all(|byte| *byte == number))
        );
        let beyond = pages.read_at(4 * PAGE as u64, &mut [0; PAGE + 1]).unwrap_err();
        assert_eq!(beyond.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_page_that_was_altered_moved_or_never_written_is_damaged() {
        let (memory, pages) = five();
        let damaged = |number: u64| {
            let error = pages.read_at(number * PAGE as u64, &mut [0; PAGE]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            assert_eq!(error.to_string(), format!("page {number} of the file is damaged"));
        };
        memory.0.lock().unwrap()[PAGE + 17] ^= 1;
        damaged(1);
        // Also in a piece of it that is as it was.
        assert!(pages.read_at(2 * PAGE as u64 - 1, &mut [0]).is_err());
        memory.0.lock().unwrap()[PAGE + 2 * SLOT - 1] ^= 1;
        damaged(2);
        memory
            .0
            .lock()
            .unwrap()
            .copy_within(PAGE + 3 * SLOT..PAGE + 4 * SLOT, PAGE + 2 * SLOT);
        damaged(3);
        pages.read_at(4 * PAGE as u64, &mut [0; PAGE]).unwrap();
        pages.set_size(4 * PAGE as u64).unwrap();
        pages.set_size(5 * PAGE as u64).unwrap();
        damaged(4);
    }

    #[test]
    fn a_part_of_a_page_is_not_written() {
        let (_, pages) = five();
        for (offset, len) in [(PAGE, 1), (PAGE + 1, PAGE), (10, PAGE)] {
            let error = pages.write_at(offset as u64, &vec![1; len]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
    }

    #[test]
    fn a_page_that_was_cut_off_is_not_there() {
        let (memory, pages) = five();
        for cut in 1..=SLOT {
            memory.set_size((PAGE + 4 * SLOT - cut) as u64).unwrap();
            assert_eq!(pages.size().unwrap(), 4 * PAGE as u64, "{cut} bytes");
        }
        for size in [0, 1, 320, PAGE] {
            memory.set_size(size as u64).unwrap();
            assert_eq!(pages.size().unwrap(), size as u64);
        }
    }
}
