//! What a journal does when its file lets it down: an end that found no room, a name that was taken away. Not the
//! records.

use std::borrow::Cow;
use std::fs;
use std::io::{self, Seek};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use super::batch::Batch;
use super::error::JournalError;
use super::file;
use super::line;
use super::format::Record;
use super::session::{End, timestamp};
use super::write::Journal;

/// What has happened to a journal under the run that records into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// It has no name any more.
    Removed,
    /// It has another name, or another file has its name.
    Moved,
    /// It is shorter than what was written.
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
    /// Whether this session's calls have ended and no record can tell: without one it would look like a crash, and its
    /// last rows as if they had caused it. It is told in the room kept behind the session's header, for on a full disk
    /// there is no other. Where that cannot be written either, it is left at that.
    pub fn mark_ended(&self, unrecorded: bool) {
        let end = End {
            finished_at: timestamp(SystemTime::now()),
            exit_code: 1,
            reason: Some("the journal could not be written".to_owned()),
            hurried: true,
            broken: false,
            totals: serde_json::Value::Null,
        };
        let record = Record::End(Cow::Borrowed(&end));
        let line = if unrecorded { line::fill(&record).ok().flatten() } else { Some(line::BLANK.to_vec()) };
        let (Some(line), Some(room)) = (line, self.room) else { return };
        // Nor is there any where somebody has cut the file.
        if !self.file.metadata().is_ok_and(|held| held.len() >= room + line.len() as u64) {
            return;
        }
        // A file that is appended to cannot be written elsewhere.
        let Ok(flags) = fcntl_getfl(&*self.file) else { return };
        if fcntl_setfl(&*self.file, flags - OFlags::APPEND).is_ok() {
            let _ = self.file.write_all_at(&line, room);
            let _ = fcntl_setfl(&*self.file, flags);
        }
    }

    /// What somebody has done to the file under the run that records into it, if anything.
    pub fn loss(&self) -> Option<Loss> {
        if self.cut {
            return Some(Loss::Cut);
        }
        // A file system that does not answer tells nothing.
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

    /// Writes a journal that has lost its name anew under it, or, where another file has that name by now, as
    /// `<path>.<time>`, which is returned then.
    ///
    /// # Errors
    ///
    /// Fails where the journal cannot be written under its name.
    pub fn restore(&mut self, time: &str) -> Result<Option<PathBuf>, JournalError> {
        self.commit()?;
        let mut fresh = file::temporary(&self.path)?;
        let mut held = &*self.file;
        let copied = held.rewind().and_then(|()| io::copy(&mut held, &mut fresh));
        copied.map_err(|source| JournalError::Write { path: self.path.clone(), source })?;
        let aside = self.path.exists().then(|| {
            let mut name = self.path.clone().into_os_string();
            name.push(".");
            name.push(time);
            PathBuf::from(name)
        });
        let file = file::name(fresh, aside.as_deref().unwrap_or(&self.path))?;
        let (index, fields) = (Arc::clone(&self.index), self.fields.clone());
        let room = self.room;
        *self = Self::new(&self.path, file, self.bytes, index, fields, self.header.clone())?;
        self.room = room;
        Ok(aside)
    }

    /// Reads anew what is left of a journal that was cut; the index tells of that alone from now on. `visit` is given
    /// every record.
    ///
    /// # Errors
    ///
    /// Fails where it cannot be read, or no header is left.
    pub fn reread(&mut self, visit: impl FnMut(&Record<'_>)) -> Result<(), JournalError> {
        self.mend()?;
        self.commit()?;
        let recovered = self.read_back(visit)?;
        (self.index, self.fields) = (recovered.index, recovered.fields);
        self.cut = false;
        Ok(())
    }

    /// Looks whether somebody else has cut the file or written into it, before a batch is. What is written from now on can
    /// be read whatever is left before it: it begins with a line feed, and with the session's header where that may be
    /// gone.
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
            // It is in the batch, behind what is put before that.
            self.room = self.room.map(|room| room - self.bytes + length + first.bytes.len() as u64);
        }
        self.bytes = length;
        self.batch.come_after(first);
        Ok(())
    }

    /// The open file, which holds the lock.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
