//! One run of a comparison: its figures, and how its answers differ from those of the first run.

use std::ops::Range;
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
use crate::usage::Spent;

/// The answers of the first run of all, to tell others from, at 8 bytes a row.
#[derive(Debug)]
pub(super) struct FirstAnswers {
    start: u64,
    /// A hash of each row's answer; 0 for none.
    hashes: Vec<u64>,
}

impl FirstAnswers {
    /// None yet, of so many rows.
    pub(super) fn new(selected: &Range<u64>) -> Self {
        Self { start: selected.start, hashes: vec![0; (selected.end - selected.start) as usize] }
    }

    /// Keeps the run's answers as the first.
    fn keep(&mut self, row: u64, hash: u64) {
        if let Some(place) = self.place(row) {
            self.hashes[place] = hash;
        }
    }

    /// Whether the first run answered the row otherwise.
    fn differs(&self, row: u64, hash: u64) -> bool {
        let first = self.place(row).map_or(0, |place| self.hashes[place]);
        first != 0 && first != hash
    }

    fn place(&self, row: u64) -> Option<usize> {
        let place = usize::try_from(row.checked_sub(self.start)?).ok()?;
        (place < self.hashes.len()).then_some(place)
    }
}

/// What a run is measured under.
pub(super) struct Measuring<'a> {
    /// The job.
    pub prepared: &'a Prepared,
    /// Its input, with the rows of this run selected.
    pub validated: &'a Validated,
    /// Calls in flight at most.
    pub calls: usize,
    /// What is left of the comparison's time; none where it has no deadline.
    pub left: Option<Duration>,
    /// What the runs before used: the bounds hold for all of them together.
    pub used: &'a mut Spent,
}

/// How a run ended.
pub(super) enum Ran {
    /// Every row has its outcome; what came meanwhile, such as a signal, ends the comparison after it.
    Whole(Box<Measured>, Option<StopReason>),
    /// Something stopped it first.
    Stopped {
        /// What it was.
        reason: StopReason,
        /// Its rows that had their outcome; none where a second signal cut it short, and the process ends at once.
        finished: Option<u64>,
    },
}

/// What a run came to.
pub(super) struct Measured {
    /// The figures.
    pub figures: RunFigures,
    journal: Journal,
}

impl Measuring<'_> {
    /// Runs the rows, on a journal that nothing is left of, whatever ends the process.
    pub(super) async fn run(self, observer: &mut dyn Observer, control: &Control) -> Result<Ran, JobError> {
        let Self { prepared, validated, calls, left, used } = self;
        let header = Header { selection: validated.selected.clone(), ..prepared.header.clone() };
        let journal = Journal::unnamed(&std::env::temp_dir(), &header)?;
        let mut session = Session::new(prepared, Opened::new(journal, &header), calls);
        session.validated = validated;
        session.budget = prepared.budget(used);
        session.deadline = left;
        let bridge = &prepared.answerer.bridge;
        let stalled = || bridge.health().longest(|lane| lane.stalled);
        let (cpu, stalled_before) = (processor_time(), stalled());
        let Timed { stop, report, spent, journal } = session.measure(observer, control).await?;
        let (cpu, stalled) = (processor_time().saturating_sub(cpu), stalled().saturating_sub(stalled_before));
        *used += &spent;
        let (stop, report) = match (stop, report) {
            (None, None) => return Err(JobError::new(ErrorKind::Internal, "a run ended without its report")),
            (None, Some(report)) => (None, report),
            // An error leaves the figures in doubt even where every row has come to its outcome.
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
            stalled_s: stalled.as_secs_f64(),
        };
        Ok(Ran::Whole(Box::new(Measured { figures, journal }), stop))
    }
}

impl Measured {
    /// Keeps its answers as the first.
    pub(super) fn keep_answers(&self, first: &mut FirstAnswers) -> Result<(), JournalError> {
        self.answers(|row, hash| first.keep(row, hash))
    }

    /// Counts the rows that were answered otherwise than in the first run.
    pub(super) fn differing_answers(&self, first: &FirstAnswers) -> Result<u64, JournalError> {
        let mut different = 0;
        self.answers(|row, hash| different += u64::from(first.differs(row, hash)))?;
        Ok(different)
    }

    /// Every answered row, in the order of completion, with a hash of its answer.
    fn answers(&self, mut visit: impl FnMut(u64, u64)) -> Result<(), JournalError> {
        let mut text = String::new();
        self.journal.read_back(|record| {
            if let Record::Outcome(outcome) = record
                && let Ok(answer) = &outcome.result
            {
                text.clear();
                for (name, value) in &answer.fields {
                    // JSON holds no bare NUL.
                    text.extend([name, "\0", &value.to_json(), "\0"]);
                }
                visit(outcome.row, RowHash::of(text.as_bytes()).0.max(1));
            }
        })?;
        Ok(())
    }
}

/// Processor time of all threads of this process so far.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}
