//! Ends a session: repairs the journal if it was tampered with, and writes the answers file and the report.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::answerer::now;
use super::error::{ErrorKind, Explain, JobError, refuse};
use super::paths::JobPaths;
use super::project::project;
use super::run::{Session, SessionEnd};
use crate::bridge::{Bridge, Nulled};
use crate::fs::Access;
use crate::journal::{End, JournalError, Loss};
use crate::observe::{Level, Observer};
use crate::output::Projected;
use crate::policy::stop::{Signal, StopReason};
use crate::report::text::{count, counted};
use crate::report::{self, EventLoop, Facts, JournalFigures, Report, Worker};
use crate::run::Ended;
use crate::run::control::Control;
use crate::stats::Fold;

/// How long a cancelled projection may take to remove its file.
const TIDYING: Duration = Duration::from_millis(300);

/// Shown instead of where the answers are, when they are discarded.
const SCRATCH: &str = "ended at once; no answers were kept because the output is `/dev/null`";

/// Warns of numbers in answers that JSON cannot hold.
pub(super) fn tell_of_nulled(bridge: &dyn Bridge, observer: &mut dyn Observer) {
    let Some(Nulled { numbers, first_row: row }) = bridge.health().nulled else { return };
    let (what, are) = (counted(numbers, "number"), if numbers == 1 { "is" } else { "are" });
    let text = format!(
        "{what} in the answers {are} not finite (NaN or infinity), which JSON cannot hold, and {are} kept as null; \
         the first is in row {row}"
    );
    observer.message(Level::Warning, &text);
}

impl Session<'_> {
    /// Writes the answers file and the report.
    pub(super) async fn finish(
        &mut self,
        ended: Ended,
        (resumed, bounded): (u64, bool),
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
            // The end only records that this was no crash. It is not synced, and it does not matter if it fails.
            let ended = self.append_end(code, stop.as_ref(), true).and_then(|()| self.journal.commit());
            self.journal.mark_ended(ended.is_err());
            let text = "ended at once; what was recorded is safe in the journal\nhint: `resume` goes on";
            observer.message(Level::Warning, if self.scratch { SCRATCH } else { text });
            return Ok(SessionEnd { code, stop, report: None });
        }
        // Some row broke the bridge. Like a crash, this leaves the rows in flight as suspects.
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
        tell_of_nulled(&*self.prepared.answerer.bridge, observer);
        let report = self.report(resumed, projecting.elapsed(), stop.as_ref());
        // A budget keeps calls waiting, and then few calls in flight are no mistake.
        let underused = || report::remark::underused(&report).filter(|_| !bounded);
        let saturated = self.prepared.answerer.bridge.health().longest(|lane| lane.saturated);
        if let Some(remark) = report::remark::saturated(&report, saturated, ended.took).or_else(underused) {
            observer.message(Level::Warning, &remark);
        }
        report::json::write(&paths.report, self.access(), &report)?;
        if self.prepared.spec.page.html && !self.scratch {
            report::html::write(&paths.page, self.access(), &paths.answers, &report, &self.fold)?;
        }
        Ok(SessionEnd { code, stop, report: Some(report) })
    }

    /// Waits until the calls must have ended that the bridge has lost sight of, unless a request ends the wait: whoever
    /// goes on with the job would make them beside those.
    pub(super) async fn outlast(&self, observer: &mut dyn Observer, control: &Control) {
        let left = self.prepared.answerer.bridge.left_behind();
        // Rows are counted only where there is something to wait for.
        if left.is_zero() || self.journal.index().count(self.validated.selected.iter()).unfinished == 0 {
            return;
        }
        let text = format!(
            "waiting up to {} s for calls that can no longer be reached, so that `resume` does not repeat them while they \
             run\nhint: Ctrl-C ends the wait",
            left.as_secs_f64().ceil()
        );
        observer.message(Level::Warning, &text);
        let _ = timeout(left, control.next()).await;
    }

    /// Repairs a journal that was cut, removed or moved during the session, as far as possible, and reports it.
    fn make_good(&mut self, paths: &JobPaths, observer: &mut dyn Observer) -> Result<(), JobError> {
        match self.journal.loss() {
            None => {}
            Some(Loss::Cut) => {
                let before = self.journal.index().counts().ok;
                let mut fold = Fold::new(self.validated.selected);
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
                if let Some(interpreter) = &self.prepared.answerer.interpreter {
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

    /// Decides why the session ended early, if it did, and the exit code.
    fn verdict(&self, stop: Option<StopReason>) -> (Option<StopReason>, u8) {
        let after = self.journal.index().count(self.validated.selected.iter());
        // A signal that came after the last outcome was recorded changes nothing.
        let stop = stop.filter(|stop| !(matches!(stop, StopReason::Signal(_)) && after.unfinished == 0));
        let code = match &stop {
            Some(reason) => reason.exit_code(),
            None if after.failed + after.unfinished > 0 => 3,
            None => 0,
        };
        (stop, code)
    }

    /// Records the session's end once everything before it is on disk, so that no journal claims an end whose outcomes
    /// may be lost.
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

    /// Writes the answers file on another thread. A second signal cancels that, where a signal that stopped the rows
    /// (`first`) counts. Then the first signal is returned as the inner error.
    async fn project(
        &self,
        paths: &JobPaths,
        control: &Control,
        mut first: Option<Signal>,
    ) -> Result<Result<Projected, Signal>, JobError> {
        let cancelled = Arc::new(AtomicBool::new(false));
        let mut writing = tokio::task::spawn_blocking({
            let cancelled = Arc::clone(&cancelled);
            let (source, paths) = (self.prepared.source.clone(), paths.clone());
            let (index, fields) = (
                Arc::clone(self.journal.index()),
                self.journal.fields().only(self.prepared.spec.fields.names()),
            );
            let access = self.access();
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
                    // Gives it time to remove its file, unless the disk hangs.
                    let _ = timeout(TIDYING, writing).await;
                    return Ok(Err(first));
                }
            }
        }
    }

    /// The report of the session. `resumed` counts the rows answered before it, and `project` is how long the answers
    /// file took to write.
    pub(super) fn report(&self, resumed: u64, project: Duration, stop: Option<&StopReason>) -> Report {
        let bridge = &self.prepared.answerer.bridge;
        let health = bridge.health();
        let lag = health.longest(|lane| lane.longest_lag);
        let journal = self.journal.stats();
        let workers = Worker::of_lanes(&health.lanes, bridge.describe().workers);
        let blocked = health.lanes.into_iter().flat_map(|lane| lane.blockages).map(Into::into).collect();
        let facts = Facts {
            selected: self.validated.selected,
            input_rows: self.validated.rows + self.validated.empty,
            resumed,
            concurrency: self.calls as u64,
            startup: self.prepared.answerer.startup,
            validate: self.prepared.validate,
            project,
            stopped: stop.map(|stop| stop.told(self.outage.as_deref())),
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
            workers,
            run: report::RunInfo { finished_at: now(), ..self.prepared.facts() },
        };
        Report::new(&self.fold, facts)
    }

    /// Who may read the files that the session writes.
    fn access(&self) -> Access {
        self.prepared.spec.access.access()
    }
}

/// Whether the bridge to the predictor broke.
fn is_broken(stop: Option<&StopReason>) -> bool {
    matches!(stop, Some(StopReason::Bridge(_)))
}
