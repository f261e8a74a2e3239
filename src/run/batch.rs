//! Handles a batch of events, always in this order: records it, checks it against the run's limits, starts the next
//! rows, and shows it.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;
use tokio::task::yield_now;
use tokio::time::Instant;

use super::todo::Todo;
use super::{Dispatcher, Held};
use crate::engine::Since;
use crate::error::FailureKind;
use crate::event::Event;
use crate::journal::{JournalError, Status};
use crate::observe::Level;
use crate::outcome::{FailedAttempt, Outcome};
use crate::policy::limits::Whose;
use crate::policy::stop::StopReason;
use crate::row::Row;

/// The warning for the job's first answer that was cut off.
const CUT_OFF: &str = "an answer was cut off at max_tokens; such answers are kept and counted
hint: allow more with `--lm max_tokens=N`; `--cut-off fail` makes them failures";

impl Dispatcher<'_> {
    /// Records a batch of events and the start of the next rows with one write. Starts those rows, then shows the
    /// outcomes.
    pub(super) async fn take_in(&mut self, batch: &mut Vec<Event>, todo: &mut Todo) {
        let outcomes = self.record_and_start(batch, todo);
        if !outcomes.is_empty() {
            // Lets the rows that were started be handed to Python before anything is shown.
            yield_now().await;
            for outcome in outcomes {
                self.show(outcome);
            }
        }
    }

    /// Records the batch and starts the next rows. Returns the outcomes, which are still to be shown.
    #[expect(clippy::vec_box, reason = "events bring outcomes in boxes and take them on in boxes")]
    fn record_and_start(&mut self, batch: &mut Vec<Event>, todo: &mut Todo) -> Vec<Box<Outcome>> {
        let now = Instant::now();
        let mut held = Vec::new();
        let mut others = Vec::new();
        for event in batch.drain(..) {
            match event {
                Event::Panicked { row, text } => {
                    self.in_hand.remove(&row);
                    self.stop(StopReason::Panicked { row, text });
                }
                Event::Broken { error, permit } => {
                    self.stop(error.into());
                    // The calls in flight cannot end either.
                    self.run.engine.kill();
                    drop(permit);
                }
                Event::Finished { outcome, permit } => match self.whose(&outcome) {
                    Whose::Unknown => self.hold(outcome, permit, now),
                    whose => match self.ended(outcome, now, whose) {
                        Ok(outcome) => held.push((outcome, permit)),
                        Err(left) => others.push(left),
                    },
                },
                _ => others.push(event),
            }
        }
        let rows = self.read(todo);
        // Only now is it known whether there are more rows. When the run ends, no outcome is held any more.
        self.judge_held(todo.ended(), &mut held, &mut others);
        let (outcomes, permits): (Vec<_>, Vec<_>) = held.into_iter().unzip();
        let mut attempts = Vec::new();
        for event in &others {
            if let Event::Unfinished { row, .. } = event {
                self.in_hand.remove(row);
            }
            attempts.extend(failed_attempt(event));
        }
        if let Err(error) = self.record(&attempts, &outcomes, &rows) {
            self.cannot_record(&error);
        }
        for attempt in attempts {
            self.run.fold.attempt(attempt);
        }
        for event in &others {
            self.run.observer.event(event);
        }
        for outcome in &outcomes {
            if let Some(reason) = self.run.limits.observe(outcome) {
                self.stop(reason);
            }
        }
        // All at once, since each time the semaphore is locked.
        drop(permits.into_iter().flatten().reduce(|mut all, permit| {
            all.merge(permit);
            all
        }));
        if !rows.is_empty() && self.stop.is_none() {
            let since = Since { read: now, first_call: *self.first_call.get_or_insert_with(Instant::now) };
            for row in rows {
                tokio::spawn(Box::pin(Arc::clone(&self.run.engine).run(row, since, self.events.clone())));
            }
        } else {
            for row in rows {
                self.in_hand.remove(&row.id);
            }
        }
        outcomes
    }

    /// Decides whether a 403 is put down to the row or to the key.
    fn whose(&mut self, outcome: &Outcome) -> Whose {
        let failed_before = self.run.recorder.status(outcome.row) == Some(Status::Failed);
        self.run.limits.forbidden(outcome, failed_before)
    }

    /// Holds an outcome until it is known what its 403 is put down to.
    fn hold(&mut self, mut outcome: Box<Outcome>, permit: Option<OwnedSemaphorePermit>, now: Instant) {
        self.in_hand.remove(&outcome.row);
        self.timed(&mut outcome, now);
        self.forbidden.push((outcome, permit));
    }

    /// Decides about the outcomes that are held. Once a call was answered, they are recorded as their rows' failures.
    /// Once no answer can come any more, the run stops and their rows are left open.
    fn judge_held(&mut self, all_read: bool, outcomes: &mut Vec<Held>, others: &mut Vec<Event>) {
        if self.forbidden.is_empty() {
            return;
        }
        if self.run.limits.is_answered() {
            outcomes.append(&mut self.forbidden);
            return;
        }
        let all_refused = self.forbidden.len() >= self.run.engine.concurrency();
        let nothing_to_come = self.in_hand.is_empty() && all_read;
        if let Some(failure) = self.forbidden.last().and_then(|(outcome, _)| outcome.failure())
            && (all_refused || nothing_to_come)
        {
            let error = failure.to_string();
            self.stop(StopReason::Fatal { error, forbidden: true });
        }
        if self.stop.is_some() {
            others.extend(self.forbidden.drain(..).map(|(outcome, _)| left_open(&outcome)));
        }
    }

    /// Returns the outcome if it is to be recorded. If the row did not cause the failure, stops the run and returns the
    /// event that leaves the row open.
    fn ended(
        &mut self,
        mut outcome: Box<Outcome>,
        now: Instant,
        whose: Whose,
    ) -> Result<Box<Outcome>, Event> {
        self.in_hand.remove(&outcome.row);
        self.timed(&mut outcome, now);
        if let Err(failure) = &outcome.result
            && (failure.kind == FailureKind::Fatal || whose == Whose::Everybody)
        {
            // The row did not cause a refused key or an exhausted quota, so it stays open.
            self.stop(StopReason::Fatal { error: failure.to_string(), forbidden: whose == Whose::Everybody });
            return Err(left_open(&outcome));
        }
        Ok(outcome)
    }

    /// Adds how long the outcome waited to be recorded, which only the dispatcher knows.
    fn timed(&self, outcome: &mut Outcome, now: Instant) {
        if let Some(first_call) = self.first_call {
            let waited = (now - first_call).saturating_sub(outcome.timing.recorded);
            outcome.timing.add_recording(waited);
        }
    }

    /// Whether another row may be read now.
    pub(super) fn wants(&self, todo: &Todo) -> bool {
        let look_ahead = self.run.bounds.look_ahead + self.run.engine.wants_fresh();
        self.stop.is_none() && !todo.ended() && self.in_hand.len() < todo.most_in_hand(look_ahead)
    }

    /// Reads the next rows, up to the limit of rows in hand.
    fn read(&mut self, todo: &mut Todo) -> Vec<Row> {
        let mut rows = Vec::new();
        while self.wants(todo) {
            match todo.next() {
                Ok(Some(row)) => {
                    self.in_hand.insert(row.id);
                    rows.push(row);
                }
                Ok(None) if todo.is_waiting() => break,
                Ok(None) => self.run.engine.admission.all_asked(),
                Err(error) => self.stop(StopReason::Failed(error.to_string())),
            }
        }
        rows
    }

    fn record(
        &mut self,
        attempts: &[&FailedAttempt],
        outcomes: &[Box<Outcome>],
        rows: &[Row],
    ) -> Result<(), JournalError> {
        let recorder = &mut *self.run.recorder;
        for attempt in attempts {
            recorder.attempt(attempt)?;
        }
        for outcome in outcomes {
            recorder.outcome(outcome)?;
        }
        if self.stop.is_none() && !rows.is_empty() {
            recorder.started(rows)?;
        }
        recorder.commit()?;
        self.disk_full = false;
        Ok(())
    }

    /// Stops the run after a failed write. If the disk is full, the outcomes stay in memory, and every later batch
    /// tries to record them again.
    fn cannot_record(&mut self, error: &JournalError) {
        if error.is_disk_full() {
            self.disk_full = true;
        } else {
            self.run.engine.kill();
        }
        self.stop(StopReason::Failed(error.to_string()));
    }

    fn show(&mut self, outcome: Box<Outcome>) {
        match &outcome.result {
            Ok(answer) => {
                self.ok += 1;
                if answer.is_cut_off() && self.run.fold.stats.cut_off() == 0 {
                    self.run.observer.message(Level::Warning, CUT_OFF);
                }
            }
            Err(_) => self.failed += 1,
        }
        self.run.fold.outcome(&outcome);
        self.run.observer.event(&Event::Finished { outcome, permit: None });
    }
}

/// The failed attempt that an event reports, if its row has no outcome.
fn failed_attempt(event: &Event) -> Option<&FailedAttempt> {
    match event {
        Event::Retrying { attempt, .. } | Event::Unfinished { last: Some(attempt), .. } => Some(attempt),
        _ => None,
    }
}

/// The event that leaves a row open. The failure of its outcome becomes that of its last attempt.
fn left_open(outcome: &Outcome) -> Event {
    Event::Unfinished { row: outcome.row, last: outcome.failed_attempt().map(Box::new) }
}
