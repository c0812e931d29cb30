//! Checking a backup without its seal.

use std::fmt;

use super::decode::{Decoder, Event};
use super::error::BackupError;
use super::format::PIECE;
use crate::verify::Report;

/// Checks a backup as it arrives, as far as that goes without the seal: structure, order, counts and digest. It keeps no
/// more than one entry.
///
/// Whether the values open, and whether the store that the backup names has written it, takes the seal:
/// [`verify`](crate::verify()).
pub struct BackupCheck {
    decoder: Decoder,
    report: Option<Report>,
}

impl BackupCheck {
    /// Before the first byte.
    #[must_use]
    pub fn new() -> Self {
        Self {
            decoder: Decoder::new(),
            report: None,
        }
    }

    /// Takes the next piece, of any length.
    ///
    /// # Errors
    /// When this cannot be, or not go on to be, a backup. Every further call fails then.
    pub fn update(&mut self, piece: &[u8]) -> Result<(), BackupError> {
        for part in piece.chunks(PIECE) {
            self.decoder.feed(part);
            while let Some(event) = self.decoder.next()? {
                match event {
                    Event::Start { .. } | Event::Entry(_) => {}
                    Event::End { report, .. } => self.report = Some(report),
                }
            }
        }
        Ok(())
    }

    /// How many entries there were so far.
    #[must_use]
    pub fn entries(&self) -> u64 {
        match &self.report {
            Some(report) => report.keys + report.deleted,
            None => self.decoder.entries(),
        }
    }

    /// The whole backup has been seen.
    ///
    /// # Errors
    /// When something is missing, or was wrong before.
    pub fn finish(self) -> Result<Report, BackupError> {
        self.decoder.finish()?;
        self.report.ok_or(BackupError::Refused)
    }
}

impl Default for BackupCheck {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for BackupCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackupCheck")
            .field("entries", &self.entries())
            .field("report", &self.report)
            .finish_non_exhaustive()
    }
}
