//! Measures one run of a comparison, and compares its answers with those of the first run.

use std::path::Path;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::input::Validated;
use crate::job::error::{ErrorKind, JobError};
use crate::job::prepare::Prepared;
use crate::job::run::{Opened, Session, Timed};
use crate::journal::{Header, Journal, JournalError, Record};
use crate::observe::Observer;
use crate::policy::stop::StopReason;
use crate::report::compare::RunFigures;
use crate::row::RowHash;
use crate::run::control::Control;
use crate::selection::Rows;
use crate::usage::Spent;

/// Hashes of the answers of the very first run, at 8 bytes a row. The answers of later runs are compared with them.
#[derive(Debug)]
pub(super) struct FirstAnswers {
    rows: Rows,
    /// A hash of each row's answer; 0 for a row without an answer.
    hashes: Vec<u64>,
}

impl FirstAnswers {
    /// Room for the answers of the selected rows.
    pub(super) fn new(rows: Rows) -> Self {
        Self { rows, hashes: vec![0; rows.len() as usize] }
    }

    /// Keeps the hash of a row's answer.
    fn keep(&mut self, row: u64, hash: u64) {
        if let Some(place) = self.place(row) {
            self.hashes[place] = hash;
        }
    }

    /// Whether the first run gave the row a different answer.
    fn differs(&self, row: u64, hash: u64) -> bool {
        let first = self.place(row).map_or(0, |place| self.hashes[place]);
        first != 0 && first != hash
    }

    fn place(&self, row: u64) -> Option<usize> {
        let place = self.rows.shard.place(row).filter(|_| self.rows.contains(row))?;
        usize::try_from(place - self.rows.places().start).ok()
    }
}

/// The conditions of a run.
pub(super) struct Measuring<'a> {
    /// The job.
    pub prepared: &'a Prepared,
    /// The directory of its journal.
    pub directory: &'a Path,
    /// The input, with the rows of this run selected.
    pub validated: &'a Validated,
    /// The most calls in flight.
    pub calls: usize,
    /// How much of the comparison's time is left; `None` if it has no deadline.
    pub left: Option<Duration>,
    /// What the earlier runs used. Budgets hold for all runs together.
    pub used: &'a mut Spent,
}

/// How a run ended.
pub(super) enum Ran {
    /// Every row has an outcome. A stop that came meanwhile ends the comparison after this run.
    Whole(Box<Measured>, Option<StopReason>),
    /// Something stopped the run first.
    Stopped {
        /// Why it was stopped.
        reason: StopReason,
        /// How many rows have an outcome; `None` if a second signal killed the run.
        finished: Option<u64>,
    },
}

/// A run that counts.
pub(super) struct Measured {
    /// The figures.
    pub figures: RunFigures,
    journal: Journal,
}

impl Measuring<'_> {
    /// Runs the rows with an anonymous temporary journal, which is gone when the process ends, however it ends.
    pub(super) async fn run(self, observer: &mut dyn Observer, control: &Control) -> Result<Ran, JobError> {
        let Self { prepared, directory, validated, calls, left, used } = self;
        let header = Header { selection: validated.selected, ..prepared.header.clone() };
        let journal = Journal::unnamed(directory, &header)?;
        let mut session = Session::new(prepared, Opened::new(journal, &header), calls);
        session.validated = validated;
        session.budget = prepared.budget(used);
        session.deadline = left;
        let bridge = &prepared.answerer.bridge;
        let stalled = || bridge.health().longest(|lane| lane.stalled);
        let workers = bridge.describe().workers;
        let processor_time = || match workers {
            0 => own_processor_time(),
            _ => {
                own_processor_time()
                    + bridge.health().lanes.iter().map(|lane| lane.processor).sum::<Duration>()
            }
        };
        let (cpu, stalled_before) = (processor_time(), stalled());
        let Timed { stop, report, spent, journal } = session.measure(observer, control).await?;
        let (cpu, stalled) = (processor_time().saturating_sub(cpu), stalled().saturating_sub(stalled_before));
        *used += &spent;
        let (stop, report) = match (stop, report) {
            (None, None) => return Err(JobError::new(ErrorKind::Internal, "a run ended without its report")),
            (None, Some(report)) => (None, report),
            // After an error the figures are in doubt, even if every row has an outcome.
            (Some(stop), Some(report)) if report.rows.unfinished == 0 && stop.exit_code() != 1 => {
                (Some(stop), report)
            }
            (Some(reason), report) => {
                let finished = report.map(|report| report.rows.ok + report.rows.failed);
                return Ok(Ran::Stopped { reason, finished });
            }
        };
        let figures = RunFigures {
            wall_s: report.wall_s,
            failed: report.rows.failed,
            attempts: report.attempts.total,
            different: None,
            call_ms: report.latency_ms.ok.mean,
            in_flight_mean: report.concurrency.achieved_mean,
            in_flight_max: report.concurrency.achieved_max,
            limited_s: report.limited_s,
            cpu_s: cpu.as_secs_f64(),
            workers,
            stalled_s: stalled.as_secs_f64(),
        };
        Ok(Ran::Whole(Box::new(Measured { figures, journal }), stop))
    }
}

impl Measured {
    /// Keeps the answers as those of the first run.
    pub(super) fn keep_answers(&self, first: &mut FirstAnswers) -> Result<(), JournalError> {
        self.answers(|row, hash| first.keep(row, hash))
    }

    /// Counts the rows whose answers differ from those of the first run.
    pub(super) fn differing_answers(&self, first: &FirstAnswers) -> Result<u64, JournalError> {
        let mut different = 0;
        self.answers(|row, hash| different += u64::from(first.differs(row, hash)))?;
        Ok(different)
    }

    /// Visits every answered row in the order of completion, with a hash of its answer.
    fn answers(&self, mut visit: impl FnMut(u64, u64)) -> Result<(), JournalError> {
        let mut text = String::new();
        self.journal.read_back(|record| {
            if let Record::Outcome(outcome) = record
                && let Ok(answer) = &outcome.result
            {
                text.clear();
                for (name, value) in &answer.fields {
                    // JSON contains no bare NUL, so the parts cannot run into each other.
                    text.extend([name, "\0", &value.to_json(), "\0"]);
                }
                visit(outcome.row, RowHash::of(text.as_bytes()).0.max(1));
            }
        })?;
        Ok(())
    }
}

/// The processor time of all threads of this process so far.
fn own_processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}
