//! Reads the outcomes of a run as values, for whoever has the rows and wants no answers file.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use super::error::JobError;
use crate::journal::{Index, JournalError, Reader, Record, Recovered};
use crate::outcome::{Outcome, Tried};
use crate::output::added_columns;

/// The outcomes that a journal holds.
pub struct Outcomes {
    index: Arc<Index>,
    reader: Reader,
    /// Rows that were called and have had no outcome since.
    tried: HashMap<u64, Tried>,
}

/// Bytes of a journal that are read before it is asked again whether to go on: those of less than 10 ms.
const BLOCK: usize = 64 << 10;

/// A file that is read until `go_on` says no.
struct While<'a> {
    file: File,
    go_on: &'a mut dyn FnMut() -> bool,
}

impl Read for While<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = into.len().min(BLOCK);
        if (self.go_on)() { self.file.read(&mut into[..most]) } else { Err(io::Error::other("stopped")) }
    }
}

impl Outcomes {
    /// Reads which rows the journal decides. It takes no lock, so the run may still go on; outcomes that it records
    /// later are not seen. `go_on` is asked every few milliseconds.
    ///
    /// # Errors
    ///
    /// Fails if the journal cannot be read, or if `go_on` says no.
    pub fn read(journal: &Path, go_on: &mut dyn FnMut() -> bool) -> Result<Self, JobError> {
        let mut tried = HashMap::<u64, Tried>::new();
        let file = File::open(journal);
        let file =
            file.map_err(|source| JournalError::Io { action: "open", path: journal.to_owned(), source })?;
        let recovered = Recovered::from_reader(While { file, go_on }, journal, |record| match record {
            Record::Attempt(attempt) => tried.entry(attempt.row).or_default().add(attempt),
            Record::Outcome(outcome) => drop(tried.remove(&outcome.row)),
            _ => {}
        })?;
        Ok(Self { index: recovered.index, reader: Reader::open(journal)?, tried })
    }

    /// The outcome that decides the row, counted from 0. `None` if the row has none.
    ///
    /// # Errors
    ///
    /// Fails if the journal cannot be read any more, or was replaced.
    pub fn of(&mut self, row: u64) -> Result<Option<Outcome>, JobError> {
        Ok(self.reader.outcome(&self.index, row)?)
    }

    /// What the attempts of a row without an outcome come to, in the last session that called it.
    pub fn tried(&self, row: u64) -> Tried {
        self.tried.get(&row).copied().unwrap_or_default()
    }
}

/// The names of the columns that an answers file adds to columns of the names `own`: one for each field of the answers,
/// then `status`, `error`, `attempts` and `latency_ms`. Also returns a sentence for each name that was taken.
pub fn answer_columns(own: &[String], fields: &[String]) -> (Vec<String>, Vec<String>) {
    let (columns, renamed) = added_columns(own, fields);
    (columns, renamed.iter().map(ToString::to_string).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Journal;
    use crate::journal::testing::{answered, failed, header};

    #[test]
    fn a_row_has_the_outcome_that_decides_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.journal");
        let mut journal = Journal::create(&path, &header(1, 0..3)).unwrap();
        for outcome in [failed(0), answered(1), answered(0)] {
            journal.append_outcome(&outcome).unwrap();
        }
        journal.commit().unwrap();
        let mut outcomes = Outcomes::read(&path, &mut || true).unwrap();
        let decided = [0, 1, 2].map(|row| outcomes.of(row).unwrap());
        assert_eq!(decided, [Some(answered(0)), Some(answered(1)), None]);
    }

    #[test]
    fn reading_asks_again_and_again_whether_to_go_on() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.journal");
        let mut journal = Journal::create(&path, &header(1, 0..1)).unwrap();
        for _ in 0..4_000 {
            journal.append_outcome(&answered(0)).unwrap();
        }
        journal.commit().unwrap();
        let mut asked = 0;
        let error = Outcomes::read(&path, &mut || {
            asked += 1;
            asked < 4
        });
        assert!(error.is_err_and(|error| error.to_string().contains("stopped")) && asked == 4);
    }
}
