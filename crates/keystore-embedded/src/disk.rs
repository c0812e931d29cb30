//! Between redb and the medium: knows which header page is durable, marks it against damage, and can be cut off.
//!
//! redb keeps in the first 320 bytes of its file which of two commits is the current one. A single altered bit there would
//! bring back the commit before, so a checksum of these bytes, the mark, is written behind them, in the same write and the
//! same sector. And after a failed write it is this page, as of the last sync that succeeded, that says what is durable.

mod gate;
mod head;
mod overlay;

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

use self::gate::failed_read;
pub(crate) use self::gate::{CutOff, Gate, ReadFailed, with_unwinding_reads};
use self::head::mark;
pub(crate) use self::head::{HEADER, Header, MAGIC, examine, with_other_commit};
pub(crate) use self::overlay::Overlay;
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

#[cfg(test)]
mod tests {
    use super::overlay::MAX_OVERLAY_PAGES;
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
}
