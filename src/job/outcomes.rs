//! Reads the outcomes of a run as values, for whoever has the rows and wants no answers file.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::error::JobError;
use crate::journal::{Index, Reader, Record, Recovered};
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
    /// later are not seen.
    ///
    /// # Errors
    ///
    /// Fails if the journal cannot be read.
    pub fn read(journal: &Path) -> Result<Self, JobError> {
        let mut tried = HashMap::<u64, Tried>::new();
        let recovered = Recovered::read(journal, |record| match record {
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
        let mut outcomes = Outcomes::read(&path).unwrap();
        let decided = [0, 1, 2].map(|row| outcomes.of(row).unwrap());
        assert_eq!(decided, [Some(answered(0)), Some(answered(1)), None]);
    }
}
