//! A journal rewritten for rows that have moved, the old one kept. Not which row went where.

use std::borrow::Cow;
use std::io::{self, Seek, Write};
use std::ops::Range;
use std::path::PathBuf;

use super::batch::Batch;
use super::error::JournalError;
use super::file;
use super::record::{Record, Recorded, Values, Verdict};
use super::recover::Recovered;
use super::session::Header;
use super::writer::Journal;
use crate::row::RowHash;

/// Bytes written at once.
const CHUNK: usize = 1 << 20;

/// The journal that a rewriting made.
#[derive(Debug)]
pub struct Transcribed {
    /// It, its last session's header written.
    pub journal: Journal,
    /// What it says.
    pub recovered: Recovered,
    /// Where the old one is.
    pub aside: PathBuf,
}

impl Journal {
    /// Puts in this journal's place one that `header` continues: all sessions as they were, each record under its
    /// row's new id, those of rows that are gone left out. `visit` is given every record of the new one. The old one is
    /// kept as `<path>.<time>`; killed at any point, one of the two stands whole under the name.
    pub fn transcribe(
        self,
        header: &Header,
        time: &str,
        moved: impl Fn(u64) -> Option<u64>,
        visit: impl FnMut(&Record<'_>),
    ) -> Result<Transcribed, JournalError> {
        // The lock is held until the new journal's is; the index makes room for those of the two readings.
        let Self { path, file: _held, index, .. } = self;
        drop(index);
        let mut fresh = file::temporary(&path)?;
        let write = |source| JournalError::Write { path: path.clone(), source };
        let selection = &header.selection;
        let mut transcript = Transcript { batch: Batch::default(), selection, moved };
        let mut result = Ok(());
        Recovered::read(&path, |record| {
            if result.is_ok() {
                result = transcript.take(record).and_then(|()| transcript.spill(&mut fresh).map_err(write));
            }
        })?;
        result?;
        transcript.batch.header(header)?;
        transcript.batch.write_to(&mut fresh).map_err(write)?;
        drop(transcript);
        let (mut file, aside) = file::replace(&path, fresh, time)?;
        file.rewind().map_err(write)?;
        let (journal, recovered) = Self::continued(&path, file, visit)?;
        Ok(Transcribed { journal, recovered, aside })
    }
}

struct Transcript<'a, M> {
    batch: Batch,
    selection: &'a Range<u64>,
    moved: M,
}

impl<M: Fn(u64) -> Option<u64>> Transcript<'_, M> {
    fn take(&mut self, record: &Record<'_>) -> Result<(), JournalError> {
        match record {
            // The first header's selection is that of all rows to come.
            Record::Header(header) => {
                let header = Header { selection: self.selection.clone(), ..Header::clone(header) };
                self.batch.header(&header)?;
            }
            Record::Started(rows) => {
                let moved = |(row, hash): &(u64, RowHash)| Some(((self.moved)(*row)?, *hash));
                let rows: Vec<_> = rows.iter().filter_map(moved).collect();
                self.batch.append(&Record::<()>::Started(Cow::Owned(rows)))?;
            }
            Record::Attempt(attempt) => {
                if let Some(row) = (self.moved)(attempt.row) {
                    self.batch.append(&Record::<()>::Attempt(attempt.under(row)))?;
                }
            }
            Record::Outcome(outcome) => {
                if let Some(row) = (self.moved)(outcome.row) {
                    self.batch.append(&Record::Outcome(outcome.under(row)))?;
                }
            }
            Record::End(end) => self.batch.append(&Record::<()>::End(Cow::Borrowed(end)))?,
        }
        Ok(())
    }

    fn spill(&mut self, file: &mut impl Write) -> io::Result<()> {
        if self.batch.bytes.len() > CHUNK {
            self.batch.write_to(file)?;
            self.batch.clear();
        }
        Ok(())
    }
}

impl<'a> Recorded<'a> {
    /// The same under another row's id.
    fn under(&self, row: u64) -> Recorded<'_, &Values<'a>> {
        let result = match &self.result {
            Verdict::Ok { fields, first_chunk_ns, finish_reason } => {
                Verdict::Ok { fields, first_chunk_ns: *first_chunk_ns, finish_reason: finish_reason.clone() }
            }
            Verdict::Failed { class, kind, message, traceback } => Verdict::Failed {
                class: Cow::Borrowed(class),
                kind: *kind,
                message: Cow::Borrowed(message),
                traceback: traceback.as_deref().map(Cow::Borrowed),
            },
        };
        Recorded {
            row,
            hash: self.hash,
            result,
            attempts: self.attempts,
            errors: self.errors.iter().map(|class| Cow::Borrowed(&**class)).collect(),
            abandoned: self.abandoned,
            unanswered: self.unanswered,
            usage: self.usage,
            timing: self.timing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::testing::{answered, failed, header};
    use crate::journal::{Counts, Status};

    #[test]
    fn records_move_with_their_rows_and_the_old_journal_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.journal");
        let mut journal = Journal::create(&path, &header(1, 0..4)).unwrap();
        for outcome in [failed(0), answered(1), answered(2), failed(3), answered(3)] {
            journal.append_outcome(&outcome).unwrap();
        }
        journal.commit().unwrap();
        let bytes = std::fs::read(&path).unwrap();

        let mut outcomes = 0;
        let moved = |row| (row != 2).then_some(row + 10);
        let count = |record: &Record<'_>| outcomes += u64::from(matches!(record, Record::Outcome(_)));
        let transcribed = journal.transcribe(&header(2, 10..15), "1", moved, count).unwrap();

        assert_eq!(std::fs::read(&transcribed.aside).unwrap(), bytes);
        let index = transcribed.journal.index();
        assert_eq!(index.counts(), Counts { ok: 2, failed: 1, unfinished: 2 });
        assert_eq!(index.status(13), Some(Status::Ok));
        assert_eq!(outcomes, 4, "what was superseded is kept too");
        let pids: Vec<_> = transcribed.recovered.sessions.iter().map(|session| session.pid).collect();
        assert_eq!(pids, [1, 2]);
        drop(transcribed);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2, "no temporary file is left");
        let (_, again) = Journal::recover(&path, |_| ()).unwrap();
        assert_eq!((again.damaged.len(), again.index.selection()), (0, 10..15));
    }
}
