//! The rows that a session runs, and their order. Not how they are run.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use crate::input::{InputError, Rows};
use crate::journal::{Index, Status};
use crate::row::Row;

/// Which rows are to be run, by how earlier sessions decided them; answered ones never are.
pub type Wanted = fn(Option<Status>) -> bool;

/// What a session is to run.
#[derive(Debug, Clone)]
pub struct Choice {
    /// By how a row was decided before.
    pub wanted: Wanted,
    /// Rows to be run before the others and one at a time, in this order, so that a crash has one row to blame.
    pub suspects: Vec<u64>,
    /// Rows not to be run.
    pub left_out: BTreeSet<u64>,
}

impl Default for Choice {
    fn default() -> Self {
        Self { wanted: |_| true, suspects: Vec::new(), left_out: BTreeSet::new() }
    }
}

/// The rows of a run, in input order but for the suspects, without those that need no call.
pub struct Todo {
    rows: Rows,
    index: Arc<Index>,
    wanted: Wanted,
    ended: bool,
    suspects: VecDeque<Row>,
    one_at_a_time: bool,
    /// Rows that are not for the others' turn.
    apart: BTreeSet<u64>,
}

impl Todo {
    /// The rows of the choice; `suspects` are its suspects' rows.
    pub fn new(rows: Rows, suspects: Vec<Row>, index: Arc<Index>, choice: &Choice) -> Self {
        Self {
            rows,
            index,
            wanted: choice.wanted,
            ended: false,
            one_at_a_time: !suspects.is_empty(),
            apart: choice.suspects.iter().chain(&choice.left_out).copied().collect(),
            suspects: suspects.into(),
        }
    }

    /// How many rows may be in hand now.
    pub(super) fn most_in_hand(&self, look_ahead: usize) -> usize {
        if self.one_at_a_time { 1 } else { look_ahead }
    }

    /// Whether there are no more.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    pub(super) fn next(&mut self) -> Result<Option<Row>, InputError> {
        if let Some(suspect) = self.suspects.pop_front() {
            return Ok(Some(suspect));
        }
        self.one_at_a_time = false;
        while let Some(row) = self.rows.next()? {
            let status = self.index.status(row.id);
            if status != Some(Status::Ok) && (self.wanted)(status) && !self.apart.contains(&row.id) {
                return Ok(Some(row));
            }
        }
        self.ended = true;
        Ok(None)
    }
}
