//! A comparison under way: the warm-up, the runs in turn, and what stops them.

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

/// Rows that warm up: at least enough to meet a second call, at most so many as are few.
const WARM_UP: std::ops::RangeInclusive<u64> = 3..=16;
/// A comparison that takes longer is announced.
const LONG: Duration = Duration::from_secs(60);

/// A comparison under way.
pub(super) struct Runs<'a> {
    /// The job.
    pub prepared: &'a Prepared,
    /// Makes the observer of each run.
    pub observers: &'a dyn Fn() -> Box<dyn Observer>,
    /// What ends it early.
    pub control: &'a Control,
    /// Runs of each mode that were asked for.
    pub runs: u32,
    /// When no new calls are made any more.
    pub deadline: Option<Instant>,
    /// The modes, with the runs finished so far.
    pub modes: Vec<ModeRuns>,
    /// What was called before anything was timed, once it was.
    warm_up: Option<WarmUp>,
    /// The answers of the first run of all.
    first: Option<FirstAnswers>,
    /// What all runs so far used.
    used: Spent,
    /// What is run now.
    at: String,
}

/// What a comparison came to.
#[derive(Debug)]
pub struct ComparisonEnd {
    /// What was finished.
    pub comparison: Comparison,
    /// The exit code of the command line: 0 where every row of every run was answered.
    pub code: u8,
    /// Whether it was killed: nothing is waited for.
    pub killed: bool,
    /// What all runs used, in US dollars; none where no price is known.
    pub cost_usd: Option<f64>,
    /// What went wrong outside of the rows.
    pub error: Option<JobError>,
}

/// Why there is no further run.
enum Halt {
    /// A run was stopped.
    Stopped {
        reason: StopReason,
        /// Whether its every row had come to its outcome: then it counts.
        whole: bool,
        /// Its rows that had their outcome, where it does not count; none where a second signal cut it short.
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

impl<'a> Runs<'a> {
    /// A comparison of modes that have no runs yet; its deadline counts from now.
    pub(super) fn new(
        prepared: &'a Prepared,
        observers: &'a dyn Fn() -> Box<dyn Observer>,
        control: &'a Control,
        (modes, runs): (Vec<ModeRuns>, u32),
        deadline: Option<Duration>,
    ) -> Self {
        let deadline = deadline.and_then(|limit| Instant::now().checked_add(limit));
        let (warm_up, first, used, at) = Default::default();
        Self { prepared, observers, control, runs, deadline, modes, warm_up, first, used, at }
    }

    /// Warms up and makes all runs, until something stops it.
    pub(super) async fn run(mut self) -> ComparisonEnd {
        let halt = self.all_runs().await.err();
        let made_all = self.modes.iter().all(|mode| mode.runs.len() as u32 == self.runs);
        let halt = halt.filter(|halt| {
            // A signal after the last outcome of all changes nothing.
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
        let selected = &self.prepared.validated.selected;
        let rows = selected.end - selected.start;
        let comparison = Comparison::new(rows, self.runs, self.warm_up, self.modes, stopped);
        let any_failed = comparison.modes.iter().any(|mode| mode.failed > 0.0);
        let (code, killed, error) = match halt {
            Some(Halt::Error(error)) => (1, false, Some(error)),
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
            // Forth and back, so that no mode always comes first.
            let mut order: Vec<usize> = (0..self.modes.len()).collect();
            if run % 2 == 0 {
                order.reverse();
            }
            for mode in order {
                self.look_between()?;
                self.one_run(run, mode).await?;
            }
        }
        Ok(())
    }

    /// What came since the last run was measured ends the comparison after it.
    fn look_between(&mut self) -> Result<(), Halt> {
        let stop = match self.control.take() {
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

    /// Makes connections, fills what fills itself at the first use: a few rows at the greatest concurrency, not timed.
    async fn warm_up(&mut self) -> Result<(), Halt> {
        let all = self.prepared.validated.selected.clone();
        let few = warm_up_rows(all.end - all.start, &self.modes);
        let selected = all.start..all.start + few;
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
            measured.keep_answers(self.first.insert(FirstAnswers::new(&validated.selected)))?;
        }
        self.modes[mode].runs.push(measured.figures);
        after(stop)
    }

    /// Makes one run. What came while its last rows were under way is returned with it.
    async fn measure(
        &mut self,
        validated: &Validated,
        calls: u64,
        title: &str,
    ) -> Result<(Measured, Option<StopReason>), Halt> {
        let mut observer = (self.observers)();
        observer.message(Level::Note, title);
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let (prepared, calls) = (self.prepared, calls as usize);
        let measuring = Measuring { prepared, validated, calls, left, used: &mut self.used };
        match measuring.run(observer.as_mut(), self.control).await? {
            Ran::Whole(measured, stop) => Ok((*measured, stop)),
            Ran::Stopped { reason, finished } => Err(Halt::Stopped { reason, whole: false, finished }),
        }
    }

    /// Says how long a long comparison will take, from what the calls of the warm-up took.
    fn announce_length(&self, called: &RunFigures) {
        let Some(call_ms) = called.call_ms else { return };
        let call = Duration::from_secs_f64(call_ms / 1e3);
        let rows = self.prepared.validated.selected.end - self.prepared.validated.selected.start;
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

/// What came while a run's last rows were under way ends the comparison after it.
fn after(stop: Option<StopReason>) -> Result<(), Halt> {
    match stop {
        Some(reason) => Err(Halt::Stopped { reason, whole: true, finished: None }),
        None => Ok(()),
    }
}

/// As many as are called at once, within bounds, and no more than half of all, so that what the predictor caches of them
/// shows.
pub(super) fn warm_up_rows(rows: u64, modes: &[ModeRuns]) -> u64 {
    widest(modes).clamp(*WARM_UP.start(), *WARM_UP.end()).min(rows.div_ceil(2))
}

/// The most calls in flight of any mode.
fn widest(modes: &[ModeRuns]) -> u64 {
    modes.iter().map(|mode| mode.concurrency).max().unwrap_or(1)
}
