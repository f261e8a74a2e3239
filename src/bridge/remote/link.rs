//! What the calling end's bridge and its connection share: the calls that have not ended, and what the worker told.

use std::future::ready;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use tokio::sync::{mpsc, oneshot, watch};

use super::lane::RemoteLane;
use super::message::{Marks, ToWorker, WireCall};
use super::outbox::Outbox;
use super::wire;
use crate::bridge::{Call, CancelCall, Health, LaneHealth, Reply};
use crate::call::{Attempt, CallClock, Lane};
use crate::error::CallError;
use crate::event::Blockage;

/// Replies, each with the future that waits for it.
pub(super) type Settled = Vec<(oneshot::Sender<Reply>, Reply)>;

/// The values that do not fit, by line and parameter, each with the reason; or why none can be checked.
pub(super) type Checked = Result<Vec<(u64, String, String)>, String>;

/// A call that has not ended on the other side.
#[derive(Debug)]
struct Open {
    row: u64,
    clock: CallClock,
    /// None once the call was cancelled or has its reply.
    sender: Option<oneshot::Sender<Reply>>,
    /// When it began, as far as that is known.
    begun: Option<Duration>,
}

#[derive(Debug, Default)]
struct Calls {
    open: FxHashMap<u64, Open>,
    next: u64,
    /// How calls end that are made from now on.
    closed: Option<CallError>,
}

/// What the worker told last.
#[derive(Debug, Default)]
struct Told {
    health: Health,
    blocked: Vec<Blockage>,
}

/// The connection to a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub(super) enum Connection {
    Open,
    /// The worker has said that nothing follows.
    Bye,
    /// There is nobody at the other end, or what comes cannot be read.
    Gone,
}

/// See the module's page.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) outbox: Outbox,
    pub(super) lane: Arc<RemoteLane>,
    pub(super) connection: watch::Sender<Connection>,
    /// Wakes threads that wait for the connection's end.
    ended: Condvar,
    /// Whoever waits for values to be checked.
    pub(super) checking: Mutex<Option<SyncSender<Checked>>>,
    calls: Mutex<Calls>,
    told: Mutex<Told>,
    answered: AtomicU64,
    settled: mpsc::UnboundedSender<Settled>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Link {
    pub(super) fn new(settled: mpsc::UnboundedSender<Settled>) -> Self {
        Self {
            outbox: Outbox::default(),
            lane: Arc::default(),
            connection: watch::Sender::new(Connection::Open),
            ended: Condvar::new(),
            checking: Mutex::default(),
            calls: Mutex::default(),
            told: Mutex::default(),
            answered: AtomicU64::new(0),
            settled,
        }
    }

    pub(super) fn submit(self: &Arc<Self>, attempt: Attempt) -> Call {
        let Attempt { row, number, arguments, clock } = attempt;
        clock.runs_on(Arc::clone(&self.lane) as Arc<dyn Lane>);
        let (sender, reply) = oneshot::channel();
        let mut calls = lock(&self.calls);
        if let Some(error) = &calls.closed {
            return Call::driven(ready(Err(error.clone())));
        }
        let call = calls.next;
        calls.next += 1;
        calls.open.insert(call, Open { row, clock, sender: Some(sender), begun: None });
        drop(calls);
        self.outbox.push(&ToWorker::Call(WireCall(call, row, number, wire::fields(&arguments))));
        Call::sent(reply, Arc::clone(self) as Arc<dyn CancelCall>, call)
    }

    /// A call has been running for so long.
    pub(super) fn begun(&self, call: u64, since: Duration) {
        if let Some(open) = lock(&self.calls).open.get_mut(&call) {
            let begun = open.clock.elapsed().saturating_sub(since);
            open.clock.begun_after(*open.begun.get_or_insert(begun));
        }
    }

    /// A call has its reply or was cancelled, and perhaps nothing of it is left running. Returns the future that waits
    /// for the reply.
    pub(super) fn ended(&self, call: u64, marks: Marks, over: bool) -> Option<oneshot::Sender<Reply>> {
        let mut calls = lock(&self.calls);
        let open = calls.open.get_mut(&call)?;
        let transit = open.clock.elapsed().saturating_sub(marks.took());
        if let Some(begun) = marks.begun() {
            let seen = *open.begun.get_or_insert(transit / 2 + begun);
            open.clock.begun_after(seen);
            if let Some(ended) = marks.ended() {
                open.clock.ended_after(seen + ended.saturating_sub(begun));
            }
        }
        let sender = open.sender.take();
        let over = if over { calls.open.remove(&call) } else { None };
        drop(calls);
        drop(over);
        sender
    }

    /// Gives replies to the futures that wait for them, on the runtime where those are.
    pub(super) fn settle(&self, settled: Settled) {
        if !settled.is_empty() {
            let answers = settled.iter().filter(|(_, reply)| reply.is_ok()).count();
            self.answered.fetch_add(answers as u64, Ordering::Relaxed);
            // Nobody listens once that runtime is gone.
            let _ = self.settled.send(settled);
        }
    }

    pub(super) fn pulse(&self, mut health: Health) {
        if let Some(lane) = health.lanes.first() {
            self.lane.tell(lane.stalled, lane.stalled_now);
        }
        let mut told = lock(&self.told);
        told.blocked.append(&mut health.blocked);
        told.health = health;
    }

    /// The worker's health, its blockages taken.
    pub(super) fn health(&self) -> Health {
        let mut told = lock(&self.told);
        let blocked = std::mem::take(&mut told.blocked);
        let mut health = Health { blocked, ..told.health.clone() };
        drop(told);
        if health.lanes.is_empty() {
            health.lanes.push(LaneHealth::default());
        }
        let lane = &mut health.lanes[0];
        let calls = lock(&self.calls);
        (lane.calls, lane.made) = (calls.open.len() as u64, calls.next);
        drop(calls);
        lane.answered = self.answered.load(Ordering::Relaxed);
        lane.stalled = self.lane.stalled_by(Instant::now());
        lane.stalled_now = self.lane.stalled_now();
        health
    }

    /// The rows whose calls have not ended on the other side, including those that nobody waits for.
    pub(super) fn rows(&self) -> Vec<u64> {
        lock(&self.calls).open.values().map(|open| open.row).collect()
    }

    pub(super) fn len(&self) -> usize {
        lock(&self.calls).open.len()
    }

    /// Whether anybody waits for a call.
    pub(super) fn is_awaited(&self) -> bool {
        lock(&self.calls).open.values().any(|open| open.sender.is_some())
    }

    /// The number of calls that have ended on the other side.
    pub(super) fn ended_calls(&self) -> u64 {
        let calls = lock(&self.calls);
        calls.next - calls.open.len() as u64
    }

    /// Takes no more calls, which end as `after`, and ends those that are open, as `verdict` says of their row. `is_seen`
    /// says whether their end was seen.
    pub(super) fn end_calls(
        &self,
        after: CallError,
        is_seen: bool,
        mut verdict: impl FnMut(u64) -> CallError,
    ) {
        let mut calls = lock(&self.calls);
        calls.closed.get_or_insert(after);
        let open = std::mem::take(&mut calls.open);
        drop(calls);
        let mut settled = Settled::with_capacity(open.len());
        let mut clocks = Vec::with_capacity(open.len());
        for (_, Open { row, clock, sender, .. }) in open {
            settled.extend(sender.map(|sender| (sender, Err(verdict(row)))));
            if !is_seen {
                clock.end_unseen();
            }
            clocks.push(clock);
        }
        // First, so that whoever has the reply knows that nothing is left running.
        drop(clocks);
        self.settle(settled);
    }

    /// The connection has ended in this way.
    pub(super) fn disconnect(&self, how: Connection) {
        self.connection.send_if_modified(|connection| {
            let later = how > *connection;
            if later {
                *connection = how;
            }
            later
        });
        // Whoever looked before waits by now.
        drop(lock(&self.checking).take());
        self.ended.notify_all();
    }

    /// Waits until the worker has said that nothing follows, or is gone. Returns whether that was within the bound.
    pub(super) fn wait_ended(&self, bound: Duration) -> bool {
        let checking = lock(&self.checking);
        let is_open = |_: &mut _| *self.connection.borrow() == Connection::Open;
        let waited = self.ended.wait_timeout_while(checking, bound, is_open);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

impl CancelCall for Link {
    fn cancel(&self, call: u64) {
        if let Some(open) = lock(&self.calls).open.get_mut(&call) {
            open.sender = None;
        }
        self.outbox.push(&ToWorker::Cancel(call));
    }
}
