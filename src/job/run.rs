//! Runs one session of a job on an open journal. `conclude.rs` ends it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::error::JobError;
use super::paths::JobPaths;
use super::prepare::Prepared;
use super::spec::{CutOffChoice, JobSpec};
use crate::bridge::{Bridge, Metered};
use crate::engine::{Clock, Engine, EngineSettings};
use crate::input::{InputError, RowReader, Validated};
use crate::journal::{Header, Journal};
use crate::observe::{Level, Observer};
use crate::policy::budget::Budget;
use crate::policy::limits::Limits;
use crate::policy::rate::RequestsACall;
use crate::policy::stop::StopReason;
use crate::report::Report;
use crate::report::text::counted;
use crate::row::Row;
use crate::run::control::Control;
use crate::run::todo::{Choice, Todo};
use crate::run::{Bounds, Ended, Run};
use crate::stats::Fold;
use crate::usage::Spent;

/// One session, from an open journal to its end.
pub(super) struct Session<'a> {
    /// The job.
    pub prepared: &'a Prepared,
    /// The input, with the rows of this session selected.
    pub validated: &'a Validated,
    /// The journal, with the session's header written.
    pub journal: Journal,
    /// The figures of all sessions so far.
    pub fold: Fold,
    /// Which rows to run.
    pub choice: Choice,
    /// The most calls in flight.
    pub calls: usize,
    /// How long after its beginning the session stops making calls.
    pub deadline: Option<Duration>,
    /// The budget that is left.
    pub budget: Option<Budget>,
    /// Whether the files are discarded at the end.
    pub scratch: bool,
    /// The last error of the outage that stopped the session, if one did.
    pub outage: Option<String>,
}

/// An open journal, and what it says about the sessions before.
pub(super) struct Opened {
    /// The journal, with the session's header written.
    pub journal: Journal,
    /// The figures of the earlier sessions.
    pub fold: Fold,
    /// Which rows to run.
    pub choice: Choice,
}

impl Opened {
    /// A new journal, with no earlier session and all rows to run.
    pub(super) fn new(journal: Journal, header: &Header) -> Self {
        Self { journal, fold: Fold::new(header.selection), choice: Choice::default() }
    }
}

/// The result of a session that was only measured.
pub(super) struct Timed {
    /// Why it ended early, if it did. A signal is given even if every row has its outcome.
    pub stop: Option<StopReason>,
    /// The report; `None` if a second signal killed the session.
    pub report: Option<Report>,
    /// What its attempts used.
    pub spent: Spent,
    /// The journal.
    pub journal: Journal,
}

/// The result of a session.
#[derive(Debug)]
pub struct SessionEnd {
    /// The exit code for a command line: 0 if every selected row is answered, 3 if some are not, or that of
    /// [`Self::stop`].
    pub code: u8,
    /// Why the session ended before all rows had an outcome, if it did.
    pub stop: Option<StopReason>,
    /// The report; `None` if the session was killed.
    pub report: Option<Report>,
}

impl SessionEnd {
    /// The fault that broke the session off, if one did: no limit of the user's and no refusal of the server's.
    pub fn broken(&self) -> Option<&StopReason> {
        self.stop.as_ref().filter(|_| self.code == 1)
    }
}

impl<'a> Session<'a> {
    /// A session of the job with at most this many calls in flight.
    pub(super) fn new(prepared: &'a Prepared, mut opened: Opened, calls: usize) -> Self {
        opened.fold.begin(&prepared.header);
        Self {
            prepared,
            validated: &prepared.validated,
            budget: prepared.budget(opened.fold.stats.spent()),
            journal: opened.journal,
            fold: opened.fold,
            choice: opened.choice,
            calls,
            deadline: prepared.answerer.left(&prepared.spec),
            scratch: false,
            outage: None,
        }
    }

    /// Runs all rows and returns their journal. Writes no other file.
    pub(super) async fn measure(
        mut self,
        observer: &mut dyn Observer,
        control: &Control,
    ) -> Result<Timed, JobError> {
        let Ended { stop, hurried, .. } = self.rows(observer, control, 0).await?;
        let report = if hurried {
            None
        } else {
            let called = self.fold.stats.attempts().total > 0;
            self.journal.commit().map_err(|error| JobError::from(error).after_calls(called))?;
            Some(self.report(0, Duration::ZERO, stop.as_ref()))
        };
        let spent = self.fold.stats.spent().clone();
        Ok(Timed { stop, report, spent, journal: self.journal })
    }

    /// Runs all rows without an answer, then writes the answers file and the report.
    pub(super) async fn run(
        mut self,
        paths: &JobPaths,
        observer: &mut dyn Observer,
        control: &Control,
    ) -> Result<SessionEnd, JobError> {
        let resumed = self.journal.index().count(self.validated.selected.iter()).ok;
        let bounded = self.budget.is_some();
        let attempts = self.fold.stats.attempts().total;
        let ended = self.rows(observer, control, resumed).await?;
        let called = self.fold.stats.attempts().total > attempts;
        let end = self.finish(ended, (resumed, bounded), paths, observer, control).await;
        let killed = end.as_ref().is_ok_and(|end| end.report.is_none());
        if !killed {
            self.outlast(observer, control).await;
        }
        end.map_err(|error| error.after_calls(called))
    }

    async fn rows(
        &mut self,
        observer: &mut dyn Observer,
        control: &Control,
        resumed: u64,
    ) -> Result<Ended, JobError> {
        let spec = &self.prepared.spec;
        let engine = engine(spec, &self.prepared.answerer.bridge, self.calls, self.budget.take());
        let selected = self.validated.selected;
        let rows = RowReader::open(&self.prepared.source, &self.validated.binding, selected)?;
        let todo = Todo::new(rows, self.read_suspects()?, Arc::clone(self.journal.index()), &self.choice);
        if !self.choice.suspects.is_empty() {
            let text = format!(
                "{} in flight when a session died: run first and one at a time, so that another crash has one row to blame",
                counted(self.choice.suspects.len() as u64, "row")
            );
            observer.message(Level::Note, &text);
        }
        let bounds = Bounds {
            total: selected.len(),
            resumed,
            look_ahead: 2 * self.calls,
            deadline: self.deadline,
            grace: spec.time.grace,
        };
        let run = Run {
            engine,
            recorder: &mut self.journal,
            limits: Limits::new(spec.stop.max_failures).resuming(resumed),
            fold: &mut self.fold,
            observer,
            control,
            bounds,
        };
        let ended = run.rows(todo).await;
        self.outage.clone_from(&ended.outage);
        Ok(ended)
    }

    /// Reads the suspects' rows, in the order of the suspects.
    fn read_suspects(&self) -> Result<Vec<Row>, InputError> {
        let suspects = &self.choice.suspects;
        let (Some(first), Some(last)) = (suspects.iter().min(), suspects.iter().max()) else {
            return Ok(Vec::new());
        };
        let place: HashMap<u64, usize> = suspects.iter().copied().zip(0..).collect();
        let mut rows = RowReader::open(&self.prepared.source, &self.validated.binding, *first..*last + 1)?;
        let mut found = Vec::with_capacity(place.len());
        while let Some(row) = rows.next()? {
            found.extend(place.contains_key(&row.id).then_some(row));
        }
        found.sort_unstable_by_key(|row| place[&row.id]);
        Ok(found)
    }
}

/// The engine of a session.
pub(super) fn engine(
    spec: &JobSpec,
    bridge: &Arc<dyn Bridge>,
    calls: usize,
    budget: Option<Budget>,
) -> Arc<Engine> {
    let predictor = bridge.describe();
    let settings = EngineSettings {
        concurrency: calls,
        timeout: spec.time.timeout,
        clock: if predictor.threaded { Clock::Begin } else { Clock::Handover },
        row_timeout: spec.time.row_timeout,
        stuck_after: spec.time.stuck_after,
        retry: spec.retry.policy(),
        rates: spec.rates.rates(),
        requests: predictor.metered.as_ref().map_or(RequestsACall::ONE, Metered::requests_a_call),
        seed: fastrand::u64(..),
    };
    let engine = Engine::new(Arc::clone(bridge), settings);
    let fails = spec.retry.cut_off == CutOffChoice::Fail;
    Arc::new(engine.with_money(spec.money.price(), budget).failing_cut_off(fails))
}
