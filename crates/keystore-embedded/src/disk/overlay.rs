//! The medium as it durably is, with what is written kept in memory.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};

use redb::StorageBackend;

use super::Disk;
use super::gate::{Gate, failed_read};
use crate::pages::PAGE;

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

/// A distance within one read or write, which memory holds.
fn place(distance: u64) -> usize {
    usize::try_from(distance).unwrap_or(usize::MAX)
}

/// Opening a database writes its header; 16 MiB is far more than a read view needs.
pub(super) const MAX_OVERLAY_PAGES: usize = 4096;
