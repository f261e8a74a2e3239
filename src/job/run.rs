//! One session of a job, from an open journal to its report: the rows are run, the answers file and the report are written.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::answerer::{Answerer, now};
use super::error::{ErrorKind, Explain, JobError, refuse};
use super::paths::JobPaths;
use super::spec::{CutOffChoice, RateSpec, RetrySpec, StopSpec, TimeSpec};
use crate::bridge::{Metered, Nulled};
use crate::engine::{Clock, Engine, EngineSettings};
use crate::fs::Access;
use crate::input::{InputError, RowReader, Source, Validated};
use crate::journal::{End, Header, Index, Journal, JournalError, Loss};
use crate::observe::{Level, Observer};
use crate::output::{OutputError, Projected, Projection};
use crate::policy::budget::{Budget, Price};
use crate::policy::limits::Limits;
use crate::policy::rate::RequestsACall;
use crate::policy::stop::{Signal, StopReason};
use crate::report::text::{count, counted};
use crate::report::{self, EventLoop, Facts, JournalFigures, Report};
use crate::row::Row;
use crate::run::control::Control;
use crate::run::todo::{Choice, Todo};
use crate::run::{Bounds, Ended, Run};
use crate::stats::Fold;
use crate::usage::Spent;

/// How long the writing that was abandoned may take to end.
const TIDYING: Duration = Duration::from_millis(300);

/// Said in place of where the answers are.
const SCRATCH: &str = "ended at once; no answer is kept, as `/dev/null` asked";

/// What a session runs on.
pub(super) struct Session<'a> {
    /// The predictor.
    pub answerer: &'a Answerer,
    /// The input.
    pub source: &'a Source,
    /// What is known of it.
    pub validated: &'a Validated,
    /// The truth, its header written.
    pub journal: Journal,
    /// The figures of the sessions before.
    pub fold: Fold,
    /// Which rows are to be run.
    pub choice: Choice,
    /// Calls in flight at most.
    pub calls: usize,
    /// The predictor's columns of the answers; none for all.
    pub fields: &'a [String],
    /// Timeouts.
    pub time: &'a TimeSpec,
    /// Retries.
    pub retry: &'a RetrySpec,
    /// Requests and tokens a minute.
    pub rates: &'a RateSpec,
    /// Guards.
    pub stop: &'a StopSpec,
    /// The user's price of tokens.
    pub price: Option<Price>,
    /// What the job may still use.
    pub budget: Option<Budget>,
    /// Facts for the report that were known before.
    pub run: report::RunInfo,
    /// Reading and checking the input.
    pub validate: Duration,
    /// Whether the page is written too.
    pub page: bool,
    /// Who may read what is written.
    pub access: Access,
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

impl Session<'_> {
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
        let before = self.journal.index().counts();
        let resumed = self.journal.index().count(self.validated.selected.clone()).ok;
        let bounded = self.budget.is_some();
        let attempts = self.fold.stats.attempts().total;
        let ended = self.rows(observer, control, resumed).await?;
        let called = self.fold.stats.attempts().total > attempts;
        let end = self.finish(ended, (before.ok, bounded), paths, observer, control).await;
        end.map_err(|error| if called { error.after_calls() } else { error })
    }

    /// Writes the answers file and the report.
    async fn finish(
        &mut self,
        ended: Ended,
        (answered_before, bounded): (u64, bool),
        paths: &JobPaths,
        observer: &mut dyn Observer,
        control: &Control,
    ) -> Result<SessionEnd, JobError> {
        self.make_good(paths, observer)?;
        let signal = match ended.stop {
            Some(StopReason::Signal(signal)) => Some(signal),
            _ => None,
        };
        let (stop, code) = self.verdict(ended.stop);
        if ended.hurried {
            // Not waited for, and no matter if it fails: it only tells that this was no crash.
            let ended = self.append_end(code, stop.as_ref(), true).and_then(|()| self.journal.commit());
            self.journal.mark_ended(ended.is_err());
            let text = "ended at once; what was recorded is safe in the journal\nhint: `resume` goes on";
            observer.message(Level::Warning, if self.scratch { SCRATCH } else { text });
            return Ok(SessionEnd { code, stop, report: None });
        }
        // A broken bridge is some row's doing: like a crash, it leaves the rows in flight as suspects.
        let broken = is_broken(stop.as_ref());
        let end = self.end(code, stop.as_ref());
        self.journal.mark_ended(end.is_err() && !broken);
        end?;
        let projecting = Instant::now();
        let projected = match self.project(paths, control, signal).await? {
            Ok(projected) => projected,
            Err(signal) => {
                let text = "ended at once; the answers are safe in the journal\nhint: `export` writes them";
                observer.message(Level::Warning, if self.scratch { SCRATCH } else { text });
                let signal = StopReason::Signal(signal);
                let reason = stop.filter(|stop| stop.outweighs(&signal)).unwrap_or(signal);
                return Ok(SessionEnd { code: reason.exit_code(), stop: Some(reason), report: None });
            }
        };
        for renamed in &projected.renamed {
            observer.message(Level::Warning, &renamed.to_string());
        }
        if let Some(Nulled { numbers, first_row: row }) = self.answerer.bridge.health().nulled {
            let (what, are) = (counted(numbers, "number"), if numbers == 1 { "is" } else { "are" });
            let text = format!(
                "{what} in the answers {are} not finite (NaN or infinity), which JSON cannot hold, and {are} kept as null; \
                 the first is in row {row}"
            );
            observer.message(Level::Warning, &text);
        }
        let report = self.report(answered_before, projecting.elapsed(), stop.as_ref());
        // Calls that wait for room in a budget are few, and no one's fault.
        if let Some(remark) = report::remark::underused(&report).filter(|_| !bounded) {
            observer.message(Level::Warning, &remark);
        }
        report::json::write(&paths.report, self.access, &report)?;
        if self.page {
            report::html::write(&paths.page, self.access, &paths.answers, &report, &self.fold)?;
        }
        Ok(SessionEnd { code, stop, report: Some(report) })
    }

    /// Makes good what somebody has done to the journal, as far as that can be, and says so.
    fn make_good(&mut self, paths: &JobPaths, observer: &mut dyn Observer) -> Result<(), JobError> {
        match self.journal.loss() {
            None => {}
            Some(Loss::Cut) => {
                let before = self.journal.index().counts().ok;
                let mut fold = Fold::new(&self.validated.selected);
                self.journal.reread(|record| fold.recovered(record))?;
                fold.close_session();
                self.fold = fold;
                let left = self.journal.index().counts().ok;
                let text = format!(
                    "what was cut off the journal is lost: {}; {} left\nhint: put back a copy of the journal, or else `resume` calls the lost rows again",
                    counted(before.saturating_sub(left), "answer"),
                    count(left),
                );
                observer.message(Level::Warning, &text);
            }
            Some(loss @ (Loss::Removed | Loss::Moved)) => {
                let kept = self.journal.restore(&now().replace(':', "-"));
                let kept = kept.explain(ErrorKind::Journal, &paths.journal, || {
                    format!("{loss}, and it cannot be written anew")
                })?;
                if let Some(interpreter) = &self.answerer.interpreter {
                    interpreter.keep_from_children(self.journal.descriptor());
                }
                if let Some(kept) = kept {
                    refuse!(
                        Journal,
                        &kept,
                        "{loss}, and `{}` is another file now; what the run recorded is in `{}`\nhint: give that the journal's name again, then `resume` goes on",
                        paths.journal.display(),
                        kept.display()
                    );
                }
                let text = "the journal is written anew under its name: no answer is lost";
                observer.message(Level::Warning, text);
            }
        }
        Ok(())
    }

    /// What the end of the rows means: why it came early, and the exit code.
    fn verdict(&self, stop: Option<StopReason>) -> (Option<StopReason>, u8) {
        let after = self.journal.index().count(self.validated.selected.clone());
        // A signal that came after the last outcome was recorded changes nothing.
        let stop = stop.filter(|stop| !(matches!(stop, StopReason::Signal(_)) && after.unfinished == 0));
        let code = match &stop {
            Some(reason) => reason.exit_code(),
            None if after.failed + after.unfinished > 0 => 3,
            None => 0,
        };
        (stop, code)
    }

    async fn rows(
        &mut self,
        observer: &mut dyn Observer,
        control: &Control,
        resumed: u64,
    ) -> Result<Ended, JobError> {
        let predictor = self.answerer.bridge.describe();
        let settings = EngineSettings {
            concurrency: self.calls,
            timeout: self.time.timeout,
            clock: if predictor.threaded { Clock::Begin } else { Clock::Handover },
            row_timeout: self.time.row_timeout,
            stuck_after: self.time.stuck_after,
            retry: self.retry.policy(),
            rates: self.rates.rates(),
            requests: predictor.metered.as_ref().map_or(RequestsACall::ONE, Metered::requests_a_call),
            seed: fastrand::u64(..),
        };
        let engine = Engine::new(Arc::clone(&self.answerer.bridge), settings);
        let engine = Arc::new(
            engine
                .with_money(self.price, self.budget.take())
                .failing_cut_off(self.retry.cut_off == CutOffChoice::Fail),
        );
        let selected = self.validated.selected.clone();
        let rows = RowReader::open(self.source, &self.validated.binding, selected.clone())?;
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
            deadline: self.time.deadline,
            grace: self.time.grace,
        };
        let run = Run {
            engine,
            journal: &mut self.journal,
            limits: Limits::new(self.stop.max_failures).resuming(resumed),
            fold: &mut self.fold,
            observer: observer,
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
        let mut rows = RowReader::open(self.source, &self.validated.binding, *first..*last + 1)?;
        let mut found = Vec::with_capacity(place.len());
        while let Some(row) = rows.next()? {
            found.extend(place.contains_key(&row.id).then_some(row));
        }
        found.sort_unstable_by_key(|row| place[&row.id]);
        Ok(found)
    }

    /// Records the session's end once all before it is on the disk: none is claimed of outcomes that may be lost.
    fn end(&mut self, code: u8, stop: Option<&StopReason>) -> Result<(), JournalError> {
        self.journal.checkpoint()?;
        self.append_end(code, stop, false)?;
        self.journal.checkpoint()
    }

    /// Appends the session's end to the batch.
    fn append_end(&mut self, code: u8, stop: Option<&StopReason>, hurried: bool) -> Result<(), JournalError> {
        let stats = &self.fold.stats;
        let end = End {
            finished_at: now(),
            exit_code: code.into(),
            reason: stop.map(|stop| stop.told(self.outage.as_deref())),
            hurried: hurried || matches!(stop, Some(StopReason::Panicked { .. })),
            broken: !hurried && is_broken(stop),
            totals: serde_json::json!({
                "most_in_flight": stats.most_in_flight(),
                "limited_s": self.fold.live_limited,
            }),
        };
        self.journal.append_end(&end)
    }

    /// Writes the answers file, on a thread of its own. A second signal, that of the run counted, abandons it: the first
    /// is returned.
    async fn project(
        &self,
        paths: &JobPaths,
        control: &Control,
        mut first: Option<Signal>,
    ) -> Result<Result<Projected, Signal>, JobError> {
        let cancelled = Arc::new(AtomicBool::new(false));
        let mut writing = tokio::task::spawn_blocking({
            let cancelled = Arc::clone(&cancelled);
            let (source, paths) = (self.source.clone(), paths.clone());
            let (index, fields) = (Arc::clone(self.journal.index()), self.journal.fields().only(self.fields));
            let access = self.access;
            move || project(&source, &paths, access, &index, &fields, || cancelled.load(Ordering::Relaxed))
        });
        loop {
            tokio::select! {
                written = &mut writing => return Ok(Ok(written.map_err(|error| JobError::panicked(&error))??)),
                signal = control.next() => {
                    let Some(first) = first else {
                        first = Some(signal);
                        continue;
                    };
                    cancelled.store(true, Ordering::Relaxed);
                    // Its file is removed, unless the disk hangs.
                    let _ = timeout(TIDYING, writing).await;
                    return Ok(Err(first));
                }
            }
        }
    }

    fn report(&self, resumed: u64, project: Duration, stop: Option<&StopReason>) -> Report {
        let total = self.journal.index().selection().len();
        let bridge = &self.answerer.bridge;
        let health = bridge.health();
        let lag = health.longest(|lane| lane.longest_lag);
        let journal = self.journal.stats();
        let blocked = health.lanes.into_iter().flat_map(|lane| lane.blockages).map(Into::into).collect();
        let facts = Facts {
            total,
            skipped: self.validated.rows.saturating_sub(total) + self.validated.empty,
            resumed,
            concurrency: self.calls as u64,
            startup: self.answerer.startup,
            validate: self.validate,
            project,
            stopped: stop.map(|stop| stop.told(self.outage.as_deref())),
            predictor_versions: self.fold.versions(),
            journal: JournalFigures {
                bytes: journal.bytes,
                syncs: journal.syncs,
                longest_unsynced_ms: journal.longest_unsynced.as_secs_f64() * 1e3,
            },
            event_loop: EventLoop {
                name: bridge.describe().event_loop.clone(),
                max_lag_ms: lag.as_secs_f64() * 1e3,
                blocked,
            },
            run: report::RunInfo { finished_at: now(), ..self.run.clone() },
        };
        Report::new(&self.fold.stats, facts)
    }
}

/// Whether the way to the predictor broke.
fn is_broken(stop: Option<&StopReason>) -> bool {
    matches!(stop, Some(StopReason::Bridge(_)))
}

/// Writes the answers file from the journal.
pub(super) fn project(
    source: &Source,
    paths: &JobPaths,
    access: Access,
    index: &Index,
    fields: &crate::journal::Fields,
    cancelled: impl Fn() -> bool,
) -> Result<Projected, OutputError> {
    let projection = Projection {
        source,
        journal: &paths.journal,
        index,
        fields,
        destination: &paths.answers,
        format: crate::input::Format::from_path(&paths.answers).unwrap_or(source.format),
        access,
    };
    projection.write(cancelled)
}
