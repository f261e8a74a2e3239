//! The result of `compare` as one value. Not its views, nor the statistics behind the speedup: see [`Speedup`].

pub mod markdown;
mod table;
#[cfg(test)]
mod tests;

use serde::Serialize;

use super::warning::Warning;
use crate::stats::{LimitedTimes, Speedup, mean, stddev};

/// The version of the export's JSON (`schema/compare.schema.json`); new fields alone do not change it.
pub const SCHEMA_VERSION: u32 = 1;

/// Columns of a mode's name that are shown.
pub(super) const NAME_WIDTH: usize = 19;

/// What one run of a mode came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct RunFigures {
    /// First call handed over to last outcome recorded.
    pub wall_s: f64,
    /// Failed rows.
    pub failed: u64,
    /// Calls handed to the bridge.
    pub attempts: u64,
    /// Rows whose answer is another than in the first run of the first mode, of those answered in both; null for that
    /// run itself.
    pub different: Option<u64>,
    /// The mean time of a call that gave an answer; null where none did.
    pub call_ms: Option<f64>,
    /// Calls running, in the mean over the wall time.
    pub in_flight_mean: f64,
    /// The most calls in flight at once.
    pub in_flight_max: u64,
    /// For how long the rows were held back, by what it was.
    pub limited_s: LimitedTimes,
    /// Processor time of this process, all threads.
    pub cpu_s: f64,
    /// For how long the event loop did not turn, stalls of a quarter second and longer.
    pub stalled_s: f64,
}

/// What was measured of one mode.
#[derive(Debug, Clone)]
pub struct ModeRuns {
    /// What the mode is called: `sequential`, `concurrent -c 16`.
    pub name: String,
    /// The most calls allowed in flight.
    pub concurrency: u64,
    /// Its runs, in the order they were made.
    pub runs: Vec<RunFigures>,
}

/// The run before those that are timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct WarmUp {
    /// Its rows.
    pub rows: u64,
    /// Its calls.
    pub attempts: u64,
}

/// Why a comparison ended before all its runs were made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stopped {
    /// Where it was: `in the warm-up`, `in run 2 of 3: sequential`; `after` a run that had just come to its end.
    pub at: String,
    /// What stopped it, on one line.
    pub reason: String,
    /// Rows of the run that was stopped that had come to their outcome: they are in no figure. Null where no run was cut
    /// off, or where they are not known.
    pub rows: Option<u64>,
}

/// Modes side by side; field for field the JSON that `--export-json` writes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Rows of each run.
    pub rows: u64,
    /// Runs of each mode that were asked for.
    pub runs_requested: u32,
    /// Why not all of them were made; null where they were.
    pub stopped: Option<Stopped>,
    /// What was called before anything was timed; null where that was stopped.
    pub warm_up: Option<WarmUp>,
    /// The modes, in the order they were asked for; the first is the baseline. Only those with a finished run.
    pub modes: Vec<Mode>,
    /// Names of the modes without one.
    pub modes_without_runs: Vec<String>,
    /// The last mode's speedup over the first; null with one mode only.
    pub speedup: Option<Speedup>,
    /// The last mode's [`Mode::ideal_speedup`].
    pub ideal_speedup: Option<f64>,
    /// What makes the figures doubtful, and what limited a mode.
    pub warnings: Vec<Warning>,
}

/// One mode's figures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Mode {
    /// What the mode is called.
    pub name: String,
    /// The most calls allowed in flight.
    pub concurrency: u64,
    /// Wall time of each run, in the order they were made.
    pub wall_s: Vec<f64>,
    /// Arithmetic mean of the wall times.
    pub mean_s: f64,
    /// Standard deviation of the wall times (n - 1); null for a single run.
    pub stddev_s: Option<f64>,
    /// Rows of a run divided by the mean wall time.
    pub rows_per_s: f64,
    /// Failed rows of a run, in the mean over the runs.
    pub failed: f64,
    /// Calls of a run, in the mean over the runs.
    pub attempts: f64,
    /// Calls running, in the mean over the runs.
    pub in_flight_mean: f64,
    /// The most rows of a run whose answer is another than in the first run of the first mode.
    pub different: u64,
    /// Over the first mode; null for that one itself.
    pub speedup: Option<Speedup>,
    /// What concurrency alone could give over the first mode, if every call took equally long and nothing else limited
    /// them: the rounds of calls needed, `ceil(rows / c)`, there over here. Null for the first mode itself.
    pub ideal_speedup: Option<f64>,
    /// Each run by itself.
    pub runs: Vec<RunFigures>,
}

impl Comparison {
    /// Compares modes that each answered so many rows in every run; whether the input has `more`.
    pub fn new(
        (rows, more): (u64, bool),
        runs_requested: u32,
        warm_up: Option<WarmUp>,
        runs: Vec<ModeRuns>,
        stopped: Option<Stopped>,
    ) -> Self {
        let (mut modes, mut modes_without_runs): (Vec<Mode>, Vec<String>) = Default::default();
        for mode in runs {
            if mode.runs.is_empty() {
                modes_without_runs.push(mode.name);
            } else {
                modes.push(Mode::new(rows, mode, modes.first()));
            }
        }
        let (speedup, ideal_speedup) =
            modes.last().map_or((None, None), |last| (last.speedup, last.ideal_speedup));
        Self {
            schema_version: SCHEMA_VERSION,
            rows,
            runs_requested,
            stopped,
            warm_up,
            speedup,
            ideal_speedup,
            warnings: Warning::all((rows, more), &modes),
            modes,
            modes_without_runs,
        }
    }
}

impl Mode {
    fn new(rows: u64, mode: ModeRuns, baseline: Option<&Self>) -> Self {
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

    /// The mean of its runs' [`RunFigures::call_ms`]; none where no call gave an answer.
    pub(super) fn call_ms(&self) -> Option<f64> {
        let spans: Vec<f64> = self.runs.iter().filter_map(|run| run.call_ms).collect();
        (!spans.is_empty()).then(|| mean(&spans))
    }

    /// The part of its wall time that another time makes up.
    pub(super) fn share(&self, time: impl Fn(&RunFigures) -> f64) -> f64 {
        let wall: f64 = self.wall_s.iter().sum();
        if wall > 0.0 { self.runs.iter().map(time).sum::<f64>() / wall } else { 0.0 }
    }
}
