//! What the engine tells the dispatcher: data, never text.

use std::sync::Arc;
use std::time::Duration;

use crate::row::Outcome;

/// A time in which the event loop did not turn, a second or longer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blockage {
    /// The row whose call held it up; none where that cannot be seen.
    pub row: Option<u64>,
    /// The innermost line of the user's code: `file:line in function: source`. None where code in C held the
    /// interpreter's lock, so that no thread could look.
    pub place: Option<String>,
    /// How long, or how long so far.
    pub lasted: Duration,
}

/// One thing that happened to one row.
#[derive(Debug)]
pub enum Event {
    /// An attempt failed and the row waits to be tried again.
    Retrying {
        /// The row.
        row: u64,
        /// The attempt that failed, from 1.
        attempt: u32,
        /// Its error's class.
        class: Arc<str>,
        /// The wait before the next attempt.
        delay: Duration,
    },
    /// The event loop does not turn.
    Blocked {
        /// What is known of it.
        blockage: Blockage,
        /// The rows in hand; one of them does it.
        in_hand: Vec<u64>,
    },
    /// The row has its final outcome.
    Finished(Box<Outcome>),
    /// The run is stopping and the row was left without an outcome; `resume` will take it up.
    Unfinished {
        /// The row.
        row: u64,
    },
}
