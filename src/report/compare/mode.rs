//! One mode of a comparison: the figures of its runs, and what they give together.

use serde::{Deserialize, Serialize};

use crate::report::text::brief;
use crate::stats::{LimitedTimes, Speedup, mean, stddev};

/// Columns of a mode's name that are shown.
const NAME_WIDTH: usize = 19;

/// The figures of one run of a mode.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct RunFigures {
    /// Seconds from the first call handed over to the last outcome recorded.
    pub wall_s: f64,
    /// Failed rows.
    pub failed: u64,
    /// Calls handed to the bridge.
    pub attempts: u64,
    /// Rows whose answer differs from that of the first run of the first mode, among those answered in both; null for
    /// that run itself.
    pub different: Option<u64>,
    /// The mean time of a call that gave an answer, in milliseconds; null where none did.
    pub call_ms: Option<f64>,
    /// Calls running, on average over the wall time.
    pub in_flight_mean: f64,
    /// The most calls in flight at once.
    pub in_flight_max: u64,
    /// For how many seconds a limit held rows back, by limit.
    pub limited_s: LimitedTimes,
    /// Processor time of this process and its workers, all threads, in seconds.
    pub cpu_s: f64,
    /// Worker processes; 0 if this process made the calls.
    #[serde(default, skip_serializing_if = "is_none")]
    pub workers: u64,
    /// For how many seconds the event loop did not turn, counting stalls of a quarter of a second and longer.
    pub stalled_s: f64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature serde asks for")]
pub(super) fn is_none(workers: &u64) -> bool {
    *workers == 0
}

/// What was measured of one mode.
#[derive(Debug, Clone)]
pub struct ModeRuns {
    /// What the mode is called: `sequential`, `concurrent -c 16`.
    pub name: String,
    /// The most calls allowed in flight.
    pub concurrency: u64,
    /// Its runs, in the order in which they were made.
    pub runs: Vec<RunFigures>,
}

impl ModeRuns {
    /// One call at a time, not run yet.
    pub fn sequential() -> Self {
        Self { name: "sequential".to_owned(), concurrency: 1, runs: Vec::new() }
    }

    /// At most this many calls at a time, not run yet.
    pub fn concurrent(calls: u64) -> Self {
        Self { name: format!("concurrent -c {calls}"), concurrency: calls, runs: Vec::new() }
    }
}

/// One mode's figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mode {
    /// What the mode is called.
    pub name: String,
    /// The most calls allowed in flight.
    pub concurrency: u64,
    /// Wall time of each run in seconds, in the order in which the runs were made.
    pub wall_s: Vec<f64>,
    /// Arithmetic mean of the wall times, in seconds.
    pub mean_s: f64,
    /// Standard deviation of the wall times (n - 1), in seconds; null for a single run.
    pub stddev_s: Option<f64>,
    /// Rows of a run divided by the mean wall time.
    pub rows_per_s: f64,
    /// Failed rows of a run, on average over the runs.
    pub failed: f64,
    /// Calls of a run, on average over the runs.
    pub attempts: f64,
    /// Calls running, on average over the runs.
    pub in_flight_mean: f64,
    /// The most rows of a run whose answer differs from that of the first run of the first mode.
    pub different: u64,
    /// The speedup over the first mode; null for the first mode itself.
    pub speedup: Option<Speedup>,
    /// What concurrency alone could give over the first mode, if every call took equally long and nothing else limited
    /// them: the rounds of calls needed, `ceil(rows / c)`, there over here. Null for the first mode itself.
    pub ideal_speedup: Option<f64>,
    /// Each run by itself.
    pub runs: Vec<RunFigures>,
}

impl Mode {
    /// The figures of a mode whose runs answered `rows` rows each, over those of the first mode.
    pub(super) fn new(rows: u64, mode: ModeRuns, baseline: Option<&Self>) -> Self {
        let ModeRuns { name, concurrency, runs } = mode;
        let each = |figure: fn(&RunFigures) -> f64| runs.iter().map(figure).collect::<Vec<_>>();
        let wall_s = each(|run| run.wall_s);
        let mean_s = mean(&wall_s);
        let rounds = |concurrency: u64| rows.div_ceil(concurrency.max(1)).max(1) as f64;
        Self {
            speedup: baseline.and_then(|baseline| Speedup::of(&baseline.wall_s, &wall_s)),
            ideal_speedup: baseline.map(|baseline| rounds(baseline.concurrency) / rounds(concurrency)),
            name,
            concurrency,
            mean_s,
            stddev_s: stddev(&wall_s),
            rows_per_s: if mean_s > 0.0 { rows as f64 / mean_s } else { 0.0 },
            wall_s,
            failed: mean(&each(|run| run.failed as f64)),
            attempts: mean(&each(|run| run.attempts as f64)),
            in_flight_mean: mean(&each(|run| run.in_flight_mean)),
            different: runs.iter().filter_map(|run| run.different).max().unwrap_or_default(),
            runs,
        }
    }

    /// The mean of its runs' [`RunFigures::call_ms`]; `None` where no call gave an answer.
    pub(super) fn call_ms(&self) -> Option<f64> {
        let spans: Vec<f64> = self.runs.iter().filter_map(|run| run.call_ms).collect();
        (!spans.is_empty()).then(|| mean(&spans))
    }

    /// The share of its wall time that another time, in seconds, makes up.
    pub(super) fn share(&self, time: impl Fn(&RunFigures) -> f64) -> f64 {
        let wall: f64 = self.wall_s.iter().sum();
        if wall > 0.0 { self.runs.iter().map(time).sum::<f64>() / wall } else { 0.0 }
    }
}

/// A mode's name as it is shown.
pub(super) fn shown(name: &str) -> String {
    brief(name, NAME_WIDTH)
}
