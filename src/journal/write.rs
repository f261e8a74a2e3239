//! The journal's one writer: append to a batch, commit it in one write, checkpoint at the end. Not the reading.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::batch::Batch;
use super::error::JournalError;
use super::fields::Fields;
use super::file;
use super::index::Index;
use super::format::Record;
use super::recover::Recovered;
use super::session::{End, Header};
use super::sync::Syncer;
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
    /// The last session's, to be written again where somebody cuts the file.
    pub(super) header: Header,
    /// Somebody has cut the file.
    pub(super) cut: bool,
    /// Where there is room for the session's end, once it has a header.
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
    /// Creates the journal with its first header. An existing one is refused, one in use with its holder's pid.
    ///
    /// # Errors
    ///
    /// Fails where the file exists, with the process that holds it if one does, or where it cannot be written.
    pub fn create(path: &Path, header: &Header) -> Result<Self, JournalError> {
        let mut batch = Batch::default();
        let room = batch.header(header)?;
        let file = file::create(path, &batch.bytes)?;
        let index = Arc::new(Index::new(header.selection.clone()));
        let bytes = batch.bytes.len() as u64;
        let mut journal = Self::new(path, file, bytes, index, Fields::default(), header.clone())?;
        journal.room = Some(room as u64);
        Ok(journal)
    }

    /// Takes the lock, reads the journal, cuts its torn tail and stands ready to append. `visit` is given every record.
    /// Killed at any point, it can be run again.
    ///
    /// # Errors
    ///
    /// Fails where another process holds the journal, where it cannot be read, and where its version is not known.
    pub fn recover(path: &Path, visit: impl FnMut(&Record<'_>)) -> Result<(Self, Recovered), JournalError> {
        Self::continued(path, file::open_locked(path)?, visit)
    }

    /// Reads a journal that is locked already, from where the file stands.
    pub(super) fn continued(
        path: &Path,
        file: File,
        visit: impl FnMut(&Record<'_>),
    ) -> Result<(Self, Recovered), JournalError> {
        let recovered = Recovered::from_reader(&file, path, visit)?;
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
    /// Fails where the record has no form in JSON.
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
    /// As [`Journal::append_header`].
    pub fn append_started(&mut self, rows: &[(u64, RowHash)]) -> Result<(), JournalError> {
        self.batch.append(&Record::Started(Cow::Borrowed(rows)))
    }

    /// Appends to the batch that an attempt failed.
    ///
    /// # Errors
    ///
    /// As [`Journal::append_header`].
    pub fn append_attempt(&mut self, attempt: &FailedAttempt) -> Result<(), JournalError> {
        self.batch.append(&Record::Attempt(Cow::Borrowed(attempt)))
    }

    /// Appends an outcome to the batch.
    ///
    /// # Errors
    ///
    /// As [`Journal::append_header`].
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
    /// As [`Journal::append_header`].
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
        self.check()?;
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

    /// Bytes of the file that are this process's doing, or were there before.
    pub(super) fn written(&self) -> u64 {
        self.bytes + self.batch.written as u64
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

    /// Where each row was decided, up to the last commit. It may be read on other threads meanwhile.
    pub fn index(&self) -> &Arc<Index> {
        &self.index
    }

    /// The predictor's field names so far.
    pub fn fields(&self) -> &Fields {
        &self.fields
    }

    /// Figures so far; those of the last write are in after [`Journal::checkpoint`].
    pub fn stats(&self) -> JournalStats {
        let (syncs, longest_unsynced) = self.syncer.figures();
        JournalStats { bytes: self.bytes, syncs, longest_unsynced }
    }

    fn check(&self) -> Result<(), JournalError> {
        self.syncer.check().map_err(|source| self.sync_error(source))
    }

    fn sync_error(&self, source: Arc<io::Error>) -> JournalError {
        JournalError::Sync { path: self.path.clone(), source }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::journal::testing::{answered, failed, hash_of, header};
    use crate::journal::{Status, set_aside};

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
        assert_eq!(journal.stats().bytes, fs::metadata(&path).unwrap().len());
    }

    #[test]
    fn only_its_user_may_read_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.journal");
        let _journal = Journal::create(&path, &header(1, 0..1)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn an_existing_journal_is_refused_and_untouched() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.journal");
        drop(Journal::create(&path, &header(1, 0..1)).unwrap());
        let before = fs::read(&path).unwrap();
        let error = Journal::create(&path, &header(2, 0..1)).unwrap_err();
        assert!(matches!(error, JournalError::Exists { .. }));
        assert!(error.to_string().contains("`resume`") && error.to_string().contains("`--force`"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), before);
    }

    #[test]
    fn a_journal_in_use_is_refused_naming_the_process_that_holds_it_whatever_its_headers_say() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.journal");
        let mut journal = Journal::create(&path, &header(41, 0..1)).unwrap();
        journal.append_header(&header(42, 0..1)).unwrap();
        journal.commit().unwrap();
        let errors = [
            Journal::create(&path, &header(1, 0..1)).unwrap_err(),
            Journal::recover(&path, |_| ()).unwrap_err(),
            set_aside(&path, "1").unwrap_err(),
        ];
        for error in errors {
            let JournalError::Locked { pid: Some(pid), lives: true, .. } = error else { panic!("{error}") };
            assert_eq!(pid, std::process::id());
        }
        drop(journal);
        assert!(Journal::recover(&path, |_| ()).is_ok());
    }

    #[test]
    fn a_journal_set_aside_makes_room_and_replaces_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.journal");
        drop(Journal::create(&path, &header(1, 0..1)).unwrap());
        let bytes = fs::read(&path).unwrap();
        let aside = set_aside(&path, "20260101T000000Z").unwrap();
        assert_eq!(aside, directory.path().join("a.journal.20260101T000000Z"));
        assert_eq!(fs::read(&aside).unwrap(), bytes);
        drop(Journal::create(&path, &header(2, 0..1)).unwrap());
        assert!(set_aside(&path, "20260101T000000Z").is_err());
        assert_eq!(fs::read(&aside).unwrap(), bytes);
    }

    #[test]
    fn a_full_disk_is_told_from_a_broken_one() {
        let write = |kind: io::ErrorKind| JournalError::Write { path: "a".into(), source: kind.into() };
        assert!(write(io::ErrorKind::StorageFull).is_disk_full());
        assert!(write(io::ErrorKind::StorageFull).to_string().ends_with("`resume` then continues"));
        assert!(!write(io::ErrorKind::PermissionDenied).is_disk_full());
    }
}
