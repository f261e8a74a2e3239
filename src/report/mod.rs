//! A run's timing report as one value, and its views: JSON, a table, a page, progress. Measures nothing itself.

pub mod commands;
pub mod compare;
pub mod html;
pub mod json;
pub mod progress;
pub mod remark;
pub mod table;
pub mod text;
pub mod verdict;
mod versions;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::event::Blockage;
use crate::outcome::FailedAttempt;
use crate::stats::{AttemptCounts, Distribution, LimitedTimes, PredictorVersion, Stats, TimeSums};
use crate::usage::ClassCounts;

/// The version of the report's JSON (`schema/report.schema.json`); new fields alone do not change it.
pub const SCHEMA_VERSION: u32 = 1;

/// What a run's statistics cannot know of it.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Rows selected.
    pub total: u64,
    /// Rows of the input outside the selection.
    pub skipped: u64,
    /// Rows that earlier sessions answered.
    pub resumed: u64,
    /// The most calls allowed in flight.
    pub concurrency: u64,
    /// Starting Python and loading the predictor.
    pub startup: Duration,
    /// Reading and checking the input before the first call.
    pub validate: Duration,
    /// Writing the answers file.
    pub project: Duration,
    /// Why the run stopped before its last row.
    pub stopped: Option<String>,
    /// The versions of the predictor in the job's sessions.
    pub predictor_versions: Vec<PredictorVersion>,
    /// The journal's figures.
    pub journal: JournalFigures,
    /// Python's event loop.
    pub event_loop: EventLoop,
    /// What was run.
    pub run: RunInfo,
}

/// The timing report; field for field the JSON that scripts rely on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA_VERSION`] of the program that wrote it.
    pub schema_version: u32,
    /// Rows by what became of them.
    pub rows: RowCounts,
    /// Why the run stopped before its last row.
    pub stopped: Option<String>,
    /// Calls of the predictor.
    pub attempts: AttemptCounts,
    /// The first failed attempts, on the run's time: the sessions without the time between them.
    #[serde(default)]
    pub failures: Vec<FailedAttempt>,
    /// Sessions that recorded an outcome, or a failed attempt, of a call.
    #[serde(default)]
    pub sessions: u64,
    /// The predictor as it was in the job's sessions, and which rows were answered under which version.
    #[serde(default)]
    pub predictor_versions: Vec<PredictorVersion>,
    /// First call handed over to the last outcome, or failed attempt, recorded, summed over sessions.
    pub wall_s: f64,
    /// Starting Python and loading the predictor.
    pub startup_s: f64,
    /// Reading and checking the input before the first call.
    pub validate_s: f64,
    /// Writing the answers file.
    pub project_s: f64,
    /// Rows answered in a second of wall time.
    pub rows_per_s: f64,
    /// The last attempt of each called row, as seen on the event loop's thread.
    pub latency_ms: Latency,
    /// From a row's being read to its outcome's being recorded.
    pub row_ms: Distribution,
    /// From a call's start to its first chunk.
    pub first_chunk_ms: Distribution,
    /// Calls in flight.
    pub concurrency: Concurrency,
    /// Where the rows' time went.
    pub time_ms: TimeSums,
    /// For how long something held rows back, by what it was.
    #[serde(default)]
    pub limited_s: LimitedTimes,
    /// The journal's figures.
    pub journal: JournalFigures,
    /// Tokens of all attempts.
    pub tokens: Tokens,
    /// What the attempts cost in US dollars, as far as prices are known.
    pub cost_usd: Option<f64>,
    /// Python's event loop.
    pub event_loop: EventLoop,
    /// What was run.
    pub run: RunInfo,
}

/// Rows by what became of them: total = ok + failed + unfinished.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowCounts {
    /// Rows selected.
    pub total: u64,
    /// Answered.
    pub ok: u64,
    /// Failed, by their latest outcome.
    pub failed: u64,
    /// The failed ones by class.
    pub failed_by_class: ClassCounts,
    /// Rows of the input outside the selection.
    pub skipped: u64,
    /// Left without an outcome.
    pub unfinished: u64,
    /// Answered by earlier sessions, counted in ok.
    pub resumed: u64,
    /// Cut off at the model's token limit, counted in ok.
    #[serde(default)]
    pub cut_off: u64,
}

/// Latencies by result.
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
    /// The most allowed at once.
    pub requested: u64,
    /// The mean over the wall time; a call counts until it is abandoned.
    pub achieved_mean: f64,
    /// The most seen at once, abandoned calls that still run included.
    pub achieved_max: u64,
}

/// The journal's figures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct JournalFigures {
    /// Its size.
    pub bytes: u64,
    /// Completed fdatasync calls.
    pub syncs: u64,
    /// The longest time for which a power cut could have lost a recorded outcome.
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
    /// Calls of the predictor that may be billed and told nothing: they timed out, were cut off, or were in flight when
    /// the process died.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub untold: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature serde asks for")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Python's event loop.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct EventLoop {
    /// `asyncio` or `uvloop`.
    pub name: String,
    /// The longest time for which it did not turn.
    pub max_lag_ms: f64,
    /// Where it was blocked.
    pub blocked: Vec<Blocked>,
}

/// One call that kept the event loop from turning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Blocked {
    /// The row whose call it was, where that is known.
    #[serde(default)]
    pub row: Option<u64>,
    /// The innermost line of the user's code: `file:line in function`.
    pub place: String,
    /// For how long.
    pub ms: f64,
}

impl From<Blockage> for Blocked {
    fn from(blockage: Blockage) -> Self {
        let place = blockage.by.to_string();
        Self { row: blockage.row, place, ms: blockage.lasted.as_secs_f64() * 1e3 }
    }
}

/// What was run, where and when; secrets are masked by whoever fills this in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunInfo {
    /// The command line.
    pub argv: Vec<String>,
    /// The input file.
    pub input: String,
    /// Its SHA-256 in lowercase hexadecimal digits.
    pub input_sha256: String,
    /// The predictor's SPEC.
    pub predictor: String,
    /// The bridge that made the calls.
    pub bridge: String,
    /// Versions by name: this program, Python, packages.
    pub versions: BTreeMap<String, String>,
    /// RFC 3339, UTC.
    pub started_at: String,
    /// RFC 3339, UTC.
    pub finished_at: String,
    /// Cores this process may use.
    pub host_cores: usize,
}

impl Report {
    /// Puts the figures and the facts together.
    pub fn new(stats: &Stats, facts: Facts) -> Self {
        let spent = stats.spent();
        let usage = spent.usage;
        let failed = stats.failed().total();
        Self {
            schema_version: SCHEMA_VERSION,
            rows: RowCounts {
                total: facts.total,
                ok: stats.ok(),
                failed,
                failed_by_class: stats.failed().clone(),
                skipped: facts.skipped,
                unfinished: facts.total.saturating_sub(stats.ok() + failed),
                resumed: facts.resumed,
                cut_off: stats.cut_off(),
            },
            stopped: facts.stopped,
            attempts: stats.attempts(),
            failures: stats.failures().to_vec(),
            sessions: stats.sessions(),
            predictor_versions: facts.predictor_versions,
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
            run: facts.run,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::error::{Failure, FailureKind};
    use crate::outcome::{Answer, Outcome, Timing};
    use crate::row::RowHash;
    use crate::usage::Usage;

    /// A report of 1,201 rows: 1,196 answered, 4 failed after two retries each, one unfinished.
    pub(crate) fn sample() -> Report {
        let mut stats = Stats::default();
        let usage = Some(Usage { input: 1_000, output: 20, calls: 1, cost_usd: Some(1.0 / 4_096.0) });
        for row in 1..=1_200_u64 {
            let latency = Duration::from_millis(row);
            let timing = Timing { running: latency, latency, row: 2 * latency, ..Timing::default() };
            let failure = |class: &str| Failure::new(class, FailureKind::Transient, "");
            let outcome = if row.is_multiple_of(300) {
                for number in 1..=2 {
                    let failure = failure("timeout");
                    let (began, ended) = (Duration::ZERO, Duration::ZERO);
                    stats.attempt(&FailedAttempt { row, number, began, ended, abandoned: false, failure });
                }
                let failure = failure(if row == 1_200 { "ValueError" } else { "timeout" });
                Outcome { attempts: 3, ..Outcome::new(row, RowHash(row), Err(Failure { usage, ..failure })) }
            } else {
                Outcome::new(row, RowHash(row), Ok(Answer { usage, ..Answer::default() }))
            };
            stats.outcome(&Outcome { timing, ..outcome }, None);
        }
        stats.add_session(Duration::from_secs(48), 16);
        Report::new(&stats, facts())
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
            total: 1_201,
            skipped: 20,
            resumed: 100,
            concurrency: 16,
            startup: Duration::from_millis(400),
            validate: Duration::from_millis(30),
            project: Duration::from_millis(20),
            stopped: None,
            predictor_versions: vec![version(1, 1_196)],
            journal: JournalFigures { bytes: 300_000, syncs: 900, longest_unsynced_ms: 12.5 },
            event_loop: EventLoop {
                name: "asyncio".into(),
                max_lag_ms: 25.0,
                blocked: vec![Blocked { row: Some(7), place: "predictor.py:12 in answer".into(), ms: 25.0 }],
            },
            run: RunInfo {
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
