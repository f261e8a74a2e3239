//! The figures of what ran the calls: the event loop, and the workers where there are any.

use serde::{Deserialize, Serialize};

use crate::bridge::LaneHealth;
use crate::event::Blockage;

/// Python's event loop.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct EventLoop {
    /// `asyncio` or `uvloop`.
    pub name: String,
    /// The longest time for which it did not turn, in milliseconds.
    pub max_lag_ms: f64,
    /// The calls that blocked it.
    pub blocked: Vec<Blocked>,
}

/// One call that kept the event loop from turning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Blocked {
    /// The row whose call it was; null where that is not known.
    #[serde(default)]
    pub row: Option<u64>,
    /// The innermost line of the user's code: `file:line in function`.
    pub place: String,
    /// For how many milliseconds.
    pub ms: f64,
}

impl From<Blockage> for Blocked {
    fn from(blockage: Blockage) -> Self {
        let place = blockage.by.to_string();
        Self { row: blockage.row, place, ms: blockage.lasted.as_secs_f64() * 1e3 }
    }
}

/// A worker: a process with an event loop of its own. Its figures are those of the last session. If it died and was
/// restarted, they add up over its lives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Worker {
    /// Calls that it answered.
    pub rows: u64,
    /// Calls that were made on it.
    pub calls: u64,
    /// How often it died.
    pub deaths: u64,
    /// The processor time of its process, in seconds.
    pub processor_s: f64,
    /// The part of it that its event loop's thread used.
    pub event_loop_s: f64,
    /// For how many seconds its event loop did not turn, counting gaps over 250 ms.
    pub stalled_s: f64,
    /// The most resident memory of its process, in bytes.
    pub memory_bytes: u64,
}

impl From<&LaneHealth> for Worker {
    fn from(lane: &LaneHealth) -> Self {
        Self {
            rows: lane.answered,
            calls: lane.made,
            deaths: lane.deaths,
            processor_s: lane.processor.as_secs_f64(),
            event_loop_s: lane.busy.as_secs_f64(),
            stalled_s: lane.stalled.as_secs_f64(),
            memory_bytes: lane.peak_memory.max(lane.memory),
        }
    }
}
