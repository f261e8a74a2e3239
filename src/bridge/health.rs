//! The state of a bridge at a moment, as data that can be sent to another process.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::event::Blockage;

/// The state of a bridge at a moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// The lanes that run its calls, side by side.
    pub lanes: Vec<LaneHealth>,
    /// The blockages of a lane found since the last time this was asked for. Each is reported once, soon after it has
    /// begun.
    pub blocked: Vec<Blockage>,
    /// The numbers in answers that became null because JSON cannot hold them, since the bridge was made.
    pub nulled: Option<Nulled>,
}

/// The state of a lane of a bridge. As a rule a lane is an event loop. If it died and was restarted, counts and times add
/// up over its lives.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneHealth {
    /// The total time in which it did not turn (gaps over 250 ms, including the present one).
    pub stalled: Duration,
    /// The time for which it has not turned now: zero, or over 250 ms.
    pub stalled_now: Duration,
    /// The longest delay of a turn that it had asked for.
    pub longest_lag: Duration,
    /// The longest blockages, in the order of their beginning.
    pub blockages: Vec<Blockage>,
    /// The calls that it was given and that have not ended, including cancelled ones.
    pub calls: u64,
    /// The calls that were made on it. A bridge with one lane need not count them.
    pub made: u64,
    /// The calls that it answered, likewise.
    pub answered: u64,
    /// The processor time of its own thread.
    pub busy: Duration,
    /// The time in which its own thread used more than 90 % of a processor.
    pub saturated: Duration,
    /// The processor time that its process has used, all jobs included.
    pub processor: Duration,
    /// The resident memory of its process, in bytes.
    pub memory: u64,
    /// The most resident memory that its process has had, in bytes.
    pub peak_memory: u64,
    /// How often it has died and been restarted.
    pub deaths: u64,
    /// Whether it runs only calls of rows that may have killed another lane.
    pub for_suspects: bool,
}

/// Numbers (NaN, the infinities) that became null.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nulled {
    /// How many there were.
    pub numbers: u64,
    /// The row of the first of them.
    pub first_row: u64,
}

impl Health {
    /// The longest of a time over all lanes.
    pub fn longest(&self, time: impl Fn(&LaneHealth) -> Duration) -> Duration {
        self.lanes.iter().map(time).max().unwrap_or_default()
    }
}
