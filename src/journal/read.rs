//! Deciding records by row, for whoever walks the rows in order. Not the order itself.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::error::JournalError;
use super::index::Index;
use super::line;
use super::format::{self, Record};
use super::line_cache::LineCache;
use crate::outcome::Outcome;

const WINDOW: usize = 64 << 10;
const WINDOWS: usize = 32;

/// Reads outcomes at the offsets an [`Index`] gives.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    lines: LineCache,
}

impl Reader {
    /// Opens the journal, taking no lock.
    ///
    /// # Errors
    ///
    /// Fails where the file cannot be opened.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        match File::open(path) {
            Ok(file) => Ok(Self { path: path.to_owned(), lines: LineCache::new(file, WINDOW, WINDOWS) }),
            Err(source) => Err(JournalError::Io { action: "open", path: path.to_owned(), source }),
        }
    }

    /// The record that decides the row, if there is one.
    ///
    /// # Errors
    ///
    /// Fails where the file cannot be read, or has another record in that place by now.
    pub fn outcome(&mut self, index: &Index, row: u64) -> Result<Option<Outcome>, JournalError> {
        let Some(offset) = index.offset(row) else { return Ok(None) };
        let line = self.lines.line(offset);
        let line =
            line.map_err(|source| JournalError::Io { action: "read", path: self.path.clone(), source })?;
        match line.and_then(line::decode).map(format::parse) {
            Some(Ok(Record::Outcome(outcome))) if outcome.row == row => Ok(Some(outcome.into_owned())),
            _ => Err(JournalError::Changed { path: self.path.clone(), row, offset }),
        }
    }
}
