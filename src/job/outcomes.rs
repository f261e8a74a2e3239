//! Reads the outcomes of a run as values, for whoever has the rows and wants no answers file.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use super::error::JobError;
use crate::fs::Stoppable;
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

impl Outcomes {
    /// Reads which rows the journal decides. It takes no lock, so the run may still go on; outcomes that it records
    /// later are not seen. `stopped` is asked every few milliseconds.
    ///
    /// # Errors
    ///
    /// Fails if the journal cannot be read, or if `stopped` returns true.
    pub fn read(journal: &Path, stopped: &dyn Fn() -> bool) -> Result<Self, JobError> {
        let mut tried = HashMap::<u64, Tried>::new();
        let open = |source| JournalError::Io { action: "open", path: journal.to_owned(), source };
        let reader = Stoppable { reader: File::open(journal).map_err(open)?, stopped };
        let recovered = Recovered::from_reader(reader, journal, |record| match record {
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
    use std::cell::Cell;

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
        let mut outcomes = Outcomes::read(&path, &|| false).unwrap();
        let decided = [0, 1, 2].map(|row| outcomes.of(row).unwrap());
        assert_eq!(decided, [Some(answered(0)), Some(answered(1)), None]);
    }

    #[test]
    fn reading_asks_again_and_again_whether_to_stop() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.journal");
        let mut journal = Journal::create(&path, &header(1, 0..1)).unwrap();
        for _ in 0..4_000 {
            journal.append_outcome(&answered(0)).unwrap();
        }
        journal.commit().unwrap();
        let asked = Cell::new(0);
        let error = Outcomes::read(&path, &|| asked.replace(asked.get() + 1) == 3);
        assert!(error.is_err_and(|error| error.to_string().contains("stopped")) && asked.get() == 4);
    }
}
