//! The journal's one writer: appends records to a batch, commits it in one write, and checkpoints at the end.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use super::batch::Batch;
use super::error::JournalError;
use super::fields::Fields;
use super::file;
use super::format::Record;
use super::index::Index;
use super::line;
use super::recover::Recovered;
use super::session::{End, Header, timestamp};
use super::sync::Syncer;
use crate::fs::Stoppable;
use crate::outcome::{FailedAttempt, Outcome};
use crate::row::RowHash;

/// A journal open for writing, and the lock on it.
#[derive(Debug)]
pub struct Journal {
    pub(super) path: PathBuf,
    /// Whether it has a name that it could lose.
    pub(super) named: bool,
    pub(super) file: Arc<File>,
    /// Length of the file up to the current batch.
    pub(super) bytes: u64,
    pub(super) batch: Batch,
    pub(super) index: Arc<Index>,
    pub(super) fields: Fields,
    /// The last session's header, which is written again if somebody cuts the file.
    pub(super) header: Header,
    /// Whether somebody has cut the file.
    pub(super) cut: bool,
    /// Offset of the room reserved for the session's end, once the session has a header.
    pub(super) room: Option<u64>,
    syncer: Syncer,
}

/// Figures for the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalStats {
    /// Length of the file.
    pub bytes: u64,
    /// Completed syncs.
    pub syncs: u64,
    /// The longest time from a `write()` to the end of the sync that covers it.
    pub longest_unsynced: Duration,
}

impl Journal {
    /// Creates the journal with its first header. The file appears whole or not at all.
    ///
    /// # Errors
    ///
    /// Fails if the file exists, naming the process that holds it if one does, or if it cannot be written.
    pub fn create(path: &Path, header: &Header) -> Result<Self, JournalError> {
        let mut batch = Batch::default();
        let room = batch.header(header)?;
        let file = file::create(path, &batch.bytes)?;
        let mut journal = Self::begun(path, file, &batch, header)?;
        journal.room = Some(room as u64);
        Ok(journal)
    }

    /// Creates a journal without a name in a directory, for a run that only measures. The file goes with its process,
    /// however that ends.
    ///
    /// # Errors
    ///
    /// Fails if no file can be made in that directory.
    pub fn unnamed(directory: &Path, header: &Header) -> Result<Self, JournalError> {
        let mut batch = Batch::default();
        batch.header(header)?;
        let created = tempfile::tempfile_in(directory).and_then(|mut file| {
            file.write_all(&batch.bytes)?;
            Ok(file)
        });
        let io = |source| JournalError::Io { action: "write into", path: directory.to_owned(), source };
        let mut journal = Self::begun(directory, created.map_err(io)?, &batch, header)?;
        journal.named = false;
        Ok(journal)
    }

    fn begun(path: &Path, file: File, batch: &Batch, header: &Header) -> Result<Self, JournalError> {
        let index = Arc::new(Index::new(header.selection));
        Self::new(path, file, batch.bytes.len() as u64, index, Fields::default(), header.clone())
    }

    /// Takes the lock, reads the journal, cuts its torn tail and stands ready to append. `visit` is given every record.
    /// If it is killed at any point, it can be run again.
    ///
    /// # Errors
    ///
    /// Fails if another process holds the journal, if it cannot be read, or if its version is unknown.
    pub fn recover(path: &Path, visit: impl FnMut(&Record<'_>)) -> Result<(Self, Recovered), JournalError> {
        Self::recover_unless(&|| false, path, visit)
    }

    /// Recovers a journal as [`Self::recover`] does, unless the reading is stopped.
    ///
    /// # Errors
    ///
    /// As [`Self::recover`], or if `stopped` says so before all is read.
    pub fn recover_unless(
        stopped: &dyn Fn() -> bool,
        path: &Path,
        visit: impl FnMut(&Record<'_>),
    ) -> Result<(Self, Recovered), JournalError> {
        Self::continued(path, file::open_locked(path)?, stopped, visit)
    }

    /// Reads a journal that is locked already, from the file's current position.
    pub(super) fn continued(
        path: &Path,
        file: File,
        stopped: &dyn Fn() -> bool,
        visit: impl FnMut(&Record<'_>),
    ) -> Result<(Self, Recovered), JournalError> {
        let recovered = Recovered::from_reader(Stoppable { reader: &file, stopped }, path, visit)?;
        if recovered.torn_bytes > 0 {
            file.set_len(recovered.whole_bytes).map_err(|source| JournalError::Io {
                action: "cut the torn tail of",
                path: path.to_owned(),
                source,
            })?;
        }
        let index = Arc::clone(&recovered.index);
        let header = recovered.sessions.last().cloned();
        let header = header.ok_or_else(|| JournalError::NoHeader { path: path.to_owned() })?;
        let journal = Self::new(path, file, recovered.whole_bytes, index, recovered.fields.clone(), header)?;
        // What a killed process wrote may still be unsynced.
        journal.syncer.written();
        Ok((journal, recovered))
    }

    pub(super) fn new(
        path: &Path,
        file: File,
        bytes: u64,
        index: Arc<Index>,
        fields: Fields,
        header: Header,
    ) -> Result<Self, JournalError> {
        let file = Arc::new(file);
        let shared = Arc::clone(&file);
        let syncer = Syncer::spawn(move || shared.sync_data()).map_err(|source| JournalError::Io {
            action: "start the thread that syncs",
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            path: path.to_owned(),
            named: true,
            file,
            bytes,
            batch: Batch::default(),
            index,
            fields,
            header,
            cut: false,
            room: None,
            syncer,
        })
    }

    /// Appends a further session's header to the batch.
    ///
    /// # Errors
    ///
    /// Fails if the record has no form in JSON, or if memory cannot hold an index of the session's rows.
    pub fn append_header(&mut self, header: &Header) -> Result<(), JournalError> {
        if !self.index.covers(&header.selection) {
            let covering = self.index.covering(&header.selection);
            self.index = Arc::new(covering.ok_or_else(|| JournalError::Write {
                path: self.path.clone(),
                source: io::ErrorKind::OutOfMemory.into(),
            })?);
        }
        self.header = header.clone();
        self.room = Some(self.bytes + self.batch.header(header)? as u64);
        Ok(())
    }

    /// Appends to the batch that these rows are about to be called.
    ///
    /// # Errors
    ///
    /// Fails if the record has no form in JSON.
    pub fn append_started(&mut self, rows: &[(u64, RowHash)]) -> Result<(), JournalError> {
        self.batch.started(rows)
    }

    /// Appends a failed attempt to the batch.
    ///
    /// # Errors
    ///
    /// As [`Journal::append_started`].
    pub fn append_attempt(&mut self, attempt: &FailedAttempt) -> Result<(), JournalError> {
        self.batch.append(&Record::Attempt(Cow::Borrowed(attempt)))
    }

    /// Appends an outcome to the batch.
    ///
    /// # Errors
    ///
    /// As [`Journal::append_started`].
    pub fn append_outcome(&mut self, outcome: &Outcome) -> Result<(), JournalError> {
        self.batch.outcome(outcome)?;
        if let Ok(answer) = &outcome.result {
            self.fields.see(outcome.row, answer.fields.iter().map(|(name, _)| &**name));
        }
        Ok(())
    }

    /// Appends to the batch that the session ended in order.
    ///
    /// # Errors
    ///
    /// As [`Journal::append_started`].
    pub fn append_end(&mut self, end: &End) -> Result<(), JournalError> {
        self.batch.append(&Record::End(Cow::Borrowed(end)))
    }

    /// Writes the batch in one `write()`. Once it returns, the death of the process loses none of it.
    ///
    /// # Errors
    ///
    /// After [`JournalError::Write`] the next call continues at the very byte where this one stopped; the rows of the
    /// batch count as recorded only when all of it is written. After [`JournalError::Sync`] every call fails.
    pub fn commit(&mut self) -> Result<(), JournalError> {
        self.syncer.check().map_err(|source| self.sync_error(source))?;
        if self.batch.bytes.is_empty() {
            return Ok(());
        }
        self.mend()?;
        let before = self.batch.written;
        let result = self.batch.write_to(&mut &*self.file);
        if self.batch.written > before {
            self.syncer.written();
        }
        result.map_err(|source| JournalError::Write { path: self.path.clone(), source })?;
        for decided in &self.batch.decided {
            self.index.decide(decided.row, self.bytes + decided.at as u64, decided.status);
        }
        self.bytes += self.batch.bytes.len() as u64;
        self.batch.clear();
        Ok(())
    }

    /// Commits what is left and waits until all of it is on the disk.
    ///
    /// # Errors
    ///
    /// As [`Journal::commit`].
    pub fn checkpoint(&mut self) -> Result<(), JournalError> {
        self.commit()?;
        self.syncer.wait().map_err(|source| self.sync_error(source))
    }

    fn sync_error(&self, source: Arc<io::Error>) -> JournalError {
        JournalError::Sync { path: self.path.clone(), source }
    }

    /// Marks the session as ended although no record can say so, or takes the mark back. Without it the session would
    /// look like a crash, and its last rows as if they had caused it. The mark goes into the room reserved behind the
    /// session's header, since a full disk has no other. It is left out if it cannot be written there either.
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
        // Somebody may have cut the file before the room.
        if !self.file.metadata().is_ok_and(|held| held.len() >= room + line.len() as u64) {
            return;
        }
        // A file open for appending cannot be written anywhere else.
        let Ok(flags) = fcntl_getfl(&*self.file) else { return };
        if fcntl_setfl(&*self.file, flags - OFlags::APPEND).is_ok() {
            let _ = self.file.write_all_at(&line, room);
            let _ = fcntl_setfl(&*self.file, flags);
        }
    }

    /// Reads what was committed. `visit` is given every record.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read.
    pub fn read_back(&self, visit: impl FnMut(&Record<'_>)) -> Result<Recovered, JournalError> {
        let mut file = &*self.file;
        file.rewind().map_err(|source| JournalError::Io {
            action: "read",
            path: self.path.clone(),
            source,
        })?;
        Recovered::from_reader(file, &self.path, visit)
    }

    /// The deciding record of each row, up to the last commit. Other threads may read it meanwhile.
    pub fn index(&self) -> &Arc<Index> {
        &self.index
    }

    /// The predictor's field names so far.
    pub fn fields(&self) -> &Fields {
        &self.fields
    }

    /// Figures so far. They include the last write after [`Journal::checkpoint`].
    pub fn stats(&self) -> JournalStats {
        let (syncs, longest_unsynced) = self.syncer.figures();
        JournalStats { bytes: self.bytes, syncs, longest_unsynced }
    }

    /// The open file, which holds the lock.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Status;
    use crate::journal::testing::{answered, failed, hash_of, header};

    #[test]
    fn a_row_counts_as_recorded_once_its_batch_is_committed() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = Journal::create(&directory.path().join("a.journal"), &header(1, 5..8)).unwrap();
        journal.append_outcome(&answered(5)).unwrap();
        journal.append_outcome(&failed(7)).unwrap();
        assert_eq!(journal.index().status(5), None);
        journal.commit().unwrap();
        assert_eq!(
            [5, 6, 7].map(|row| journal.index().status(row)),
            [Some(Status::Ok), None, Some(Status::Failed)]
        );
        assert_eq!(journal.fields().names(), ["answer", "reasoning"]);
    }

    #[test]
    fn the_running_index_is_the_one_that_recovery_finds() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.journal");
        let mut journal = Journal::create(&path, &header(1, 0..5)).unwrap();
        for batch in [[failed(0), answered(3)], [answered(0), failed(3)], [failed(1), failed(1)]] {
            for outcome in &batch {
                journal.append_outcome(outcome).unwrap();
            }
            journal.append_started(&[(4, hash_of(4))]).unwrap();
            journal.commit().unwrap();
        }
        let recovered = Recovered::read(&path, |_| ()).unwrap();
        let offsets =
            |index: &Index| index.selection().rows().map(|row| index.offset(row)).collect::<Vec<_>>();
        assert_eq!(offsets(journal.index()), offsets(&recovered.index));
        assert_eq!(recovered.index.counts(), journal.index().counts());
        assert_eq!(journal.stats().bytes, std::fs::metadata(&path).unwrap().len());
    }

    #[test]
    fn an_unnamed_journal_is_read_back_and_leaves_no_file() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = Journal::unnamed(directory.path(), &header(1, 0..3)).unwrap();
        journal.append_outcome(&answered(1)).unwrap();
        journal.checkpoint().unwrap();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);

        let mut rows = Vec::new();
        let visit = |record: &Record<'_>| {
            if let Record::Outcome(outcome) = record {
                rows.push(outcome.row);
            }
        };
        journal.read_back(visit).unwrap();
        assert_eq!(rows, [1]);
        journal.append_outcome(&answered(2)).unwrap();
        journal.commit().unwrap();
        assert_eq!(journal.read_back(|_| ()).unwrap().index.counts().ok, 2, "it can be written on");
    }
}
