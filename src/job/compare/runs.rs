//! Runs a comparison: the warm-up, then the modes in turn, until something stops it.

use std::path::Path;
use std::time::{Duration, Instant};

use super::sample::{FirstAnswers, Measured, Measuring, Ran};
use crate::input::Validated;
use crate::job::error::JobError;
use crate::job::prepare::Prepared;
use crate::journal::JournalError;
use crate::observe::{Level, Observer};
use crate::policy::stop::StopReason;
use crate::report::compare::{Comparison, ModeRuns, RunFigures, Stopped, WarmUp};
use crate::report::text::{counted, duration, reason};
use crate::run::control::Control;
use crate::usage::Spent;

/// The fewest and the most rows of the warm-up. Three rows are enough that one call follows another.
const WARM_UP: std::ops::RangeInclusive<u64> = 3..=16;
/// A comparison that will take longer than this is announced.
const LONG: Duration = Duration::from_secs(60);

/// A comparison under way.
pub(super) struct Rounds<'a> {
    /// The job.
    pub prepared: &'a Prepared,
    /// The directory of the runs' journals.
    pub directory: &'a Path,
    /// Makes the observer of each run.
    pub observers: &'a dyn Fn() -> Box<dyn Observer>,
    /// What ends it early.
    pub control: &'a Control,
    /// How many runs each mode is to have.
    pub runs: u32,
    /// When to stop making calls.
    pub deadline: Option<Instant>,
    /// The modes, with the runs finished so far.
    pub modes: Vec<ModeRuns>,
    /// The warm-up, once it is over.
    warm_up: Option<WarmUp>,
    /// The answers of the very first run.
    first: Option<FirstAnswers>,
    /// What all runs so far used.
    used: Spent,
    /// The title of the run under way.
    at: String,
}

/// The result of a comparison.
#[derive(Debug)]
pub struct ComparisonEnd {
    /// The runs that were finished.
    pub comparison: Comparison,
    /// The exit code for a command line: 0 if every row of every run was answered.
    pub code: u8,
    /// Whether a second signal killed the comparison, so that calls may still be in flight.
    pub killed: bool,
    /// The cost of all runs in US dollars; `None` if no price is known.
    pub cost_usd: Option<f64>,
    /// The error that ended the comparison, if one did.
    pub error: Option<JobError>,
}

/// Why there are no further runs.
enum Halt {
    /// A run was stopped.
    Stopped {
        reason: StopReason,
        /// Whether every row of the run has an outcome. Then the run counts.
        whole: bool,
        /// How many rows of a run that does not count have an outcome; `None` if a second signal killed it.
        finished: Option<u64>,
    },
    /// Something else failed.
    Error(JobError),
}

impl From<JobError> for Halt {
    fn from(error: JobError) -> Self {
        Self::Error(error)
    }
}

impl From<JournalError> for Halt {
    fn from(error: JournalError) -> Self {
        Self::Error(error.into())
    }
}

impl<'a> Rounds<'a> {
    /// A comparison whose modes have no runs yet. The deadline counts from now.
    pub(super) fn new(
        (prepared, directory): (&'a Prepared, &'a Path),
        observers: &'a dyn Fn() -> Box<dyn Observer>,
        control: &'a Control,
        (modes, runs): (Vec<ModeRuns>, u32),
        deadline: Option<Duration>,
    ) -> Self {
        let deadline = deadline.and_then(|limit| Instant::now().checked_add(limit));
        let (warm_up, first, used, at) = Default::default();
        Self { prepared, directory, observers, control, runs, deadline, modes, warm_up, first, used, at }
    }

    /// Warms up and makes all runs, until something stops it.
    pub(super) async fn run(mut self) -> ComparisonEnd {
        let halt = self.all_runs().await.err();
        let made_all = self.modes.iter().all(|mode| mode.runs.len() as u32 == self.runs);
        let halt = halt.filter(|halt| {
            // A signal after the very last outcome changes nothing.
            !(made_all && matches!(halt, Halt::Stopped { reason: StopReason::Signal(_), whole: true, .. }))
        });
        let stopped = halt.as_ref().map(|halt| match halt {
            Halt::Stopped { reason: why, whole, finished } => Stopped {
                at: format!("{} {}", if *whole { "after" } else { "in" }, self.at),
                reason: reason(&why.to_string()).0,
                rows: *finished,
            },
            Halt::Error(error) => Stopped {
                at: format!("in {}", self.at),
                reason: reason(&self.prepared.secrets.mask(&error.to_string())).0,
                rows: None,
            },
        });
        let cost_usd = self.used.usage.cost_usd;
        let rows = self.prepared.validated.selected.len();
        let comparison = Comparison::new(rows, self.runs, self.warm_up, self.modes, stopped);
        let any_failed = comparison.modes.iter().any(|mode| mode.failed > 0.0);
        let (code, killed, error) = match halt {
            Some(Halt::Error(error)) => (1, false, Some(error.after_calls(self.used.calls() > 0))),
            Some(Halt::Stopped { reason, whole, finished }) => {
                (reason.exit_code(), !whole && finished.is_none(), None)
            }
            None => (if any_failed { 3 } else { 0 }, false, None),
        };
        ComparisonEnd { comparison, code, killed, cost_usd, error }
    }

    async fn all_runs(&mut self) -> Result<(), Halt> {
        self.warm_up().await?;
        for run in 1..=self.runs {
            // Every second round goes backwards, so that no mode always comes first.
            let mut order: Vec<usize> = (0..self.modes.len()).collect();
            if run % 2 == 0 {
                order.reverse();
            }
            for mode in order {
                self.look_between().await?;
                self.one_run(run, mode).await?;
            }
        }
        Ok(())
    }

    /// Ends the comparison if a signal or the deadline came after the last run.
    async fn look_between(&mut self) -> Result<(), Halt> {
        let stop = match self.control.come().await {
            Some(signal) => Some(StopReason::Signal(signal)),
            None => {
                self.deadline.filter(|deadline| *deadline <= Instant::now()).map(|_| StopReason::Deadline)
            }
        };
        if let Some(why) = &stop {
            let text = format!("stopping: {}", reason(&why.to_string()).0);
            (self.observers)().message(Level::Warning, &text);
        }
        after(stop)
    }

    /// Runs a few rows at the greatest concurrency, untimed, so that connections are made and caches are filled.
    async fn warm_up(&mut self) -> Result<(), Halt> {
        let all = self.prepared.validated.selected;
        let few = warm_up_rows(all.len(), &self.modes);
        let selected = all.first(few);
        let validated = Validated { selected, ..self.prepared.validated.clone() };
        "the warm-up".clone_into(&mut self.at);
        let title = format!("warm-up: {}, not timed", counted(few, "row"));
        let (Measured { figures, .. }, stop) = self.measure(&validated, widest(&self.modes), &title).await?;
        self.warm_up = Some(WarmUp { rows: few, attempts: figures.attempts });
        after(stop)?;
        self.announce_length(&figures);
        Ok(())
    }

    async fn one_run(&mut self, run: u32, mode: usize) -> Result<(), Halt> {
        let title = format!("run {run} of {}: {}", self.runs, self.modes[mode].name);
        self.at.clone_from(&title);
        let validated = &self.prepared.validated;
        let (mut measured, stop) = self.measure(validated, self.modes[mode].concurrency, &title).await?;
        if let Some(first) = &self.first {
            measured.figures.different = Some(measured.differing_answers(first)?);
        } else {
            measured.keep_answers(self.first.insert(FirstAnswers::new(validated.selected)))?;
        }
        self.modes[mode].runs.push(measured.figures);
        after(stop)
    }

    /// Makes one run. A stop that came while its last rows were in flight is returned with it.
    async fn measure(
        &mut self,
        validated: &Validated,
        calls: u64,
        title: &str,
    ) -> Result<(Measured, Option<StopReason>), Halt> {
        let mut observer = (self.observers)();
        observer.message(Level::Note, title);
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let (prepared, directory, calls) = (self.prepared, self.directory, calls as usize);
        let measuring = Measuring { prepared, directory, validated, calls, left, used: &mut self.used };
        match measuring.run(observer.as_mut(), self.control).await? {
            Ran::Whole(measured, stop) => Ok((*measured, stop)),
            Ran::Stopped { reason, finished } => Err(Halt::Stopped { reason, whole: false, finished }),
        }
    }

    /// Says how long a long comparison will take, judging by the calls of the warm-up.
    fn announce_length(&self, called: &RunFigures) {
        let Some(call_ms) = called.call_ms else { return };
        let call = Duration::from_secs_f64(call_ms / 1e3);
        let rows = self.prepared.validated.selected.len();
        let rounds = |mode: &ModeRuns| rows.div_ceil(mode.concurrency).max(1) as f64;
        let a_round: Duration = self.modes.iter().map(|mode| call.mul_f64(rounds(mode))).sum();
        let all = a_round * self.runs;
        if all > LONG {
            let text = format!(
                "this will take about {}: {} of {} in {}; `-n` picks fewer rows",
                duration(all),
                counted(self.runs.into(), "run"),
                counted(rows, "row"),
                counted(self.modes.len() as u64, "mode")
            );
            (self.observers)().message(Level::Note, &text);
        }
    }
}

/// Ends the comparison after a run that counts, if a stop came.
fn after(stop: Option<StopReason>) -> Result<(), Halt> {
    match stop {
        Some(reason) => Err(Halt::Stopped { reason, whole: true, finished: None }),
        None => Ok(()),
    }
}

/// The number of rows in the warm-up: as many as are called at once, within [`WARM_UP`]. It is at most half of all
/// rows, so that answers that the predictor cached show up in the comparison.
pub(super) fn warm_up_rows(rows: u64, modes: &[ModeRuns]) -> u64 {
    widest(modes).clamp(*WARM_UP.start(), *WARM_UP.end()).min(rows.div_ceil(2))
}

/// The greatest concurrency of any mode.
fn widest(modes: &[ModeRuns]) -> u64 {
    modes.iter().map(|mode| mode.concurrency).max().unwrap_or(1)
}
