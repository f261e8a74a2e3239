//! What the engine tells the dispatcher: data, never text.

use std::sync::Arc;
use std::time::Duration;

use crate::row::Outcome;

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
    /// The row has its final outcome.
    Finished(Box<Outcome>),
    /// The run is stopping and the row was left without an outcome; `resume` will take it up.
    Unfinished {
        /// The row.
        row: u64,
    },
}
