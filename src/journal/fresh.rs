//! A journal that is put together from others, before it has a name.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::batch::Batch;
use super::error::JournalError;
use super::file;
use super::format::Record;
use super::session::{Header, VERSION};
use crate::fs::Unnamed;
use crate::selection::Rows;

/// Bytes that are gathered before they are written.
const CHUNK: usize = 1 << 20;

/// A journal being written beside the place that it is to have. Dropping it removes it, and so does a kill.
#[derive(Debug)]
pub struct Fresh {
    pub(super) path: PathBuf,
    file: Unnamed,
    batch: Batch,
}

impl Fresh {
    /// An empty one, which is to have this path.
    ///
    /// # Errors
    ///
    /// Fails if no file can be made in the directory.
    pub fn new(path: &Path) -> Result<Self, JournalError> {
        let file = Unnamed::beside(path, 0o600).map_err(not_created(path))?;
        Ok(Self { path: path.to_owned(), file, batch: Batch::default() })
    }

    /// Appends a record.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be written.
    pub fn append(&mut self, record: &Record<'_>) -> Result<(), JournalError> {
        match record {
            Record::Header(header) => drop(self.batch.header(header)?),
            _ => self.batch.append(record)?,
        }
        if self.batch.bytes.len() > CHUNK { self.spill() } else { Ok(()) }
    }

    /// Appends a record that belongs to a selection of its own there, and that is to have room in this one here.
    ///
    /// # Errors
    ///
    /// As [`Self::append`].
    pub fn append_within(&mut self, record: &Record<'_>, selection: Rows) -> Result<(), JournalError> {
        match record {
            Record::Header(header) => self.append(&Record::Header(Cow::Owned(within(header, selection)))),
            _ => self.append(record),
        }
    }

    /// Appends the header of the session that goes on. Returns how many bytes the room for its end is from the end.
    pub(super) fn begin(&mut self, header: &Header) -> Result<usize, JournalError> {
        let room = self.batch.header(header)?;
        let behind = self.batch.bytes.len() - room;
        self.spill()?;
        Ok(behind)
    }

    /// Gives the journal its name, synced and locked. If this is killed at any point, the journal is there whole or not
    /// at all. With `time`, an earlier journal that no process holds is kept as `<path>.<time>`, which is returned.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be written or renamed, or if there is an earlier journal and no `time`, or a process holds it.
    pub fn name(mut self, time: Option<&str>) -> Result<(File, Option<PathBuf>), JournalError> {
        self.spill()?;
        match time.filter(|_| self.path.exists()) {
            None => {
                let named = self.file.named().map_err(not_created(&self.path))?;
                Ok((file::name(named, &self.path)?, None))
            }
            Some(time) => {
                let _held = file::open_locked(&self.path)?;
                let (file, aside) = self.replace(time)?;
                Ok((file, Some(aside)))
            }
        }
    }

    /// Puts the journal in the place of one that this process holds, which is kept as `<path>.<time>`.
    pub(super) fn replace(self, time: &str) -> Result<(File, PathBuf), JournalError> {
        file::replace(&self.path, self.file, time)
    }

    fn spill(&mut self) -> Result<(), JournalError> {
        let written = self.batch.write_to(&mut self.file.file());
        written.map_err(|source| JournalError::Write { path: self.path.clone(), source })?;
        self.batch.clear();
        Ok(())
    }
}

fn not_created(path: &Path) -> impl FnOnce(io::Error) -> JournalError {
    |source| JournalError::Io { action: "create", path: path.to_owned(), source }
}

/// The header of a session as it reads with another selection, in a journal of today.
pub(super) fn within(header: &Header, selection: Rows) -> Header {
    Header { version: VERSION, selection, ..header.clone() }
}
