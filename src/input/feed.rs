//! Rows that somebody hands in while the run goes on, in place of a file.

use std::collections::VecDeque;
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::rows::{NextRow, RowSource};
use crate::error::CallError;
use crate::row::{Arguments, Row, RowHash};

/// What a row is called with, or why it must not be called.
type Given = Result<Arc<Arguments>, CallError>;

/// Hands rows to a run. Clones hand them to the same run, which gives them ids from 0 in the order in which they come.
///
/// It takes any number of rows at once: whoever hands them in decides how many the run may hold.
#[derive(Debug, Clone, Default)]
pub struct Feed(Arc<Mutex<Waiting>>);

/// What the run has not fetched yet.
#[derive(Debug, Default)]
struct Waiting {
    rows: VecDeque<Given>,
    closed: bool,
    /// Wakes the run, which has no row left.
    waker: Option<Waker>,
    /// Whether the run has wanted more rows than there were since this was asked last.
    starved: bool,
}

impl Feed {
    /// A feed without rows.
    pub fn new() -> Self {
        Self::default()
    }

    /// Hands in rows. They follow those of all calls before.
    pub fn push(&self, rows: impl IntoIterator<Item = Given>) {
        self.change(|waiting| waiting.rows.extend(rows));
    }

    /// Says that no rows follow.
    pub fn close(&self) {
        self.change(|waiting| waiting.closed = true);
    }

    /// Whether the run has wanted more rows than there were since this was asked last.
    pub fn was_short(&self) -> bool {
        std::mem::take(&mut self.waiting().starved)
    }

    fn change(&self, change: impl FnOnce(&mut Waiting)) {
        let mut waiting = self.waiting();
        change(&mut waiting);
        let waker = waiting.waker.take();
        drop(waiting);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The run's end of a feed.
pub(crate) struct FedRows {
    feed: Feed,
    /// Fetched together.
    fetched: VecDeque<Given>,
    next_id: u64,
}

impl FedRows {
    /// The rows of the feed, from its first.
    pub(crate) fn new(feed: Feed) -> Self {
        Self { feed, fetched: VecDeque::new(), next_id: 0 }
    }
}

impl RowSource for FedRows {
    fn next_row(&mut self) -> Result<NextRow, Box<dyn Error + Send + Sync>> {
        if self.fetched.is_empty() {
            let mut waiting = self.feed.waiting();
            if waiting.rows.is_empty() {
                waiting.starved = !waiting.closed;
                return Ok(if waiting.closed { NextRow::End } else { NextRow::NotYet });
            }
            std::mem::swap(&mut self.fetched, &mut waiting.rows);
        }
        let Some(arguments) = self.fetched.pop_front() else { return Ok(NextRow::NotYet) };
        let id = self.next_id;
        self.next_id += 1;
        Ok(NextRow::Row(Row { id, line: id + 1, hash: RowHash(0), arguments }))
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !self.fetched.is_empty() {
            return Poll::Ready(());
        }
        let mut waiting = self.feed.waiting();
        if !waiting.rows.is_empty() || waiting.closed {
            return Poll::Ready(());
        }
        waiting.waker = Some(context.waker().clone());
        Poll::Pending
    }
}
