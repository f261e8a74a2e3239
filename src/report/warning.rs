//! What makes a comparison doubtful. Not errors: the figures are shown all the same.

use std::fmt;

use serde::Serialize;

use super::compare::{Mode, NAME_WIDTH};
use super::text::{brief, counted, seconds};

/// Fewer runs a mode give an interval too wide to be of use.
const FEWEST_RUNS: usize = 3;
/// Shorter runs measure the start-up rather than the rows.
const SHORTEST_RUN_S: f64 = 0.5;
/// A greater standard deviation, relative to the mean, comes from something else on the machine or the server.
const GREATEST_SPREAD: f64 = 0.1;

/// A reason for doubt, and the flag that mends it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Warning {
    /// Too few runs for a useful interval.
    FewRuns {
        /// Runs of the mode with the fewest.
        runs: usize,
    },
    /// The runs are over before they have begun.
    ShortRuns {
        /// The mode.
        mode: String,
        /// Its mean wall time.
        mean_s: f64,
    },
    /// The runs of one mode differ much.
    UnsteadyRuns {
        /// The mode.
        mode: String,
        /// Standard deviation over mean.
        spread: f64,
    },
    /// Slots stay empty for want of rows.
    FewRows {
        /// The mode.
        mode: String,
        /// Its concurrency.
        concurrency: u64,
        /// Rows of each run.
        rows: u64,
    },
    /// Failed rows take another time than answered ones.
    FailedRows {
        /// The mode.
        mode: String,
        /// How many, over all runs.
        failed: u64,
    },
    /// Waiting to retry is part of the wall time.
    RetriedRows {
        /// The mode.
        mode: String,
        /// Retries, over all runs.
        retries: u64,
    },
    /// The interval holds 1, so there may be no difference at all.
    NoDifference {
        /// The mode.
        mode: String,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FewRuns { runs } => {
                write!(
                    f,
                    "{} of each mode: give `--runs {FEWEST_RUNS}` or more",
                    counted(*runs as u64, "run")
                )
            }
            Self::ShortRuns { mode, mean_s } => {
                write!(f, "`{}` took only {}: raise `--limit`", brief(mode, NAME_WIDTH), seconds(*mean_s))
            }
            Self::UnsteadyRuns { mode, spread } => {
                write!(
                    f,
                    "the runs of `{}` vary by {:.0} %: raise `--runs`",
                    brief(mode, NAME_WIDTH),
                    spread * 100.0
                )
            }
            Self::FewRows { mode, rows, .. } => write!(
                f,
                "`{}` has only {}: raise `--limit` or lower `-c`",
                brief(mode, NAME_WIDTH),
                counted(*rows, "row")
            ),
            Self::FailedRows { mode, failed } => {
                write!(
                    f,
                    "`{}` had {}: raise `--retries`",
                    brief(mode, NAME_WIDTH),
                    counted(*failed, "failed row")
                )
            }
            Self::RetriedRows { mode, retries } => write!(
                f,
                "`{}` had {}: lower `-c` or set `--rpm`",
                brief(mode, NAME_WIDTH),
                counted(*retries, "retry")
            ),
            Self::NoDifference { mode } => {
                write!(f, "the speedup of `{}` may be none: raise `--runs`", brief(mode, NAME_WIDTH))
            }
        }
    }
}

impl Warning {
    /// Everything doubtful about modes that each answered so many rows in every run.
    pub(super) fn all(rows: u64, modes: &[Mode]) -> Vec<Self> {
        let fewest = modes.iter().map(|mode| mode.wall_s.len()).min();
        let few_runs = fewest.filter(|runs| *runs < FEWEST_RUNS).map(|runs| Self::FewRuns { runs });
        few_runs.into_iter().chain(modes.iter().flat_map(|mode| of_mode(mode, rows))).collect()
    }
}

/// What is doubtful about one mode.
fn of_mode(mode: &Mode, rows: u64) -> Vec<Warning> {
    let &Mode { concurrency, mean_s, failed, .. } = mode;
    let spread = mode.stddev_s.unwrap_or_default() / mean_s;
    let retries = mode.attempts.saturating_sub(rows * mode.wall_s.len() as u64);
    let interval = mode.speedup.and_then(|speedup| speedup.ci95);
    let alike = interval.is_some_and(|[low, high]| low <= 1.0 && 1.0 <= high);
    let mode = || mode.name.clone();
    let doubts = [
        (mean_s < SHORTEST_RUN_S).then(|| Warning::ShortRuns { mode: mode(), mean_s }),
        (spread > GREATEST_SPREAD).then(|| Warning::UnsteadyRuns { mode: mode(), spread }),
        (rows < concurrency).then(|| Warning::FewRows { mode: mode(), concurrency, rows }),
        (failed > 0).then(|| Warning::FailedRows { mode: mode(), failed }),
        (retries > 0).then(|| Warning::RetriedRows { mode: mode(), retries }),
        alike.then(|| Warning::NoDifference { mode: mode() }),
    ];
    doubts.into_iter().flatten().collect()
}
