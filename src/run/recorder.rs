//! What the dispatcher tells of a run to whatever keeps it: a journal, or nothing.

use crate::journal::{Journal, JournalError, Loss, Status};
use crate::outcome::{FailedAttempt, Outcome};
use crate::row::Row;

/// Keeps what happens in a run. Each method keeps nothing unless it is overridden.
pub(crate) trait Recorder: Send {
    /// Takes rows that are about to be called for the first time in this session.
    fn started(&mut self, _: &[Row]) -> Result<(), JournalError> {
        Ok(())
    }

    /// Takes a failed attempt that did not decide its row.
    fn attempt(&mut self, _: &FailedAttempt) -> Result<(), JournalError> {
        Ok(())
    }

    /// Takes the outcome of a row.
    fn outcome(&mut self, _: &Outcome) -> Result<(), JournalError> {
        Ok(())
    }

    /// Makes sure that everything taken so far survives the process.
    fn commit(&mut self) -> Result<(), JournalError> {
        Ok(())
    }

    /// How an earlier outcome decided the row.
    fn status(&self, _row: u64) -> Option<Status> {
        None
    }

    /// What somebody else has done to the record since the run began.
    fn loss(&self) -> Option<Loss> {
        None
    }

    /// Notes that all calls have ended, and whether outcomes are left that could not be recorded.
    fn ended(&self, _unrecorded: bool) {}
}

/// Keeps nothing: whoever takes the outcomes has them.
impl Recorder for () {}

impl Recorder for Journal {
    fn started(&mut self, rows: &[Row]) -> Result<(), JournalError> {
        let called = rows.iter().filter(|row| row.arguments.is_ok());
        self.append_started(&called.map(|row| (row.id, row.hash)).collect::<Vec<_>>())
    }

    fn attempt(&mut self, attempt: &FailedAttempt) -> Result<(), JournalError> {
        self.append_attempt(attempt)
    }

    fn outcome(&mut self, outcome: &Outcome) -> Result<(), JournalError> {
        self.append_outcome(outcome)
    }

    fn commit(&mut self) -> Result<(), JournalError> {
        self.commit()
    }

    fn status(&self, row: u64) -> Option<Status> {
        self.index().status(row)
    }

    fn loss(&self) -> Option<Loss> {
        self.loss()
    }

    fn ended(&self, unrecorded: bool) {
        self.mark_ended(unrecorded);
    }
}
