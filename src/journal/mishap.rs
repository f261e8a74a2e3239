//! What a journal does when its file lets it down: an end that found no room, a name that was taken away. Not the
//! records.

use std::fs::File;
use std::io::{self, Seek};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use super::error::JournalError;
use super::file;
use super::session::End;
use super::writer::Journal;

impl Journal {
    /// Records the end that the last session had no room for, if there is one.
    pub(super) fn catch_up(path: &Path, file: &File) -> Result<(), JournalError> {
        let io = |source| JournalError::Io { action: "read", path: path.to_owned(), source };
        let Some(ended) = file::marked_ended(file).map_err(io)? else { return Ok(()) };
        let (mut journal, recovered) = Self::continued(path, file.try_clone().map_err(io)?, |_| {})?;
        if recovered.end.is_none() {
            journal.append_end(&End {
                finished_at: humantime::format_rfc3339_millis(ended).to_string(),
                exit_code: 1,
                reason: Some("the journal could not be written".to_owned()),
                hurried: true,
                broken: false,
                totals: serde_json::Value::Null,
            })?;
            journal.checkpoint()?;
        }
        journal.mark_ended(false);
        Ok(())
    }

    /// Whether this session's calls have ended and no record can tell: without one it would look like a crash, and its
    /// last rows as if they had caused it. A file system that cannot hold the mark leaves it at that.
    pub fn mark_ended(&self, unrecorded: bool) {
        let _ = file::mark_ended(&self.file, unrecorded);
    }

    /// Whether the file has lost its name: somebody removed it, or put another one in its place.
    pub fn is_removed(&self) -> bool {
        self.named && self.file.metadata().is_ok_and(|metadata| metadata.nlink() == 0)
    }

    /// Writes a removed journal anew under its name, unless another file has that.
    pub fn restore(&mut self) -> Result<(), JournalError> {
        self.commit()?;
        let mut fresh = file::temporary(&self.path)?;
        let mut held = &*self.file;
        let copied = held.rewind().and_then(|()| io::copy(&mut held, &mut fresh));
        copied.map_err(|source| JournalError::Write { path: self.path.clone(), source })?;
        let file = file::name(fresh, &self.path)?;
        *self = Self::new(&self.path, file, self.bytes, Arc::clone(&self.index), self.fields.clone())?;
        Ok(())
    }

    /// The open file, which holds the lock.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
