//! The dispatcher: rows in, outcomes out, until there are no more or something stops it. Not what is done with a batch of
//! events (`batch`), nor the attempts, nor the files' formats.

mod batch;
pub(crate) mod control;
pub(crate) mod todo;

use std::collections::HashSet;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustc_hash::FxBuildHasher;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{Instant as TokioInstant, MissedTickBehavior, sleep_until, timeout_at};

use self::control::Control;
use self::todo::Todo;
use crate::engine::Engine;
use crate::event::Event;
use crate::journal::Journal;
use crate::observe::{Level, Observer, Snapshot};
use crate::policy::limits::Limits;
use crate::policy::stop::{Signal, StopReason};
use crate::report::text::{self, counted};
use crate::stats::{Fold, RowRate};

/// Events taken in at once.
const BATCH: usize = 1024;
/// How often observers are told of the gauges.
const TICK: Duration = Duration::from_millis(100);
/// How long calls that are cut off at a second signal may take to say so.
const AT_ONCE: Duration = Duration::from_millis(100);
/// How often a full disk is tried again, once the calls have ended.
const DISK_RETRY: Duration = Duration::from_millis(250);

/// What bounds a run from outside.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Rows in the selection.
    pub total: u64,
    /// Rows that earlier sessions answered.
    pub resumed: u64,
    /// Rows read ahead of their permits, at most.
    pub look_ahead: usize,
    /// For the whole run.
    pub deadline: Option<Duration>,
    /// For calls in flight once the run is stopping.
    pub grace: Duration,
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Why it ended before its rows did.
    pub stop: Option<StopReason>,
    /// A second signal came: nothing more must be written.
    pub hurried: bool,
    /// The last error of the outage in which it came to be stopped, if in any.
    pub outage: Option<String>,
}

/// One run: what it works with.
pub(crate) struct Run<'a> {
    /// Takes rows to outcomes.
    pub engine: Arc<Engine>,
    /// The truth.
    pub journal: &'a mut Journal,
    /// The guards.
    pub limits: Limits,
    /// The figures.
    pub fold: &'a mut Fold,
    /// Who watches it.
    pub observer: &'a mut dyn Observer,
    /// What ends it early.
    pub control: &'a Control,
    /// What bounds it.
    pub bounds: Bounds,
}

/// A run's state from its first row to its last.
struct Dispatcher<'a> {
    run: Run<'a>,
    events: Sender<Event>,
    in_hand: HashSet<u64, FxBuildHasher>,
    /// Rows that got a 403 while no call was ever answered, until it is known whose fault that is. They keep their
    /// permits: no more rows than there are permits learn of a refused key.
    forbidden: Vec<batch::Held>,
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
    /// Runs the rows to their outcomes, or until something stops it.
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
        self.look_first(deadline);
        let mut ticks = tokio::time::interval(TICK);
        // Those missed while a write took long are not made up for: the inbox would wait for all of them.
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
                    self.run.observer.message(Level::Warning, "the grace has passed: calls in flight are cancelled");
                    self.run.engine.kill();
                }
                () = at(deadline), if self.stop.is_none() => self.stop(StopReason::Deadline),
                // Before the inbox, which need not be empty ever: the guards are looked at also while outcomes pour in.
                _ = ticks.tick() => self.tick(),
                _ = inbox.recv_many(&mut batch, BATCH) => {}
            }
        }
    }

    /// Calls no row where a signal or the deadline came before the first one.
    fn look_first(&mut self, deadline: Option<TokioInstant>) {
        if let Some(signal) = self.run.control.take() {
            self.signalled(StopReason::Signal(signal));
        } else if deadline.is_some_and(|deadline| deadline <= TokioInstant::now()) {
            self.stop(StopReason::Deadline);
        }
    }

    /// Stops making calls, for the weightiest reason there is.
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

    /// Says why the run is stopping, what it waits for, and how to wait no longer.
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

    /// Whether it is the second signal, which ends the run at once.
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

    /// Takes in what the calls in flight come to that were cut off: they have been made, and may be billed.
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
            && let Some(loss) = self.run.journal.loss()
        {
            self.stop(StopReason::Failed(loss.to_string()));
        }
        for blockage in self.run.engine.blocked() {
            let mut in_hand: Vec<u64> = self.in_hand.iter().copied().collect();
            in_hand.sort_unstable();
            self.run.observer.event(&Event::Blocked { blockage, in_hand });
        }
        let snapshot = self.snapshot();
        self.run.observer.tick(&snapshot);
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
            unfinished: if self.stop.is_some() { open - self.in_hand.len() as u64 } else { 0 },
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
        let snapshot = self.snapshot();
        self.run.observer.finish(&snapshot);
        self.run.fold.close_live_session(
            self.run.engine.gauges.most_in_flight.load(Ordering::Relaxed) as u64,
            self.run.engine.admission.limited_for().into(),
        );
        Ended { stop: self.stop, hurried: self.hurried, outage: self.outage }
    }

    /// Tries to record what is finished until there is space, the grace has passed again, or a signal says not to.
    async fn wait_for_space(&mut self) {
        let grace = self.run.bounds.grace;
        let text = format!("waiting up to {} for space on the disk", text::limit(grace));
        self.run.observer.message(Level::Warning, &text);
        let until = TokioInstant::now() + grace;
        let mut signalled = false;
        // The calls have ended: whatever ends the process now, no row is to blame for it.
        self.run.journal.mark_ended(true);
        while self.run.journal.commit().is_err_and(|error| error.is_disk_full()) {
            tokio::select! {
                () = tokio::time::sleep(DISK_RETRY) => {}
                () = sleep_until(until) => return,
                signal = self.run.control.next() => {
                    if std::mem::replace(&mut signalled, true) {
                        return;
                    }
                    let reason = StopReason::Signal(signal);
                    let text = format!("{reason}: still waiting for space, or else answers are lost; a second signal ends it");
                    self.run.observer.message(Level::Warning, &text);
                }
            }
        }
    }
}

/// Resolves at the time given; never without one.
async fn at(time: Option<TokioInstant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => pending().await,
    }
}
