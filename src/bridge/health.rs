//! How a bridge is at a moment, as data that can be sent to another process. What follows from it is decided elsewhere.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::event::Blockage;

/// A bridge at a moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// What runs its calls, each beside the other.
    pub lanes: Vec<LaneHealth>,
    /// What was found to keep a lane from turning since this was asked last. Each blockage is told once, soon after it has
    /// begun.
    pub blocked: Vec<Blockage>,
    /// The numbers in answers, since the bridge was made, that became null because JSON cannot hold them.
    pub nulled: Option<Nulled>,
}

/// A lane of a bridge: an event loop, as a rule.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneHealth {
    /// For how long in all it has not turned (gaps over 250 ms, the running one included).
    pub stalled: Duration,
    /// For how long it has not turned now: zero, or over 250 ms.
    pub stalled_now: Duration,
    /// The latest that it came to a turn it had asked for.
    pub longest_lag: Duration,
    /// The longest times in which it did not turn, in the order of their beginning.
    pub blockages: Vec<Blockage>,
    /// Calls it was given that have not ended, cancelled ones included.
    pub calls: u64,
    /// Processor time that its process has used.
    pub processor: Duration,
    /// Resident memory of its process, in bytes.
    pub memory: u64,
    /// How often it died and was started anew.
    pub deaths: u64,
}

/// Numbers (NaN, the infinities) that became null.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nulled {
    /// How many.
    pub numbers: u64,
    /// The row of the first of them.
    pub first_row: u64,
}

impl Health {
    /// The greatest of a time over all lanes.
    pub fn longest(&self, time: impl Fn(&LaneHealth) -> Duration) -> Duration {
        self.lanes.iter().map(time).max().unwrap_or_default()
    }
}
