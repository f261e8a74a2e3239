//! The timing report of a run and the comparison of several modes as values, and their views.
//!
//! [`Report`] and [`compare::Comparison`] are plain data: their fields are those of the published JSON. Their views are
//! [`json`] for programs, [`table`] and [`html`] for people, and [`compare::markdown`] for pages. [`verdict`] and
//! [`remark`] say what the figures mean. [`progress`] shows a run while it runs, and [`text`] formats figures and
//! foreign text for all views.

pub(crate) mod commands;
pub(crate) mod compare;
pub(crate) mod html;
pub(crate) mod json;
mod lanes;
pub(crate) mod progress;
pub(crate) mod remark;
pub(crate) mod table;
pub(crate) mod text;
pub(crate) mod verdict;
mod versions;
mod workers;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub(crate) use self::lanes::{EventLoop, Worker};
use crate::outcome::FailedAttempt;
use crate::selection::{Rows, Shard};
use crate::stats::{AttemptCounts, Decided, Distribution, Fold, LimitedTimes, PredictorVersion, TimeSums};
use crate::usage::ClassCounts;

/// The version of the report's JSON (`schema/report.schema.json`); new fields alone do not change it.
pub(crate) const SCHEMA_VERSION: u32 = 1;

/// What a report needs beside the statistics.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The rows that the last session selected.
    pub selected: Rows,
    /// All rows of the input, also those at its end in which every cell is empty.
    pub input_rows: u64,
    /// Selected rows that earlier sessions answered.
    pub resumed: u64,
    /// The most calls allowed in flight.
    pub concurrency: u64,
    /// Time to start Python and load the predictor.
    pub startup: Duration,
    /// Time to read and check the input before the first call.
    pub validate: Duration,
    /// Time to write the answers file.
    pub project: Duration,
    /// The reason why the run stopped before its last row; `None` if it did not.
    pub stopped: Option<String>,
    /// The journal's figures.
    pub journal: JournalFigures,
    /// Python's event loop.
    pub event_loop: EventLoop,
    /// The workers; none if the calls were made in this process.
    pub workers: Vec<Worker>,
    /// What was run.
    pub run: RunInfo,
}

/// The timing report of a job. Its fields are those of the JSON that scripts rely on.
///
/// Attempts, tokens, cost and times add up over all sessions of the job. Fields that end in `_s` are seconds, those
/// that end in `_ms` milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA_VERSION`] of the program that made it.
    pub schema_version: u32,
    /// Counts of the selected rows by what became of them.
    pub rows: RowCounts,
    /// The reason why the run stopped before its last row; `None` if it did not.
    pub stopped: Option<String>,
    /// Counts of calls of the predictor.
    pub attempts: AttemptCounts,
    /// The first failed attempts. Their times are on the run's clock, which leaves out the time between sessions.
    #[serde(default)]
    pub failures: Vec<FailedAttempt>,
    /// The number of sessions that recorded an outcome or a failed attempt of a call.
    #[serde(default)]
    pub sessions: u64,
    /// The predictor's versions in the job's sessions, and the rows that were answered under each.
    #[serde(default)]
    pub predictor_versions: Vec<PredictorVersion>,
    /// Seconds from the first call handed over to the last outcome or failed attempt recorded, summed over sessions.
    pub wall_s: f64,
    /// Seconds to start Python and load the predictor.
    pub startup_s: f64,
    /// Seconds to read and check the input before the first call.
    pub validate_s: f64,
    /// Seconds to write the answers file.
    pub project_s: f64,
    /// Rows answered per second of wall time, over all sessions and their selections.
    pub rows_per_s: f64,
    /// The duration of the last attempt of each called row, in milliseconds, as seen on the event loop's thread.
    pub latency_ms: Latency,
    /// Milliseconds from reading a row to recording its outcome.
    pub row_ms: Distribution,
    /// Milliseconds from a call's start to its first chunk.
    pub first_chunk_ms: Distribution,
    /// Calls in flight.
    pub concurrency: Concurrency,
    /// Where the rows' time went, in milliseconds summed over the rows.
    pub time_ms: TimeSums,
    /// For how many seconds a limit held rows back, by limit.
    #[serde(default)]
    pub limited_s: LimitedTimes,
    /// The journal's figures.
    pub journal: JournalFigures,
    /// Tokens and requests of all attempts.
    pub tokens: Tokens,
    /// The cost of all attempts in US dollars, as far as prices are known; null where no price is.
    pub cost_usd: Option<f64>,
    /// Python's event loop.
    pub event_loop: EventLoop,
    /// The workers in the last session; none if the calls were made in its own process.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workers: Vec<Worker>,
    /// What was run.
    pub run: RunInfo,
}

/// Counts of the rows that the last session selected, by what became of them in any session: `total` is the sum of
/// `ok`, `failed` and `unfinished`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowCounts {
    /// Rows that the last session selected.
    pub total: u64,
    /// Rows that are answered.
    pub ok: u64,
    /// Rows whose latest outcome is a failure.
    pub failed: u64,
    /// The failed rows by the class of their error.
    pub failed_by_class: ClassCounts,
    /// Rows of the input outside the selection, and empty rows at its end.
    pub skipped: u64,
    /// Rows without an outcome.
    pub unfinished: u64,
    /// Rows that earlier sessions answered, counted in `ok`.
    pub resumed: u64,
    /// Answers cut off at the model's token limit, counted in `ok`.
    #[serde(default)]
    pub cut_off: u64,
}

/// Latencies by result, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Of answers.
    pub ok: Distribution,
    /// Of failures.
    pub failed: Distribution,
}

/// Calls in flight.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Concurrency {
    /// The most calls allowed at once.
    pub requested: u64,
    /// The mean over the wall time. A call counts until it is abandoned.
    pub achieved_mean: f64,
    /// The most calls seen at once, including abandoned calls that still run.
    pub achieved_max: u64,
}

/// The journal's figures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct JournalFigures {
    /// Its size in bytes.
    pub bytes: u64,
    /// Completed fdatasync calls.
    pub syncs: u64,
    /// The longest time for which a power cut could have lost a recorded outcome, in milliseconds.
    pub longest_unsynced_ms: f64,
}

/// Tokens and requests, as the predictor reported them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens {
    /// Prompt tokens.
    pub input: u64,
    /// Completion tokens.
    pub output: u64,
    /// Requests to the model.
    pub calls: u64,
    /// Calls of the predictor that may be billed although their usage is not known: they timed out, were cut off, or
    /// were in flight when the process died.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub untold: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature serde asks for")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What was run, where and when. Secrets in it are masked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunInfo {
    /// The words of the command line.
    pub argv: Vec<String>,
    /// The path of the input file.
    pub input: String,
    /// Its SHA-256 in lowercase hexadecimal digits.
    pub input_sha256: String,
    /// The shard whose rows were answered, as `K/N`; `None` if the input was not divided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<Shard>,
    /// The predictor's SPEC, as `--predictor` takes it.
    pub predictor: String,
    /// The name of the bridge that made the calls.
    pub bridge: String,
    /// Versions by name: this program, Python, packages.
    pub versions: BTreeMap<String, String>,
    /// When it started, in UTC, as RFC 3339 has it.
    pub started_at: String,
    /// When it ended, in UTC, as RFC 3339 has it.
    pub finished_at: String,
    /// The number of cores that the process may use.
    pub host_cores: usize,
}

impl Report {
    /// Makes a report of the figures of all sessions and of facts.
    pub fn new(fold: &Fold, facts: Facts) -> Self {
        let stats = &fold.stats;
        let spent = stats.spent();
        let usage = spent.usage;
        let total = facts.selected.len();
        let Decided { ok, cut_off, failed: failed_by_class } = fold.decided(&facts.selected);
        let failed = failed_by_class.total();
        Self {
            schema_version: SCHEMA_VERSION,
            rows: RowCounts {
                total,
                ok,
                failed,
                failed_by_class,
                skipped: facts.input_rows.saturating_sub(total),
                unfinished: total.saturating_sub(ok + failed),
                resumed: facts.resumed,
                cut_off,
            },
            stopped: facts.stopped,
            attempts: stats.attempts(),
            failures: stats.failures().to_vec(),
            sessions: stats.sessions(),
            predictor_versions: fold.versions(),
            wall_s: stats.wall().as_secs_f64(),
            startup_s: facts.startup.as_secs_f64(),
            validate_s: facts.validate.as_secs_f64(),
            project_s: facts.project.as_secs_f64(),
            rows_per_s: stats.rows_per_s(),
            latency_ms: Latency { ok: stats.latency_ok(), failed: stats.latency_failed() },
            row_ms: stats.row(),
            first_chunk_ms: stats.first_chunk(),
            concurrency: Concurrency {
                requested: facts.concurrency,
                achieved_mean: stats.mean_in_flight(),
                achieved_max: stats.most_in_flight(),
            },
            time_ms: stats.times(),
            limited_s: stats.limited(),
            journal: facts.journal,
            tokens: Tokens {
                input: usage.input,
                output: usage.output,
                calls: usage.calls,
                untold: spent.unknown(),
            },
            cost_usd: usage.cost_usd,
            event_loop: facts.event_loop,
            workers: facts.workers,
            run: facts.run,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::lanes::Blocked;
    use super::*;
    use crate::error::{Failure, FailureKind};
    use crate::outcome::{Answer, Outcome, Timing};
    use crate::row::RowHash;
    use crate::usage::Usage;

    /// A report of 1,201 rows: 1,196 answered, 4 failed after two retries each, one unfinished.
    pub(crate) fn sample() -> Report {
        let mut fold = Fold::new(1..1_202);
        let usage = Some(Usage { input: 1_000, output: 20, calls: 1, cost_usd: Some(1.0 / 4_096.0) });
        for row in 1..=1_200_u64 {
            let latency = Duration::from_millis(row);
            let timing = Timing { running: latency, latency, row: 2 * latency, ..Timing::default() };
            let failure = |class: &str| Failure::new(class, FailureKind::Transient, "");
            let outcome = if row.is_multiple_of(300) {
                for number in 1..=2 {
                    let failure = failure("timeout");
                    let (began, ended) = (Duration::ZERO, Duration::ZERO);
                    fold.attempt(&FailedAttempt { row, number, began, ended, abandoned: false, failure });
                }
                let failure = failure(if row == 1_200 { "ValueError" } else { "timeout" });
                Outcome { attempts: 3, ..Outcome::new(row, RowHash(row), Err(Failure { usage, ..failure })) }
            } else {
                Outcome::new(row, RowHash(row), Ok(Answer { usage, ..Answer::default() }))
            };
            fold.outcome(&Outcome { timing, ..outcome });
        }
        fold.stats.add_session(Duration::from_secs(48), 16);
        Report { predictor_versions: vec![version(1, 1_196)], ..Report::new(&fold, facts()) }
    }

    /// Two workers that answered the rows of the sample. One of them died twice.
    pub(crate) fn workers() -> Vec<Worker> {
        let worker = Worker {
            for_suspects: false,
            rows: 600,
            calls: 603,
            deaths: 0,
            processor_s: 30.25,
            event_loop_s: 28.5,
            stalled_s: 0.0,
            memory_bytes: 210_000_000,
        };
        let died =
            Worker { rows: 596, calls: 605, deaths: 2, processor_s: 31.5, stalled_s: 1.5, ..worker.clone() };
        vec![worker, Worker { memory_bytes: 1_520_000_000, ..died }]
    }

    /// A version of the predictor that answered so many rows.
    pub(crate) fn version(number: u64, answered: u64) -> PredictorVersion {
        let changed = ["instructions of `predict`".to_owned(), "`helper.py`".to_owned()];
        PredictorVersion {
            sha256: format!("{number:064x}"),
            changed: if number == 1 { Vec::new() } else { changed.to_vec() },
            sessions: vec!["2026-01-02T03:04:05Z".to_owned()],
            answered,
            rows: vec![[0, answered]],
        }
    }

    fn facts() -> Facts {
        Facts {
            selected: (1..1_202).into(),
            input_rows: 1_221,
            resumed: 100,
            concurrency: 16,
            startup: Duration::from_millis(400),
            validate: Duration::from_millis(30),
            project: Duration::from_millis(20),
            stopped: None,
            journal: JournalFigures { bytes: 300_000, syncs: 900, longest_unsynced_ms: 12.5 },
            event_loop: EventLoop {
                name: "asyncio".into(),
                max_lag_ms: 25.0,
                blocked: vec![Blocked { row: Some(7), place: "predictor.py:12 in answer".into(), ms: 25.0 }],
            },
            workers: Vec::new(),
            run: RunInfo {
                shard: None,
                argv: vec!["tokio-asyncio-bridge".into(), "process".into(), "questions.csv".into()],
                input: "questions.csv".into(),
                input_sha256: "0123456789abcdef".repeat(4),
                predictor: "dspy".into(),
                bridge: "python".into(),
                versions: BTreeMap::from([("python".into(), "3.11.7".into())]),
                started_at: "2026-01-02T03:04:05Z".into(),
                finished_at: "2026-01-02T03:04:53Z".into(),
                host_cores: 2,
            },
        }
    }

    #[test]
    fn the_total_is_what_was_answered_what_failed_and_what_is_left() {
        let rows = sample().rows;
        assert_eq!((rows.total, rows.ok, rows.failed, rows.unfinished), (1_201, 1_196, 4, 1));
        assert_eq!(rows.skipped, 20);
        assert_eq!(rows.failed_by_class.most_frequent_first(), [("timeout", 3), ("ValueError", 1)]);
    }

    #[test]
    fn the_report_carries_the_figures_of_its_statistics() {
        let report = sample();
        assert_eq!(
            (report.attempts.total, report.attempts.retries, report.attempts.timeouts),
            (1_208, 8, 11)
        );
        assert_eq!((report.wall_s, report.rows_per_s), (48.0, 1_196.0 / 48.0));
        assert_eq!((report.latency_ms.ok.count, report.latency_ms.failed.count), (1_196, 4));
        assert_eq!((report.concurrency.requested, report.concurrency.achieved_max), (16, 16));
        assert_eq!((report.tokens.input, report.cost_usd), (1_200_000, Some(1_200.0 / 4_096.0)));
    }
}
