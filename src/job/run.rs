//! One session of a job: its rows are run on an open journal. How it ends is in `conclude.rs`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::error::JobError;
use super::paths::JobPaths;
use super::prepare::Prepared;
use super::spec::CutOffChoice;
use crate::bridge::Metered;
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
    /// The truth, its header written.
    pub journal: Journal,
    /// The figures of all sessions so far.
    pub fold: Fold,
    /// Which rows are to be run.
    pub choice: Choice,
    /// Calls in flight at most.
    pub calls: usize,
    /// When no new calls are made any more, from the session's beginning.
    pub deadline: Option<Duration>,
    /// What the job may still use.
    pub budget: Option<Budget>,
    /// Its files are removed at its end: nobody wants the answers.
    pub scratch: bool,
    /// The last error of the outage in which its rows were stopped; none before.
    pub outage: Option<String>,
}

/// The journal of a job, and the figures of the sessions before.
pub(super) struct Opened {
    /// The journal, its header written.
    pub journal: Journal,
    /// The earlier sessions' figures.
    pub fold: Fold,
    /// Which rows are to be run.
    pub choice: Choice,
}

impl Opened {
    /// A new journal: there is no session before, and all rows are to be run.
    pub(super) fn new(journal: Journal, header: &Header) -> Self {
        Self { journal, fold: Fold::new(&header.selection), choice: Choice::default() }
    }
}

/// What a session came to that only measured.
pub(super) struct Timed {
    /// Why it ended early; a signal is told even if every row has its outcome.
    pub stop: Option<StopReason>,
    /// The report; none where a second signal cut the session short.
    pub report: Option<Report>,
    /// What its attempts came to.
    pub spent: Spent,
    /// The truth.
    pub journal: Journal,
}

/// What a session came to.
#[derive(Debug)]
pub struct SessionEnd {
    /// The exit code of the command line: 0 where every selected row is answered.
    pub code: u8,
    /// Why it ended before its rows did, if it did.
    pub stop: Option<StopReason>,
    /// The report; none where the session was killed.
    pub report: Option<Report>,
}

impl<'a> Session<'a> {
    /// A session of the job with so many calls in flight at most.
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
            deadline: prepared.spec.time.deadline,
            scratch: false,
            outage: None,
        }
    }

    /// Runs all rows and gives their journal back; writes no other file.
    pub(super) async fn measure(
        mut self,
        observer: &mut dyn Observer,
        control: &Control,
    ) -> Result<Timed, JobError> {
        let Ended { stop, hurried, .. } = self.rows(observer, control, 0).await?;
        let report = if hurried {
            None
        } else {
            self.journal.commit()?;
            Some(self.report(0, Duration::ZERO, stop.as_ref()))
        };
        let spent = self.fold.stats.spent().clone();
        Ok(Timed { stop, report, spent, journal: self.journal })
    }

    /// Runs all rows without an answer, writes the answers file and the report.
    pub(super) async fn run(
        mut self,
        paths: &JobPaths,
        observer: &mut dyn Observer,
        control: &Control,
    ) -> Result<SessionEnd, JobError> {
        let resumed = self.journal.index().count(self.validated.selected.clone()).ok;
        let bounded = self.budget.is_some();
        let attempts = self.fold.stats.attempts().total;
        let ended = self.rows(observer, control, resumed).await?;
        let called = self.fold.stats.attempts().total > attempts;
        let end = self.finish(ended, (resumed, bounded), paths, observer, control).await;
        end.map_err(|error| if called { error.after_calls() } else { error })
    }

    async fn rows(
        &mut self,
        observer: &mut dyn Observer,
        control: &Control,
        resumed: u64,
    ) -> Result<Ended, JobError> {
        let (spec, bridge) = (&self.prepared.spec, &self.prepared.answerer.bridge);
        let predictor = bridge.describe();
        let settings = EngineSettings {
            concurrency: self.calls,
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
        let engine = Arc::new(
            engine
                .with_money(spec.money.price(), self.budget.take())
                .failing_cut_off(spec.retry.cut_off == CutOffChoice::Fail),
        );
        let selected = self.validated.selected.clone();
        let rows = RowReader::open(&self.prepared.source, &self.validated.binding, selected.clone())?;
        let todo = Todo::new(rows, self.read_suspects()?, Arc::clone(self.journal.index()), &self.choice);
        if !self.choice.suspects.is_empty() {
            let text = format!(
                "{} in flight when a session died: run first and one at a time, so that another crash has one row to blame",
                counted(self.choice.suspects.len() as u64, "row")
            );
            observer.message(Level::Note, &text);
        }
        let bounds = Bounds {
            total: selected.end - selected.start,
            resumed,
            look_ahead: 2 * self.calls,
            deadline: self.deadline,
            grace: spec.time.grace,
        };
        let run = Run {
            engine,
            journal: &mut self.journal,
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

    /// The suspects' rows, in their order.
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
