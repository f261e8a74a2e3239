//! A journal whose file is cut, moved or removed by somebody else while the run records into it: how that is noticed,
//! and how the journal is made whole again.

use std::fs;
use std::io::{self, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use super::batch::Batch;
use super::error::JournalError;
use super::file;
use super::format::Record;
use super::write::Journal;

/// What has happened to a journal under the run that records into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Its file has no name any more.
    Removed,
    /// Its file has another name, or its name belongs to another file.
    Moved,
    /// Its file is shorter than what was written.
    Cut,
}

impl std::fmt::Display for Loss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Removed => "the journal was removed while the run recorded into it",
            Self::Moved => "the journal was moved away or replaced while the run recorded into it",
            Self::Cut => "the journal was cut short while the run recorded into it",
        })
    }
}

impl Journal {
    /// What somebody else has done to the file since the run began, if anything.
    pub fn loss(&self) -> Option<Loss> {
        if self.cut {
            return Some(Loss::Cut);
        }
        // A file system that does not answer says nothing.
        let held = self.file.metadata().ok()?;
        if held.len() < self.written() {
            return Some(Loss::Cut);
        }
        if !self.named {
            return None;
        }
        if held.nlink() == 0 {
            return Some(Loss::Removed);
        }
        match fs::metadata(&self.path) {
            Ok(named) => ((named.dev(), named.ino()) != (held.dev(), held.ino())).then_some(Loss::Moved),
            Err(error) => (error.kind() == io::ErrorKind::NotFound).then_some(Loss::Moved),
        }
    }

    /// Writes a journal that has lost its name anew under it. If another file has that name by now, the journal is
    /// written as `<path>.<time>` instead, which is returned.
    ///
    /// # Errors
    ///
    /// Fails if the journal cannot be written.
    pub fn restore(&mut self, time: &str) -> Result<Option<PathBuf>, JournalError> {
        self.commit()?;
        let mut fresh = file::temporary(&self.path)?;
        let mut held = &*self.file;
        let copied = held.rewind().and_then(|()| io::copy(&mut held, &mut fresh));
        copied.map_err(|source| JournalError::Write { path: self.path.clone(), source })?;
        let aside = self.path.exists().then(|| file::aside(&self.path, time));
        let file = file::name(fresh, aside.as_deref().unwrap_or(&self.path))?;
        let (index, fields) = (Arc::clone(&self.index), self.fields.clone());
        let room = self.room;
        *self = Self::new(&self.path, file, self.bytes, index, fields, self.header.clone())?;
        self.room = room;
        Ok(aside)
    }

    /// Reads again what is left of a journal that was cut. From then on the index holds only that. `visit` is given
    /// every record.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read, or if no header is left.
    pub fn reread(&mut self, visit: impl FnMut(&Record<'_>)) -> Result<(), JournalError> {
        self.mend()?;
        self.commit()?;
        let recovered = self.read_back(visit)?;
        (self.index, self.fields) = (recovered.index, recovered.fields);
        self.cut = false;
        Ok(())
    }

    /// Checks, before a batch is written, whether somebody else has cut the file or written into it. If so, the batch
    /// gets a line feed in front, and after a cut the session's header too, so that it can be read whatever is left
    /// before it.
    pub(super) fn mend(&mut self) -> Result<(), JournalError> {
        let length = self.file.metadata().map(|metadata| metadata.len());
        let length = length.map_err(|source| JournalError::Io {
            action: "look at",
            path: self.path.clone(),
            source,
        })?;
        let before = self.written();
        if length == before {
            return Ok(());
        }
        let mut first = Batch::default();
        first.bytes.push(b'\n');
        if length < before {
            self.cut = true;
            self.room = Some(length + first.header(&self.header)? as u64);
        } else if self.room >= Some(self.bytes) {
            // The room is in the batch, which moves back by what is put in front of it.
            self.room = self.room.map(|room| room - self.bytes + length + first.bytes.len() as u64);
        }
        self.bytes = length;
        self.batch.come_after(first);
        Ok(())
    }

    /// How long the file is if nobody else has changed it.
    fn written(&self) -> u64 {
        self.bytes + self.batch.written as u64
    }
}
