//! What makes a comparison doubtful, and what limited a mode. Not errors: the figures are shown all the same.

use std::fmt;

use serde::Serialize;

use super::compare::{Mode, NAME_WIDTH};
use super::text::{brief, counted, figure, seconds};
use crate::event::LimitedBy;

/// Fewer runs a mode give an interval too wide to be of use.
const FEWEST_RUNS: usize = 3;
/// Shorter runs measure the start-up rather than the rows.
const SHORTEST_RUN_S: f64 = 0.5;
/// A greater standard deviation, relative to the mean, comes from something else on the machine or the server.
const GREATEST_SPREAD: f64 = 0.1;
/// Times that make up less of the wall time limit nothing.
const LEAST_SHARE: f64 = 0.05;
/// From so much of a core on, Python's interpreter, which runs on one at a time, is what limits.
const BUSY: f64 = 0.9;
/// Calls that take so many times as long as in the first mode wait for each other somewhere.
const SLOWER: f64 = 1.5;
/// Calls that take so many times as long the first time are not made the second time. They must be long enough to tell.
const CACHED: f64 = 2.0;
const CACHED_FROM_MS: f64 = 2.0;
/// Less of the concurrency in the mean is not worth its name.
const LEAST_IN_FLIGHT: f64 = 0.5;

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
        /// Whether the input has rows beyond those of a run.
        #[serde(skip)]
        more: bool,
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
        /// Whether the input has rows beyond them.
        #[serde(skip)]
        more: bool,
    },
    /// Failed rows take another time than answered ones.
    FailedRows {
        /// The mode.
        mode: String,
        /// How many in a run, in the mean.
        failed: f64,
    },
    /// Waiting to retry is part of the wall time.
    RetriedRows {
        /// The mode.
        mode: String,
        /// Retries of a run, in the mean.
        retries: f64,
    },
    /// Calls of the first run took much longer than the same calls later.
    Cached {
        /// How many times.
        times: f64,
    },
    /// A limit held rows back.
    Limited {
        /// The mode.
        mode: String,
        /// What it was.
        by: LimitedBy,
        /// For which part of the wall time.
        share: f64,
    },
    /// The processor is what limits.
    Busy {
        /// The mode.
        mode: String,
        /// Processor time over wall time.
        share: f64,
    },
    /// The predictor kept the event loop from turning.
    Stalled {
        /// The mode.
        mode: String,
        /// For which part of the wall time.
        share: f64,
    },
    /// Calls wait for each other behind the predictor.
    SlowerCalls {
        /// The mode.
        mode: String,
        /// How many times as long as in the first mode they took.
        times: f64,
    },
    /// Calls are over before there are more of them.
    FewInFlight {
        /// The mode.
        mode: String,
        /// Calls running, in the mean.
        in_flight: f64,
    },
    /// The interval holds 1, so there may be no difference at all.
    NoDifference {
        /// The mode.
        mode: String,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = |mode: &str| format!("`{}`", brief(mode, NAME_WIDTH));
        match self {
            Self::FewRuns { runs } => {
                write!(
                    f,
                    "only {} of a mode: give `--runs {FEWEST_RUNS}` or more",
                    counted(*runs as u64, "run")
                )
            }
            Self::ShortRuns { mode, mean_s, more } => {
                write!(f, "{} took only {}: {}", named(mode), seconds(*mean_s), more_rows(*more))
            }
            Self::UnsteadyRuns { mode, spread } => {
                write!(f, "the runs of {} vary by {}: raise `--runs`", named(mode), percent(*spread))
            }
            Self::FewRows { mode, rows, more, .. } => {
                let rows = counted(*rows, "row");
                write!(f, "{} has only {rows}: {} or lower `-c`", named(mode), more_rows(*more))
            }
            Self::FailedRows { mode, failed } => {
                write!(f, "{} had {}: raise `--retries`", named(mode), a_run(*failed, "failed row"))
            }
            Self::RetriedRows { mode, retries } => {
                write!(f, "{} had {}: lower `-c` or set `--rpm`", named(mode), a_run(*retries, "retry"))
            }
            Self::Cached { times } => write!(
                f,
                "the first calls took {} times as long as the same ones later: turn the predictor's cache off",
                figure(*times)
            ),
            Self::Limited { mode, by, share } => {
                let (by, remedy) = match by {
                    LimitedBy::Rpm => ("`--rpm`", "raise it"),
                    LimitedBy::Tpm => ("`--tpm`", "raise it"),
                    LimitedBy::Server => ("the server's refusals", "lower `-c` or set `--rpm`"),
                    LimitedBy::Outage => ("an outage of the server", "compare again"),
                };
                write!(f, "{} was held back {} of its time by {by}: {remedy}", named(mode), percent(*share))
            }
            Self::Busy { mode, share } => write!(
                f,
                "{} used {} of a core, and Python runs on one: a greater `-c` gives nothing",
                named(mode),
                percent(*share)
            ),
            Self::Stalled { mode, share } => write!(
                f,
                "in {} the predictor blocked the event loop {} of the time: await what it waits for",
                named(mode),
                percent(*share)
            ),
            Self::SlowerCalls { mode, times } => write!(
                f,
                "calls of {} took {} times as long: the server, a pool of threads or of connections takes fewer at \
                 once: lower `-c`",
                named(mode),
                figure(*times)
            ),
            Self::FewInFlight { mode, in_flight } => write!(
                f,
                "{} had only {} calls in flight: they are too short for more: lower `-c`",
                named(mode),
                figure(*in_flight)
            ),
            Self::NoDifference { mode } => {
                write!(f, "the speedup of {} may be none: raise `--runs`", named(mode))
            }
        }
    }
}

/// How a run gets more rows.
fn more_rows(more: bool) -> &'static str {
    if more { "raise `--limit`" } else { "give it more rows" }
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// A count and its noun; a mean over runs that differ is no whole number.
fn a_run(mean: f64, noun: &str) -> String {
    if mean.fract() == 0.0 {
        return counted(mean as u64, noun);
    }
    let many = counted(2, noun);
    format!("{mean:.1} {} a run", many.trim_start_matches("2 "))
}

impl Warning {
    /// Everything to be said of modes that each answered so many rows in every run; whether the input has `more`.
    pub(super) fn all((rows, more): (u64, bool), modes: &[Mode]) -> Vec<Self> {
        let fewest = modes.iter().map(|mode| mode.wall_s.len()).min();
        let few_runs = fewest.filter(|runs| *runs < FEWEST_RUNS).map(|runs| Self::FewRuns { runs });
        let of_all = few_runs.into_iter().chain(cached(modes));
        of_all.chain(modes.iter().flat_map(|mode| of_mode(mode, &modes[0], (rows, more)))).collect()
    }
}

/// A cache within the predictor answers the same rows at once when they come again: in the second run of all.
fn cached(modes: &[Mode]) -> Option<Warning> {
    let mut first_runs = modes.first()?.runs.iter();
    let first = first_runs.next()?.call_ms.filter(|span| *span >= CACHED_FROM_MS)?;
    let again = first_runs.next().or_else(|| modes.get(1)?.runs.first())?.call_ms?;
    let times = first / again.max(f64::MIN_POSITIVE);
    (times >= CACHED).then_some(Warning::Cached { times })
}

/// What is to be said of one mode.
fn of_mode(mode: &Mode, baseline: &Mode, (rows, more): (u64, bool)) -> Vec<Warning> {
    let &Mode { concurrency, mean_s, failed, .. } = mode;
    let spread = mode.stddev_s.unwrap_or_default() / mean_s;
    let retries = (mode.attempts - rows as f64).max(0.0);
    let interval = mode.speedup.and_then(|speedup| speedup.ci95);
    let alike = interval.is_some_and(|[low, high]| low <= 1.0 && 1.0 <= high);
    let name = || mode.name.clone();
    let doubts = [
        (mean_s < SHORTEST_RUN_S).then(|| Warning::ShortRuns { mode: name(), mean_s, more }),
        (spread > GREATEST_SPREAD).then(|| Warning::UnsteadyRuns { mode: name(), spread }),
        (rows < concurrency).then(|| Warning::FewRows { mode: name(), concurrency, rows, more }),
        (failed > 0.0).then(|| Warning::FailedRows { mode: name(), failed }),
        (retries > 0.0).then(|| Warning::RetriedRows { mode: name(), retries }),
        limit(mode, baseline, rows),
        alike.then(|| Warning::NoDifference { mode: name() }),
    ];
    doubts.into_iter().flatten().collect()
}

/// The one thing that most likely kept a mode from being faster, the surest sign first.
fn limit(mode: &Mode, baseline: &Mode, rows: u64) -> Option<Warning> {
    let name = || mode.name.clone();
    let held = [
        (LimitedBy::Rpm, mode.share(|run| run.limited_s.rpm)),
        (LimitedBy::Tpm, mode.share(|run| run.limited_s.tpm)),
        (LimitedBy::Server, mode.share(|run| run.limited_s.server)),
        (LimitedBy::Outage, mode.share(|run| run.limited_s.outage)),
    ];
    if let Some((by, share)) = held.into_iter().max_by(|a, b| a.1.total_cmp(&b.1))
        && share > LEAST_SHARE
    {
        return Some(Warning::Limited { mode: name(), by, share });
    }
    let (stalled, busy) = (mode.share(|run| run.stalled_s), mode.share(|run| run.cpu_s));
    if mode.concurrency < 2 {
        return None;
    }
    if busy > BUSY {
        return Some(Warning::Busy { mode: name(), share: busy });
    }
    if stalled > LEAST_SHARE {
        return Some(Warning::Stalled { mode: name(), share: stalled });
    }
    let times = mode.call_ms().zip(baseline.call_ms()).map_or(1.0, |(here, there)| here / there);
    if times > SLOWER {
        return Some(Warning::SlowerCalls { mode: name(), times });
    }
    let few = mode.in_flight_mean < LEAST_IN_FLIGHT * mode.concurrency as f64;
    let in_flight = mode.in_flight_mean;
    (few && rows > 2 * mode.concurrency).then(|| Warning::FewInFlight { mode: name(), in_flight })
}
