//! Rewrites a journal for an input whose rows have moved, and keeps the old one.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Seek;
use std::path::PathBuf;
use std::sync::Arc;

use super::error::JournalError;
use super::format::Record;
use super::fresh::{Fresh, within};
use super::recover::Recovered;
use super::session::Header;
use super::write::Journal;
use crate::fs::Stoppable;
use crate::outcome::{FailedAttempt, Outcome};
use crate::row::RowHash;
use crate::selection::Rows;
use crate::usage::Spent;

/// A rewritten journal in the old one's place.
#[derive(Debug)]
pub struct Rewritten {
    /// The new journal, with the header of the session that goes on.
    pub journal: Journal,
    /// What it says.
    pub recovered: Recovered,
    /// Where the old one is kept.
    pub aside: PathBuf,
}

/// A rewritten journal that is not in the old one's place yet.
#[derive(Debug)]
pub struct Rewrite {
    /// The old journal, which stays locked until the new one is.
    held: Arc<File>,
    fresh: Fresh,
}

impl Journal {
    /// Rewrites this journal for rows that have moved. All sessions stay. Each record moves to the row's new id, and
    /// records of rows for which `moved` returns none are left out. A session's selection becomes the rows from the first
    /// of its own that is left to the last. `visit` is given every record of the new journal.
    ///
    /// # Errors
    ///
    /// Fails if the journal cannot be read, if the new one cannot be written, or if `stopped` says so before that.
    pub fn rewrite(
        self,
        stopped: &dyn Fn() -> bool,
        moved: impl Fn(u64) -> Option<u64>,
        mut visit: impl FnMut(&Record<'_>),
    ) -> Result<Rewrite, JournalError> {
        // Free its memory before two more indexes are built.
        let Self { path, file: held, index, .. } = self;
        drop(index);
        let mut rewrite = Rewrite { held, fresh: Fresh::new(&path)? };
        let mut result = Ok(());
        // Rows of the session being read that are gone and have no outcome.
        let mut lost = BTreeSet::new();
        let in_flight = Record::Gone(Cow::Owned(Spent::default()));
        let open = |source| JournalError::Io { action: "open", path: path.clone(), source };
        let reader = Stoppable { reader: File::open(&path).map_err(open)?, stopped };
        Recovered::from_reader(reader, &path, |record| {
            match record {
                Record::Started(rows) => {
                    lost.extend(rows.iter().map(|(row, _)| *row).filter(|row| moved(*row).is_none()));
                }
                Record::Outcome(outcome) => _ = lost.remove(&outcome.row),
                Record::Header(_) if result.is_ok() && !std::mem::take(&mut lost).is_empty() => {
                    result = rewrite.fresh.append(&in_flight);
                }
                _ => {}
            }
            if result.is_ok()
                && let Some(record) = rewritten(record, &moved)
            {
                visit(&record);
                result = rewrite.fresh.append(&record);
            }
        })?;
        if result.is_ok() && !lost.is_empty() {
            result = rewrite.fresh.append(&in_flight);
        }
        result.map(|()| rewrite)
    }
}

/// The record as it reads where its row is now; none if its row is gone.
fn rewritten<'r>(record: &'r Record<'_>, moved: impl Fn(u64) -> Option<u64>) -> Option<Record<'r>> {
    Some(match record {
        Record::Header(header) => {
            let Rows { shard, .. } = header.selection;
            let extent = |(start, end): (u64, u64), row: u64| (start.min(row), end.max(row + 1));
            let (start, end) = header.selection.iter().filter_map(moved).fold((u64::MAX, 0), extent);
            Record::Header(Cow::Owned(within(header, Rows::new(start.min(end)..end, shard))))
        }
        Record::Started(rows) => {
            let moved = |(row, hash): &(u64, RowHash)| Some((moved(*row)?, *hash));
            Record::Started(rows.iter().filter_map(moved).collect())
        }
        Record::Attempt(attempt) => {
            let row = moved(attempt.row)?;
            Record::Attempt(Cow::Owned(FailedAttempt { row, ..FailedAttempt::clone(attempt) }))
        }
        Record::Outcome(outcome) => {
            let row = moved(outcome.row)?;
            Record::Outcome(Cow::Owned(Outcome { row, ..Outcome::clone(outcome) }))
        }
        Record::End(end) => Record::End(Cow::Borrowed(end)),
        Record::Gone(gone) => Record::Gone(Cow::Borrowed(gone)),
    })
}

impl Rewrite {
    /// Records what was spent on the rows that were left out.
    ///
    /// # Errors
    ///
    /// Fails if the new journal cannot be written.
    pub fn carry(&mut self, gone: &Spent) -> Result<(), JournalError> {
        self.fresh.append(&Record::Gone(Cow::Borrowed(gone)))
    }

    /// Appends the header of the session that goes on and puts the new journal in the old one's place. The old one is
    /// kept as `<path>.<time>`. If this is killed at any point, one of the two is whole under the name.
    ///
    /// # Errors
    ///
    /// Fails if the new journal cannot be written or renamed. The old one then stays in place.
    pub fn replace(mut self, header: &Header, time: &str) -> Result<Rewritten, JournalError> {
        let behind = self.fresh.begin(header)?;
        let path = self.fresh.path.clone();
        let (mut file, aside) = self.fresh.replace(time)?;
        drop(self.held);
        file.rewind().map_err(|source| JournalError::Write { path: path.clone(), source })?;
        let (mut journal, recovered) = Journal::continued(&path, file, &|| false, |_| ())?;
        journal.room = Some(journal.bytes - behind as u64);
        Ok(Rewritten { journal, recovered, aside })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::testing::{answered, failed, hash_of, header};
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
        let mut rewrite = journal.rewrite(&|| false, moved, count).unwrap();
        let mut gone = Spent { attempts: 1, ..Spent::default() };
        gone.by_error.add("timeout");
        rewrite.carry(&gone).unwrap();
        let rewritten = rewrite.replace(&header(2, 10..15), "1").unwrap();

        assert_eq!(std::fs::read(&rewritten.aside).unwrap(), bytes);
        let index = rewritten.journal.index();
        assert_eq!(index.counts(), Counts { ok: 2, failed: 1, unfinished: 2 });
        assert_eq!(index.status(13), Some(Status::Ok));
        assert_eq!(outcomes, 4, "what was superseded is kept too");
        let pids: Vec<_> = rewritten.recovered.sessions.iter().map(|session| session.pid).collect();
        assert_eq!(pids, [1, 2]);
        drop(rewritten);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2, "no temporary file is left");
        let mut carried = None;
        let keep = |record: &Record<'_>| {
            if let Record::Gone(gone) = record {
                carried = Some(gone.clone().into_owned());
            }
        };
        let (_, again) = Journal::recover(&path, keep).unwrap();
        assert_eq!(carried, Some(gone));
        assert_eq!((again.damaged.len(), again.index.selection().hull()), (0, (10..15).into()));
    }

    #[test]
    fn the_session_that_goes_on_can_tell_of_its_end_where_the_disk_has_no_byte_left() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.journal");
        let journal = Journal::create(&path, &header(1, 0..2)).unwrap();
        let rewrite = journal.rewrite(&|| false, Some, |_| ()).unwrap();
        let mut journal = rewrite.replace(&header(2, 0..2), "1").unwrap().journal;
        journal.append_started(&[(0, hash_of(0))]).unwrap();
        journal.commit().unwrap();
        journal.mark_ended(true);
        drop(journal);
        let (_, again) = Journal::recover(&path, |_| ()).unwrap();
        assert_eq!((again.blame.suspects(), again.damaged.len()), (vec![], 0));
    }

    #[test]
    fn a_row_that_was_in_flight_with_one_that_is_gone_was_not_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.journal");
        let dies_with = |mut journal: Journal, rows: &[u64]| {
            journal
                .append_started(&rows.iter().map(|row| (*row, hash_of(*row))).collect::<Vec<_>>())
                .unwrap();
            journal.commit().unwrap();
            drop(journal);
            Journal::recover(&path, |_| ()).unwrap()
        };
        let (journal, _) = dies_with(Journal::create(&path, &header(1, 0..2)).unwrap(), &[0, 1]);
        let rewrite = journal.rewrite(&|| false, |row| (row == 0).then_some(0), |_| ()).unwrap();
        let (mut journal, _) = dies_with(rewrite.replace(&header(2, 0..2), "1").unwrap().journal, &[0]);
        journal.append_header(&header(3, 0..2)).unwrap();
        let (mut journal, died) = dies_with(journal, &[0]);
        assert_eq!((died.blame.poison(), died.blame.suspects()), (vec![], vec![0]));
        journal.append_header(&header(4, 0..2)).unwrap();
        let (_, died) = dies_with(journal, &[0]);
        assert_eq!(died.blame.poison().len(), 1);
    }
}
