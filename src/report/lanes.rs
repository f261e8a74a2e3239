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
    /// Whether it only made calls of rows that may have ended another worker, one at a time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub for_suspects: bool,
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

impl Worker {
    /// The figures of a bridge's lanes, of which `ordinary` are of workers that any row may get. None if the lanes are not
    /// of workers but the one event loop of this process.
    pub(crate) fn of_lanes(lanes: &[LaneHealth], ordinary: u64) -> Vec<Self> {
        if ordinary == 0 && lanes.len() <= 1 {
            return Vec::new();
        }
        lanes.iter().map(Self::of).collect()
    }

    fn of(lane: &LaneHealth) -> Self {
        Self {
            for_suspects: lane.for_suspects,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_lane_of_this_process_is_no_worker() {
        let told = |lanes, ordinary| Worker::of_lanes(&vec![LaneHealth::default(); lanes], ordinary).len();
        assert_eq!([told(1, 0), told(2, 0), told(1, 1)], [0, 2, 1]);
    }
}
