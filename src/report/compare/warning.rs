//! What would mislead a reader of a comparison, and what limited a mode. The figures are shown all the same.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::mode::{Mode, is_none, shown};
use crate::event::LimitedBy;
use crate::report::text::{counted, figure, seconds};

/// An interval whose upper bound is more than this many times its lower bound leaves the speedup open.
const WIDE: f64 = 1.5;
/// Two runs that happen to be alike give a narrow interval, too.
const FEWEST_RUNS: usize = 3;
/// Shorter runs, in seconds, measure the start-up rather than the rows.
const SHORTEST_RUN_S: f64 = 0.5;
/// A time that makes up a smaller share of the wall time limits nothing.
const LEAST_SHARE: f64 = 0.05;
/// From this share of a core on, Python's interpreter is the limit, for it runs on one core at a time.
const BUSY: f64 = 0.9;
/// Calls that take this many times as long as in the first mode wait for each other somewhere.
const SLOWER: f64 = 1.5;
/// Calls that take this many times as long the first time are answered from a cache the second time.
const CACHED: f64 = 2.0;
/// Shorter calls, in milliseconds, vary too much to tell.
const CACHED_FROM_MS: f64 = 2.0;
/// A mode with a smaller share of its concurrency in flight is not what its name says.
const LEAST_IN_FLIGHT: f64 = 0.5;

/// A reason to doubt a mode's figures, or what limited it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Warning {
    /// The mode's name.
    pub mode: String,
    #[allow(missing_docs)]
    #[serde(flatten)]
    pub doubt: Doubt,
}

/// The kinds of warnings. Counts and times are averages over the mode's runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Doubt {
    /// The runs are too few, or differ too much, to tell the speedup.
    Uncertain {
        /// The bounds of the speedup with 95 % confidence; null unless both modes ran at least twice.
        ci95: Option<[f64; 2]>,
    },
    /// The rows do not keep all calls busy, or the runs end before they have really begun.
    FewRows {
        /// Rows of each run.
        rows: u64,
        /// The most calls allowed in flight.
        concurrency: u64,
        /// The mean wall time, in seconds.
        mean_s: f64,
    },
    /// Failed rows take another time than answered ones, and waiting to retry is part of the wall time.
    Failures {
        /// Failed rows of a run.
        failed: f64,
        /// Retries of a run.
        retries: f64,
    },
    /// Calls of the first run took much longer than the same calls later.
    Cached {
        /// How many times as long.
        times: f64,
    },
    /// A limit held rows back.
    Limited {
        /// The limit.
        by: LimitedBy,
        /// The share of the wall time.
        share: f64,
    },
    /// The processor was the limit.
    Busy {
        /// Processor time over wall time, of each worker where there are workers.
        share: f64,
        /// Worker processes; 0 if the calls were made in this process.
        #[serde(default, skip_serializing_if = "is_none")]
        workers: u64,
    },
    /// The predictor kept the event loop from turning.
    Stalled {
        /// The share of the wall time.
        share: f64,
    },
    /// Calls waited for each other behind the predictor.
    SlowerCalls {
        /// How many times as long they took as in the first mode.
        times: f64,
    },
    /// Calls ended before enough others began.
    FewInFlight {
        /// Calls in flight.
        in_flight: f64,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = shown(&self.mode);
        let percent = |share: f64| format!("{:.0} %", share * 100.0);
        match self.doubt {
            Doubt::Uncertain { ci95: Some([low, high]) } if low <= 1.0 && 1.0 <= high => {
                write!(f, "the speedup of `{mode}` may be none: raise `--runs`")
            }
            Doubt::Uncertain { .. } => write!(f, "the speedup of `{mode}` is uncertain: raise `--runs`"),
            Doubt::FewRows { rows, concurrency, .. } if rows < concurrency => {
                let rows = counted(rows, "row");
                write!(f, "`{mode}` had only {rows}: give it more rows, or lower `-c`")
            }
            Doubt::FewRows { mean_s, .. } => {
                write!(f, "`{mode}` took only {}: give it more rows", seconds(mean_s))
            }
            Doubt::Failures { failed, retries } => {
                let counts = [(failed, "failed row"), (retries, "retry")];
                let counts = counts.iter().filter(|(mean, _)| *mean > 0.0);
                let counts: Vec<_> = counts.map(|(mean, noun)| a_run(*mean, noun)).collect();
                let remedy = if retries > 0.0 { "lower `-c` or set `--rpm`" } else { "raise `--retries`" };
                write!(f, "`{mode}` had {}: {remedy}", counts.join(" and "))
            }
            Doubt::Cached { times } => write!(
                f,
                "the first calls of `{mode}` took {} times as long as the same ones later: turn the predictor's cache \
                 off",
                figure(times)
            ),
            Doubt::Limited { by, share } => {
                let (by, remedy) = match by {
                    LimitedBy::Rpm => ("`--rpm`", "raise it"),
                    LimitedBy::Tpm => ("`--tpm`", "raise it"),
                    LimitedBy::Server => ("the server's refusals", "lower `-c` or set `--rpm`"),
                    LimitedBy::Outage => ("an outage of the server", "compare again"),
                };
                write!(f, "`{mode}` was held back {} of its time by {by}: {remedy}", percent(share))
            }
            Doubt::Busy { share, workers: workers @ 1.. } => write!(
                f,
                "`{mode}` used {} of a core for each of {}: a greater `-c` gives nothing",
                percent(share),
                counted(workers, "worker")
            ),
            Doubt::Busy { share, .. } => write!(
                f,
                "`{mode}` used {} of a core, and Python runs on one: a greater `-c` gives nothing",
                percent(share)
            ),
            Doubt::Stalled { share } => write!(
                f,
                "in `{mode}` the predictor blocked the event loop {} of the time: await what it waits for",
                percent(share)
            ),
            Doubt::SlowerCalls { times } => write!(
                f,
                "calls of `{mode}` took {} times as long: the server, a pool of threads or of connections takes fewer \
                 at once: lower `-c`",
                figure(times)
            ),
            Doubt::FewInFlight { in_flight } => write!(
                f,
                "`{mode}` had only {} calls in flight: they are too short for more: lower `-c`",
                figure(in_flight)
            ),
        }
    }
}

/// A count and its noun. Only a mean over runs that differ is not a whole number; it says that it is of a run.
fn a_run(mean: f64, noun: &str) -> String {
    if mean.fract() == 0.0 {
        return counted(mean as u64, noun);
    }
    let many = counted(2, noun);
    format!("{mean:.1} {} a run", many.trim_start_matches("2 "))
}

/// The warnings about modes whose runs answered `rows` rows each.
pub(super) fn all(rows: u64, modes: &[Mode]) -> Vec<Warning> {
    modes.iter().flat_map(|mode| of_mode(rows, mode, modes)).collect()
}

fn of_mode(rows: u64, mode: &Mode, modes: &[Mode]) -> Vec<Warning> {
    let &Mode { concurrency, mean_s, failed, .. } = mode;
    let retries = (mode.attempts - rows as f64).max(0.0);
    let baseline = &modes[0];
    let few_runs = mode.runs.len().min(baseline.runs.len()) < FEWEST_RUNS;
    let is_open = |[low, high]: [f64; 2]| high > WIDE * low || (low <= 1.0 && 1.0 <= high);
    let uncertain = mode.speedup.filter(|speedup| few_runs || speedup.ci95.is_none_or(is_open));
    let doubts = [
        uncertain.map(|speedup| Doubt::Uncertain { ci95: speedup.ci95 }),
        (rows < concurrency || mean_s < SHORTEST_RUN_S).then_some(Doubt::FewRows {
            rows,
            concurrency,
            mean_s,
        }),
        (failed > 0.0 || retries > 0.0).then_some(Doubt::Failures { failed, retries }),
        std::ptr::eq(mode, baseline).then(|| cached(modes)).flatten(),
        limit(rows, mode, baseline),
    ];
    doubts.into_iter().flatten().map(|doubt| Warning { mode: mode.name.clone(), doubt }).collect()
}

/// A cache within the predictor answers the same rows at once when they come again, in the second run of all.
fn cached(modes: &[Mode]) -> Option<Doubt> {
    let mut first_runs = modes.first()?.runs.iter();
    let first = first_runs.next()?.call_ms.filter(|span| *span >= CACHED_FROM_MS)?;
    let again = first_runs.next().or_else(|| modes.get(1)?.runs.first())?.call_ms?;
    let times = first / again.max(f64::MIN_POSITIVE);
    (times >= CACHED).then_some(Doubt::Cached { times })
}

/// What most likely kept a mode from being faster, the surest sign first.
fn limit(rows: u64, mode: &Mode, baseline: &Mode) -> Option<Doubt> {
    let held = [
        (LimitedBy::Rpm, mode.share(|run| run.limited_s.rpm)),
        (LimitedBy::Tpm, mode.share(|run| run.limited_s.tpm)),
        (LimitedBy::Server, mode.share(|run| run.limited_s.server)),
        (LimitedBy::Outage, mode.share(|run| run.limited_s.outage)),
    ];
    if let Some((by, share)) = held.into_iter().max_by(|a, b| a.1.total_cmp(&b.1))
        && share > LEAST_SHARE
    {
        return Some(Doubt::Limited { by, share });
    }
    let workers = mode.runs.iter().map(|run| run.workers).max().unwrap_or_default();
    let busy = mode.share(|run| run.cpu_s) / workers.max(1) as f64;
    let stalled = mode.share(|run| run.stalled_s);
    let times = mode.call_ms().zip(baseline.call_ms()).map_or(1.0, |(here, there)| here / there);
    let in_flight = mode.in_flight_mean;
    let few = in_flight < LEAST_IN_FLIGHT * mode.concurrency as f64;
    match mode.concurrency {
        0 | 1 => None,
        _ if busy > BUSY => Some(Doubt::Busy { share: busy, workers }),
        _ if stalled > LEAST_SHARE => Some(Doubt::Stalled { share: stalled }),
        _ if times > SLOWER => Some(Doubt::SlowerCalls { times }),
        calls => (few && rows > 2 * calls).then_some(Doubt::FewInFlight { in_flight }),
    }
}
