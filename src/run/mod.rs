//! The dispatcher. It hands rows to the engine and takes in the events that come back, until all rows have an outcome
//! or something stops the run. `batch` handles each batch of events.

mod batch;
pub(crate) mod control;
mod recorder;
#[cfg(test)]
mod tests;
pub(crate) mod todo;

use std::collections::HashSet;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustc_hash::FxBuildHasher;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{Instant as TokioInstant, MissedTickBehavior, sleep_until, timeout_at};

use self::control::Control;
use self::recorder::Recorder;
use self::todo::Todo;
use crate::engine::Engine;
use crate::event::Event;
use crate::observe::{Level, Observer, Snapshot};
use crate::outcome::Outcome;
use crate::policy::limits::Limits;
use crate::policy::stop::{Signal, StopReason};
use crate::report::text::{self, counted};
use crate::stats::{Fold, RowRate};

/// The most events in a batch.
const BATCH: usize = 1024;
/// How often observers get a snapshot.
const TICK: Duration = Duration::from_millis(100);
/// How long calls that a second signal cancels may take to report back.
const AT_ONCE: Duration = Duration::from_millis(100);
/// How often writing to a full disk is tried again, once the calls have ended.
const DISK_RETRY: Duration = Duration::from_millis(250);

/// The bounds of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Rows in the selection.
    pub total: u64,
    /// Rows that earlier sessions answered.
    pub resumed: u64,
    /// The most rows that are read before they have a permit.
    pub look_ahead: usize,
    /// How long the run may make calls.
    pub deadline: Option<Duration>,
    /// How long calls in flight may go on once the run is stopping.
    pub grace: Duration,
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Why it ended before all rows had an outcome, if it did.
    pub stop: Option<StopReason>,
    /// Whether a second signal came, after which only the session's end may still be written.
    pub hurried: bool,
    /// The last error of the outage during which the run was stopped, if there was one.
    pub outage: Option<String>,
    /// How long it lasted.
    pub took: Duration,
}

/// A run, and everything that it works with.
pub(crate) struct Run<'a> {
    /// Calls the predictor for rows until each has an outcome.
    pub engine: Arc<Engine>,
    /// Records everything that happens, before it is shown.
    pub recorder: &'a mut dyn Recorder,
    /// Stops the run when rows keep failing.
    pub limits: Limits,
    /// The figures for the report.
    pub fold: &'a mut Fold,
    /// Is told what happens.
    pub observer: &'a mut dyn Observer,
    /// Ends the run from outside.
    pub control: &'a Control,
    /// The bounds of the run.
    pub bounds: Bounds,
}

/// An outcome, with the permit of its row's last call.
type Held = (Box<Outcome>, Option<OwnedSemaphorePermit>);

/// The state of a run.
struct Dispatcher<'a> {
    run: Run<'a>,
    events: Sender<Event>,
    /// Rows that were read and are neither finished nor left open.
    in_hand: HashSet<u64, FxBuildHasher>,
    /// Outcomes of rows that got a 403 before any call was answered, until it is known what the 403 is put down to.
    /// They keep their permits, so that no more rows than there are permits run into a refused key.
    forbidden: Vec<Held>,
    started: Instant,
    first_call: Option<TokioInstant>,
    stop: Option<StopReason>,
    outage: Option<String>,
    kill_at: Option<TokioInstant>,
    signalled: bool,
    hurried: bool,
    disk_full: bool,
    rate: RowRate,
    ok: u64,
    failed: u64,
}

impl Run<'_> {
    /// Runs the rows until each has an outcome, or until something stops the run.
    pub(crate) async fn rows(self, mut todo: Todo) -> Ended {
        let (events, mut inbox) = channel(BATCH);
        let mut dispatcher = Dispatcher {
            run: self,
            events,
            in_hand: HashSet::default(),
            forbidden: Vec::new(),
            started: Instant::now(),
            first_call: None,
            stop: None,
            outage: None,
            kill_at: None,
            signalled: false,
            hurried: false,
            disk_full: false,
            rate: RowRate::default(),
            ok: 0,
            failed: 0,
        };
        dispatcher.dispatch(&mut todo, &mut inbox).await;
        dispatcher.finish().await
    }
}

impl Dispatcher<'_> {
    async fn dispatch(&mut self, todo: &mut Todo, inbox: &mut Receiver<Event>) {
        let deadline = self.run.bounds.deadline.map(|limit| TokioInstant::now() + limit);
        self.look_first(deadline).await;
        let mut ticks = tokio::time::interval(TICK);
        // Ticks that were missed during a long write are skipped, for the inbox would have to wait for them all.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Vec::with_capacity(BATCH);
        let control = self.run.control;
        loop {
            self.take_in(&mut batch, todo).await;
            if self.in_hand.is_empty() && (todo.ended() || self.stop.is_some()) {
                return;
            }
            tokio::select! {
                biased;
                signal = control.next() => {
                    if self.signalled(StopReason::Signal(signal)) {
                        return self.cut_off(inbox, &mut batch, todo).await;
                    }
                }
                () = at(self.kill_at) => {
                    self.kill_at = None;
                    self.run.observer.message(Level::Warning, "the grace period is over: cancelling the calls in flight");
                    self.run.engine.kill();
                }
                () = at(deadline), if self.stop.is_none() => self.stop(StopReason::Deadline),
                // Before the inbox, which may never be empty: the guards must be checked even while outcomes pour in.
                _ = ticks.tick() => self.tick(),
                _ = inbox.recv_many(&mut batch, BATCH) => {}
                () = todo.more(), if todo.is_waiting() && self.wants(todo) => {}
            }
        }
    }

    /// Stops the run before its first call if a signal came before, or the deadline has passed.
    async fn look_first(&mut self, deadline: Option<TokioInstant>) {
        if let Some(signal) = self.run.control.come().await {
            self.signalled(StopReason::Signal(signal));
        } else if deadline.is_some_and(|deadline| deadline <= TokioInstant::now()) {
            self.stop(StopReason::Deadline);
        }
    }

    /// Stops making calls. Of several reasons, the weightiest is kept.
    fn stop(&mut self, reason: StopReason) {
        let first = self.stop.is_none();
        if first {
            self.run.engine.stop();
            self.kill_at = Some(TokioInstant::now() + self.run.bounds.grace);
            self.outage = self.run.engine.admission.outage();
        }
        if first || matches!(reason, StopReason::Signal(_)) {
            self.tell(&reason);
        }
        if self.stop.as_ref().is_none_or(|current| reason.outweighs(current)) {
            self.stop = Some(reason);
        }
    }

    /// Says why the run is stopping, what it waits for, and how to end the wait.
    fn tell(&mut self, reason: &StopReason) {
        let waiting = match self.run.engine.gauges.in_flight.load(Ordering::Relaxed) {
            0 => "no call is in flight".to_owned(),
            calls => {
                let grace = text::limit(self.run.bounds.grace);
                format!("waiting up to {grace} for {}", counted(calls as u64, "call"))
            }
        };
        let why = reason.told(self.outage.as_deref());
        let (why, hint) = text::reason(&why);
        let text = match reason {
            StopReason::Signal(Signal::Interrupt) if self.outage.is_none() => {
                format!("stopping: {waiting} (Ctrl-C again to stop now)")
            }
            StopReason::Signal(_) => format!("stopping: {why}; {waiting} (a second signal stops now)"),
            _ => format!("stopping: {why}; {waiting}"),
        };
        let hint = hint.map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
        self.run.observer.message(Level::Warning, &(text + &hint));
    }

    /// Stops the run at the first signal and kills it at the second. Returns whether this is the second.
    fn signalled(&mut self, reason: StopReason) -> bool {
        let again = std::mem::replace(&mut self.signalled, true);
        if again {
            self.hurried = true;
            self.run.control.hurry();
            self.run.engine.kill();
        } else {
            self.stop(reason);
        }
        again
    }

    /// Takes in the events of calls that were cancelled in flight. These calls have been made, and may be billed.
    async fn cut_off(&mut self, inbox: &mut Receiver<Event>, batch: &mut Vec<Event>, todo: &mut Todo) {
        let until = TokioInstant::now() + AT_ONCE;
        while !self.in_hand.is_empty() && timeout_at(until, inbox.recv_many(batch, BATCH)).await.is_ok() {
            self.take_in(batch, todo).await;
        }
    }

    fn tick(&mut self) {
        let abandoned = self.run.engine.gauges.abandoned.load(Ordering::Relaxed);
        if abandoned > self.run.engine.concurrency() {
            self.stop(StopReason::Abandoned { calls: abandoned });
        }
        if self.stop.is_none()
            && let Some(reason) = self.run.engine.admission.unreachable()
        {
            self.stop(reason);
        }
        if self.stop.is_none()
            && let Some(reason) = self.run.engine.admission.exhausted()
        {
            self.stop(reason);
        }
        if self.stop.is_none()
            && let Some(loss) = self.run.recorder.loss()
        {
            self.stop(StopReason::Failed(loss.to_string()));
        }
        for blockage in self.run.engine.blocked() {
            let mut in_hand: Vec<u64> = self.in_hand.iter().copied().collect();
            in_hand.sort_unstable();
            self.run.observer.event(&Event::Blocked { blockage, in_hand });
        }
        self.warn();
        let snapshot = self.snapshot();
        self.run.observer.tick(&snapshot);
    }

    /// Tells what went wrong in the bridge.
    fn warn(&mut self) {
        for warning in self.run.engine.warnings() {
            self.run.observer.message(Level::Warning, &warning);
        }
    }

    fn snapshot(&mut self) -> Snapshot {
        let elapsed = self.started.elapsed();
        let gauges = &self.run.engine.gauges;
        let done = self.ok + self.failed;
        let open = self.run.bounds.total.saturating_sub(self.run.bounds.resumed + done);
        Snapshot {
            total: self.run.bounds.total,
            resumed: self.run.bounds.resumed,
            ok: self.ok,
            failed: self.failed,
            unfinished: if self.stop.is_some() { open.saturating_sub(self.in_hand.len() as u64) } else { 0 },
            in_flight: gauges.in_flight.load(Ordering::Relaxed) as u64,
            waiting_retry: gauges.waiting_retry.load(Ordering::Relaxed) as u64,
            abandoned: gauges.abandoned.load(Ordering::Relaxed) as u64,
            cost_usd: self.run.fold.stats.spent().usage.cost_usd,
            elapsed,
            rows_per_s: self.rate.update(done, elapsed),
            limited_by: self.run.engine.admission.limited_by(),
        }
    }

    async fn finish(mut self) -> Ended {
        if self.disk_full && !self.hurried {
            self.wait_for_space().await;
        }
        let took = self.started.elapsed();
        self.warn();
        let snapshot = self.snapshot();
        self.run.observer.finish(&snapshot);
        self.run.fold.close_live_session(
            self.run.engine.gauges.most_in_flight.load(Ordering::Relaxed) as u64,
            self.run.engine.admission.limited_for().into(),
        );
        Ended { stop: self.stop, hurried: self.hurried, outage: self.outage, took }
    }

    /// Tries to record the outcomes in memory until there is space on the disk, the grace period has passed once more,
    /// or a second signal comes.
    async fn wait_for_space(&mut self) {
        let grace = self.run.bounds.grace;
        let text = format!("waiting up to {} for space on the disk", text::limit(grace));
        self.run.observer.message(Level::Warning, &text);
        let until = TokioInstant::now() + grace;
        let mut signalled = false;
        // All calls have ended, so no row is to blame if the process dies now.
        self.run.recorder.ended(true);
        while self.run.recorder.commit().is_err_and(|error| error.is_disk_full()) {
            tokio::select! {
                () = tokio::time::sleep(DISK_RETRY) => {}
                () = sleep_until(until) => return,
                signal = self.run.control.next() => {
                    if std::mem::replace(&mut signalled, true) {
                        return;
                    }
                    let reason = StopReason::Signal(signal);
                    let text = format!("{reason}: still waiting for space, or else answers are lost; a second signal stops now");
                    self.run.observer.message(Level::Warning, &text);
                }
            }
        }
    }
}

/// Resolves at the given time, or never if there is none.
async fn at(time: Option<TokioInstant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => pending().await,
    }
}
