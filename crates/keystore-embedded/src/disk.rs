//! Between redb and the medium: knows which header page is durable, marks it against damage, and can be cut off.
//!
//! redb keeps in the first 320 bytes of its file which of two commits is the current one. A single altered bit there would
//! bring back the commit before, so a checksum of these bytes, the mark, is written behind them, in the same write and the
//! same sector. And after a failed write it is this page, as of the last sync that succeeded, that says what is durable.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use aws_lc_rs::digest::{Context, SHA256};
use redb::StorageBackend;

use crate::medium::Medium;
use crate::pages::{PAGE, Pages};

/// A medium with what is known about its first page.
pub(crate) struct Disk {
    medium: Arc<dyn Medium>,
    head: Mutex<Head>,
}

/// The first page. The lock is held for short copies only.
struct Head {
    /// As it was written last, whether or not that succeeded.
    written: Vec<u8>,
    /// As of the last sync that succeeded; at first, as it was found.
    durable: Vec<u8>,
}

impl Disk {
    pub(crate) fn new(medium: Arc<dyn Medium>) -> io::Result<Self> {
        let medium: Arc<dyn Medium> = Arc::new(Pages::over(medium));
        let size = medium.size()?.min(PAGE as u64);
        let mut page = vec![0; usize::try_from(size).unwrap_or(PAGE)];
        medium.read_at(0, &mut page)?;
        Ok(Self {
            medium,
            head: Mutex::new(Head {
                written: page.clone(),
                durable: page,
            }),
        })
    }

    pub(crate) fn medium(&self) -> &Arc<dyn Medium> {
        &self.medium
    }

    /// The first page as of the last sync that succeeded.
    pub(crate) fn durable_head(&self) -> Vec<u8> {
        self.head().durable.clone()
    }

    /// Puts the durable first page back after a failed write.
    pub(crate) fn restore_head(&self) -> io::Result<()> {
        self.medium.make_writable()?;
        let durable = {
            let mut head = self.head();
            if head.written == head.durable {
                return Ok(());
            }
            // Until the sync below both count as different, so that a failure here leads to another attempt.
            head.written.clear();
            head.durable.clone()
        };
        self.medium.write_at(0, &durable)?;
        self.medium.sync()?;
        self.head().written = durable;
        Ok(())
    }

    /// Makes `head` the durable first page.
    pub(crate) fn adopt_head(&self, head: Vec<u8>) -> io::Result<()> {
        let before = {
            let mut state = self.head();
            state.written.clear();
            std::mem::replace(&mut state.durable, head)
        };
        let restored = self.restore_head();
        if restored.is_err() {
            self.head().durable = before;
        }
        restored
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if offset >= PAGE as u64 {
            return self.medium.write_at(offset, bytes);
        }
        let marked;
        let bytes = if offset == 0 && bytes.len() == HEADER {
            marked = [bytes, &mark(bytes)].concat();
            &marked
        } else {
            bytes
        };
        {
            let mut head = self.head();
            let start = usize::try_from(offset).unwrap_or(PAGE);
            let end = (start + bytes.len()).min(PAGE);
            if head.written.len() < end {
                head.written.resize(end, 0);
            }
            if let Some(part) = head.written.get_mut(start..end) {
                part.copy_from_slice(bytes.get(..end - start).unwrap_or_default());
            }
        }
        self.medium.write_at(offset, bytes)
    }

    /// Makes durable what was written.
    pub(crate) fn sync(&self) -> io::Result<()> {
        let written = self.head().written.clone();
        self.medium.sync()?;
        self.head().durable = written;
        Ok(())
    }

    fn head(&self) -> MutexGuard<'_, Head> {
        self.head.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk")
            .field("medium", &self.medium)
            .finish_non_exhaustive()
    }
}

/// Cuts a database that is given up off from the medium. A database that knows nothing of the commits of its successor must
/// not read pages that the successor may have used again, and must not write any more.
#[derive(Debug, Default)]
pub(crate) struct Gate(RwLock<bool>);

impl Gate {
    /// Waits for what is under way, and lets nothing through any more.
    pub(crate) fn close(&self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = true;
    }

    fn enter(&self) -> io::Result<RwLockReadGuard<'_, bool>> {
        let closed = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if *closed {
            return Err(io::Error::other(CutOff));
        }
        Ok(closed)
    }
}

/// The database was cut off from the file.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the store was reopened")]
pub(crate) struct CutOff;

/// A failed read, on its way past redb.
#[derive(Debug)]
pub(crate) struct ReadFailed(pub(crate) io::Error);

thread_local! {
    static READS_UNWIND: Cell<bool> = const { Cell::new(false) };
}

/// Runs `read` so that a read which the medium refuses unwinds as [`ReadFailed`] up to whoever called this. redb would
/// refuse every operation after a failed read, of which one bad sector under one key makes one too many; it holds no lock
/// while it reads.
pub(crate) fn with_unwinding_reads<T>(read: impl FnOnce() -> T) -> T {
    struct Reset(bool);
    impl Drop for Reset {
        fn drop(&mut self) {
            READS_UNWIND.set(self.0);
        }
    }
    let _reset = Reset(READS_UNWIND.replace(true));
    read()
}

fn failed_read(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if READS_UNWIND.get() => resume_unwind(Box::new(ReadFailed(error))),
        result => result,
    }
}

/// The medium itself, for redb.
#[derive(Debug)]
pub(crate) struct Direct {
    disk: Arc<Disk>,
    gate: Arc<Gate>,
}

impl Direct {
    pub(crate) fn new(disk: Arc<Disk>, gate: Arc<Gate>) -> Self {
        Self { disk, gate }
    }
}

impl StorageBackend for Direct {
    fn len(&self) -> io::Result<u64> {
        let _entered = self.gate.enter()?;
        self.disk.medium.size()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let read = (|| {
            let _entered = self.gate.enter()?;
            self.disk.medium.read_at(offset, out)
        })();
        failed_read(read)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let _entered = self.gate.enter()?;
        let medium = &self.disk.medium;
        match medium.set_size(len) {
            // redb cuts the end off when a commit is done, which would then be an error and stay. It takes a longer file.
            Err(error) if medium.size()? > len => {
                tracing::debug!(%error, "the file of the key store was not cut shorter");
                Ok(())
            }
            result => result,
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        let _entered = self.gate.enter()?;
        self.disk.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let _entered = self.gate.enter()?;
        self.disk.write(offset, data)
    }
}

/// The medium as it durably is, for redb to read: begins with a given first page, and keeps what is written in memory, where
/// it ends with the database.
#[derive(Debug)]
pub(crate) struct Overlay {
    disk: Arc<Disk>,
    gate: Arc<Gate>,
    state: RwLock<Written>,
}

struct Written {
    pages: BTreeMap<u64, Box<[u8]>>,
    size: u64,
    /// Where the medium ends as far as this is concerned; zeros come after it.
    base: u64,
}

impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Written")
            .field("pages", &self.pages.len())
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

impl Overlay {
    pub(crate) fn new(disk: Arc<Disk>, gate: Arc<Gate>, head: &[u8]) -> io::Result<Self> {
        let size = disk.medium.size()?;
        let mut page = vec![0; PAGE];
        if let Some(start) = page.get_mut(..head.len().min(PAGE)) {
            start.copy_from_slice(head.get(..start.len()).unwrap_or_default());
        }
        let pages = BTreeMap::from([(0, page.into_boxed_slice())]);
        Ok(Self {
            disk,
            gate,
            state: RwLock::new(Written {
                pages,
                size,
                base: size,
            }),
        })
    }

    fn read_through(&self, state: &Written, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let length = out.len() as u64;
        if offset.checked_add(length).is_none_or(|end| end > state.size) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let page = PAGE as u64;
        // One by one: on the medium, a page that was written over here may be one that a crash has left half written.
        for number in offset / page..(offset + length).div_ceil(page) {
            let start = number * page;
            let (from, to) = (offset.max(start), (offset + length).min(start + page));
            let Some(target) = out.get_mut(place(from - offset)..place(to - offset)) else {
                continue;
            };
            if let Some(bytes) = state.pages.get(&number) {
                if let Some(source) = bytes.get(place(from - start)..place(to - start)) {
                    target.copy_from_slice(source);
                }
                continue;
            }
            let below = place(state.base.saturating_sub(from)).min(target.len());
            let (from_medium, beyond) = target.split_at_mut(below);
            if !from_medium.is_empty() {
                self.disk.medium.read_at(from, from_medium)?;
            }
            beyond.fill(0);
        }
        Ok(())
    }
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state.read().unwrap_or_else(PoisonError::into_inner).size)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let read = (|| {
            let _entered = self.gate.enter()?;
            let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
            self.read_through(&state, offset, out)
        })();
        failed_read(read)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let _entered = self.gate.enter()?;
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.size = len;
        state.base = state.base.min(len);
        let pages = len.div_ceil(PAGE as u64);
        state.pages.retain(|&number, _| number < pages);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.gate.enter().map(drop)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let _entered = self.gate.enter()?;
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let page = PAGE as u64;
        let (first, end) = (offset / page, (offset + data.len() as u64).div_ceil(page));
        for number in first..end {
            let start = number * page;
            let (from, to) = (offset.max(start), (offset + data.len() as u64).min(start + page));
            if !state.pages.contains_key(&number) {
                if state.pages.len() >= MAX_OVERLAY_PAGES {
                    return Err(io::Error::other("the store cannot be written to now"));
                }
                let whole = to - from == page;
                let there = if whole {
                    0
                } else {
                    state.size.saturating_sub(start).min(page)
                };
                let mut bytes = vec![0; PAGE];
                if let Some(old) = bytes.get_mut(..place(there)) {
                    self.read_through(&state, start, old)?;
                }
                state.pages.insert(number, bytes.into_boxed_slice());
            }
            let source = data.get(place(from - offset)..place(to - offset));
            let target = state
                .pages
                .get_mut(&number)
                .and_then(|bytes| bytes.get_mut(place(from - start)..place(to - start)));
            if let (Some(source), Some(target)) = (source, target) {
                target.copy_from_slice(source);
            }
        }
        Ok(())
    }
}

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

fn mark(header: &[u8]) -> [u8; MARK] {
    let mut context = Context::new(&SHA256);
    context.update(b"kes embedded head\0");
    context.update(header);
    let mut mark = [0; MARK];
    let digest = context.finish();
    mark.copy_from_slice(digest.as_ref().get(..MARK).unwrap_or(&[0; MARK]));
    mark
}

/// A distance within one read or write, which memory holds.
fn place(distance: u64) -> usize {
    usize::try_from(distance).unwrap_or(usize::MAX)
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

/// Opening a database writes its header; 16 MiB is far more than a read view needs.
const MAX_OVERLAY_PAGES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::medium::testing::Memory;

    /// Three pages filled with 1, 2 and 3.
    fn three_pages() -> (Arc<Memory>, Arc<Disk>) {
        let memory = Arc::new(Memory::default());
        let disk = Disk::new(Arc::clone(&memory) as _).unwrap();
        disk.medium.set_size(3 * PAGE as u64).unwrap();
        for number in 0..3 {
            disk.write(number * PAGE as u64, &[u8::try_from(number).unwrap() + 1; PAGE])
                .unwrap();
        }
        disk.sync().unwrap();
        (memory, Arc::new(disk))
    }

    fn read(backend: &impl StorageBackend, offset: usize, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        backend.read(offset as u64, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn the_durable_head_is_that_of_the_last_sync() {
        let (memory, disk) = three_pages();
        disk.write(0, &[9; 16]).unwrap();
        assert_eq!(disk.durable_head(), [1; PAGE]);
        assert_eq!(memory.0.lock().unwrap()[..16], [9; 16]);
        disk.restore_head().unwrap();
        assert_eq!(memory.0.lock().unwrap()[..PAGE], [1; PAGE]);
        disk.write(8, &[9; 8]).unwrap();
        disk.sync().unwrap();
        assert_eq!(
            disk.durable_head()[..17],
            [[1; 8].as_slice(), &[9; 8], &[1]].concat()
        );
    }

    #[test]
    fn an_overlay_keeps_what_is_written_over_the_medium_to_itself() {
        let (memory, disk) = three_pages();
        let before = memory.0.lock().unwrap().clone();
        let overlay = Overlay::new(Arc::clone(&disk), Arc::default(), &[7; PAGE]).unwrap();
        assert_eq!(read(&overlay, 0, PAGE), [7; PAGE], "another first page");
        overlay.write(PAGE as u64 - 2, &[8; 4]).unwrap();
        overlay.set_len(4 * PAGE as u64).unwrap();
        overlay.write(3 * PAGE as u64, &[4; PAGE]).unwrap();
        overlay.sync_data().unwrap();
        assert_eq!(read(&overlay, PAGE - 4, 8), [7, 7, 8, 8, 8, 8, 2, 2]);
        assert_eq!(read(&overlay, 3 * PAGE - 1, 2), [3, 4]);
        overlay.set_len(2 * PAGE as u64).unwrap();
        overlay.set_len(4 * PAGE as u64).unwrap();
        assert_eq!(
            read(&overlay, 2 * PAGE, 2 * PAGE),
            [0; 2 * PAGE],
            "what was cut off is gone"
        );
        assert!(overlay.read(4 * PAGE as u64 - 1, &mut [0; 2]).is_err());
        assert_eq!(*memory.0.lock().unwrap(), before);
    }

    #[test]
    fn an_overlay_is_bounded() {
        let (_, disk) = three_pages();
        let overlay = Overlay::new(disk, Arc::default(), &[7; PAGE]).unwrap();
        overlay
            .set_len(2 * MAX_OVERLAY_PAGES as u64 * PAGE as u64)
            .unwrap();
        let written = (1..2 * MAX_OVERLAY_PAGES as u64)
            .take_while(|number| overlay.write(number * PAGE as u64, &[0; PAGE]).is_ok())
            .count();
        assert_eq!(written, MAX_OVERLAY_PAGES - 1);
    }

    #[test]
    fn nothing_goes_through_a_closed_gate() {
        let (memory, disk) = three_pages();
        let before = memory.0.lock().unwrap().clone();
        let gate = Arc::new(Gate::default());
        let direct = Direct::new(Arc::clone(&disk), Arc::clone(&gate));
        let overlay = Overlay::new(disk, Arc::clone(&gate), &[7; PAGE]).unwrap();
        gate.close();
        for backend in [&direct as &dyn StorageBackend, &overlay] {
            let mut byte = [0];
            let refused = [
                backend.read(0, &mut byte),
                backend.write(0, &[9]),
                backend.set_len(1),
                backend.sync_data(),
            ];
            for refused in refused {
                let error = refused.unwrap_err();
                assert!(error.get_ref().unwrap().is::<CutOff>(), "{error:?}");
            }
        }
        assert_eq!(*memory.0.lock().unwrap(), before);
    }

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
