//! What a store stands on: bytes that can be read, written and synced.

use std::fmt;
use std::io;

/// Bytes that can be read, written and synced: a file, or a test's idea of one.
///
/// What was written before a [`sync`](Self::sync) that succeeded stays, whatever happens; what was written since may or may
/// not be there after a crash, in any order.
pub trait Medium: fmt::Debug + Send + Sync + 'static {
    /// How many bytes there are.
    fn size(&self) -> io::Result<u64>;

    /// Fills `into` with what is at `offset`, or fails with [`io::ErrorKind::UnexpectedEof`] where there is not as much.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()>;

    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Cuts the end off, or adds zeros.
    fn set_size(&self, size: u64) -> io::Result<()>;

    /// Makes durable what was written and how much there is.
    fn sync(&self) -> io::Result<()>;

    /// Tries again to become writable, where it is not.
    fn make_writable(&self) -> io::Result<()> {
        Ok(())
    }

    /// Whether it is still where the next start would look for it: otherwise what is written would be lost.
    fn is_in_place(&self) -> io::Result<()> {
        Ok(())
    }

    /// Lets others have it. Nothing is asked of it after this.
    fn release(&self) {}
}

#[cfg(test)]
pub(crate) mod testing {
    use std::sync::Mutex;

    use super::*;

    /// A medium in memory.
    #[derive(Debug, Default)]
    pub(crate) struct Memory(pub(crate) Mutex<Vec<u8>>);

    impl Medium for Memory {
        fn size(&self) -> io::Result<u64> {
            Ok(self.0.lock().unwrap().len() as u64)
        }

        fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
            let bytes = self.0.lock().unwrap();
            let start = usize::try_from(offset).unwrap();
            let found = bytes.get(start..start + into.len());
            into.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        }

        fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
            let start = usize::try_from(offset).unwrap();
            self.0.lock().unwrap()[start..start + bytes.len()].copy_from_slice(bytes);
            Ok(())
        }

        fn set_size(&self, size: u64) -> io::Result<()> {
            self.0.lock().unwrap().resize(usize::try_from(size).unwrap(), 0);
            Ok(())
        }

        fn sync(&self) -> io::Result<()> {
            Ok(())
        }
    }
}
