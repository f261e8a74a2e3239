//! The result of `compare` as one value, and its views for people: a table and Markdown. The statistics behind the
//! speedup are explained at [`Speedup`].

pub(crate) mod markdown;
mod mode;
mod table;
#[cfg(test)]
mod tests;
mod warning;

use serde::{Deserialize, Serialize};

pub use self::mode::{Mode, ModeRuns, RunFigures};
pub use self::warning::Warning;
use crate::stats::Speedup;

/// The version of the export's JSON (`schema/compare.schema.json`); new fields alone do not change it.
pub(crate) const SCHEMA_VERSION: u32 = 1;

/// The calls before those that are timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WarmUp {
    /// Its rows.
    pub rows: u64,
    /// Its calls.
    pub attempts: u64,
}

/// Why a comparison ended before all its runs were made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopped {
    /// Where it was stopped: `in the warm-up`, `in run 2 of 3: sequential`, or `after …` for a run that had just ended.
    pub at: String,
    /// What stopped it, on one line.
    pub reason: String,
    /// Finished rows of the run that was cut off, which are in no figure. Null where no run was cut off, or where the
    /// number is not known.
    pub rows: Option<u64>,
}

/// Modes side by side. Its fields are those of the JSON that `--export-json` writes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Rows of each run.
    pub rows: u64,
    /// Runs of each mode that were asked for.
    pub runs_requested: u32,
    /// Why some of them are missing; null where none is.
    pub stopped: Option<Stopped>,
    /// The calls before anything was timed; null where those were stopped.
    pub warm_up: Option<WarmUp>,
    /// The modes with a finished run, in the order in which they were asked for. The first is the baseline.
    pub modes: Vec<Mode>,
    /// Names of the modes without a finished run.
    pub modes_without_runs: Vec<String>,
    /// The last mode's speedup over the first; null with one mode only.
    pub speedup: Option<Speedup>,
    /// The last mode's [`Mode::ideal_speedup`].
    pub ideal_speedup: Option<f64>,
    /// What makes the figures doubtful, and what limited a mode.
    pub warnings: Vec<Warning>,
}

impl Comparison {
    /// Compares modes that each answered `rows` rows in every run.
    pub fn new(
        rows: u64,
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
            warnings: warning::all(rows, &modes),
            modes,
            modes_without_runs,
        }
    }
}
