//! Chooses the rows that a session runs, and their order.

use std::collections::{BTreeSet, VecDeque};
use std::error::Error;
use std::future::poll_fn;
use std::sync::Arc;

use crate::input::{NextRow, RowSource};
use crate::journal::{Index, Status};
use crate::row::Row;

/// Whether to run a row, given its status after earlier sessions. Answered rows are never run.
pub(crate) type Wanted = fn(Option<Status>) -> bool;

/// Which rows a session runs.
#[derive(Debug, Clone)]
pub(crate) struct Choice {
    /// Chooses rows by their status.
    pub wanted: Wanted,
    /// Rows to run before the others, in this order and one at a time, so that a crash has only one row to blame.
    pub suspects: Vec<u64>,
    /// Rows not to run.
    pub left_out: BTreeSet<u64>,
}

impl Default for Choice {
    fn default() -> Self {
        Self { wanted: |_| true, suspects: Vec::new(), left_out: BTreeSet::new() }
    }
}

/// The rows to run: first the suspects, then the others in the order of the input.
pub(crate) struct Todo {
    rows: Box<dyn RowSource>,
    index: Arc<Index>,
    wanted: Wanted,
    ended: bool,
    /// The source has no row at the moment, but may have more later.
    not_yet: bool,
    suspects: VecDeque<Row>,
    one_at_a_time: bool,
    /// Rows to skip in the input: the suspects, and the rows left out.
    apart: BTreeSet<u64>,
}

impl Todo {
    /// The rows of the choice, read from `rows`. `suspects` are its suspects, already read.
    pub(crate) fn new(
        rows: impl RowSource + 'static,
        suspects: Vec<Row>,
        index: Arc<Index>,
        choice: &Choice,
    ) -> Self {
        Self {
            rows: Box::new(rows),
            index,
            wanted: choice.wanted,
            ended: false,
            not_yet: false,
            one_at_a_time: !suspects.is_empty(),
            apart: choice.suspects.iter().chain(&choice.left_out).copied().collect(),
            suspects: suspects.into(),
        }
    }

    /// How many rows may be in hand now: one while suspects are run, or else `look_ahead`.
    pub(super) fn most_in_hand(&self, look_ahead: usize) -> usize {
        if self.one_at_a_time { 1 } else { look_ahead }
    }

    /// Whether [`Self::next`] has returned the last row.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    /// Whether [`Self::next`] returned nothing although more rows may come: see [`Self::more`].
    pub(super) fn is_waiting(&self) -> bool {
        self.not_yet
    }

    /// Waits until [`Self::next`] has something to return. Cancel-safe.
    pub(super) async fn more(&mut self) {
        poll_fn(|context| self.rows.poll_next(context)).await;
    }

    /// The next row to run; `None` at the end, and where the source has no row yet.
    pub(super) fn next(&mut self) -> Result<Option<Row>, Box<dyn Error + Send + Sync>> {
        if let Some(suspect) = self.suspects.pop_front() {
            return Ok(Some(suspect));
        }
        self.one_at_a_time = false;
        self.not_yet = false;
        loop {
            let row = match self.rows.next_row()? {
                NextRow::Row(row) => row,
                NextRow::NotYet => {
                    self.not_yet = true;
                    return Ok(None);
                }
                NextRow::End => {
                    self.ended = true;
                    return Ok(None);
                }
            };
            let status = self.index.status(row.id);
            if status != Some(Status::Ok) && (self.wanted)(status) && !self.apart.contains(&row.id) {
                return Ok(Some(row));
            }
        }
    }
}
