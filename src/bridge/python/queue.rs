//! The hand-over between Tokio and the event loop's thread: calls one way, results the other. Not how a call is run.

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::{Py, PyAny, Python};
use rustc_hash::FxBuildHasher;
use rustix::event::{EventfdFlags, eventfd};
use tokio::sync::{mpsc, oneshot};

use super::Reply;
use crate::call::{Attempt, CallClock};
use crate::row::Arguments;

/// A mutex whose holders never panic half-way: a poisoned one is as good.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A call, from its future to the loop and back with its result. It is made and freed by Tokio, which has the time.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) id: u64,
    pub(super) row: u64,
    pub(super) number: u32,
    pub(super) arguments: Arc<Arguments>,
    /// None once a thread or a stream marks on it too.
    pub(super) clock: Option<CallClock>,
    sender: oneshot::Sender<Reply>,
}

impl Job {
    /// A call, and where its result comes out.
    pub(super) fn new(id: u64, attempt: Attempt) -> (Box<Self>, oneshot::Receiver<Reply>) {
        let (sender, receiver) = oneshot::channel();
        let Attempt { row, number, arguments, clock } = attempt;
        (Box::new(Self { id, row, number, arguments, clock: Some(clock), sender }), receiver)
    }

    /// Gives the result to the call's future. That of a call cancelled meanwhile is gone.
    pub(super) fn give(self, reply: Reply) {
        let _ = self.sender.send(reply);
    }
}

/// Calls with their results.
pub(super) type Batch = Vec<(Box<Job>, Reply)>;

/// Whether results are worth waking Tokio for while the loop is still in its turn: fewer than 32 are not, half as many as
/// there are other calls are, so that their successors come while the loop is at work on those (measured).
fn is_full(results: usize, others: usize) -> bool {
    results >= (others / 2).clamp(32, 256)
}

/// Tokio's side: what it asks and the loop has not fetched yet.
#[derive(Debug, Default)]
struct Waiting {
    calls: VecDeque<Box<Job>>,
    cancellations: Vec<u64>,
    /// The loop has been woken and will look.
    woken: bool,
    closed: bool,
}

/// The loop's side. Apart from closing, only its thread takes the lock, which is therefore free, and once a call.
#[derive(Debug, Default)]
struct Desk {
    /// Fetched all at once, not taken yet.
    calls: VecDeque<Box<Job>>,
    /// The task that runs each call that waits for something, for cancelling it.
    tasks: HashMap<u64, Py<PyAny>, FxBuildHasher>,
    results: Batch,
    /// Calls that workers took right after another since the last [`Queue::look`].
    taken: usize,
    /// Somebody was asked to [`Queue::send`] by the end of the turn.
    asked: bool,
}

/// What Tokio asks of the loop, and what it gets. Workers take calls from it directly; the loop is woken to have enough
/// of them.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    desk: Mutex<Desk>,
    wake: OwnedFd,
    results: mpsc::UnboundedSender<Batch>,
    next_id: AtomicU64,
}

/// What the loop finds when it was woken.
pub(super) struct Look {
    /// Calls for which a worker must come.
    pub(super) calls: usize,
    /// The tasks whose calls are to be cancelled. A call that still waits for a worker is passed over by [`Queue::take`].
    pub(super) cancelled: Vec<Py<PyAny>>,
}

impl Queue {
    pub(super) fn new(results: mpsc::UnboundedSender<Batch>) -> rustix::io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        let (waiting, desk) = (Mutex::default(), Mutex::default());
        Ok(Self { waiting, desk, wake, results, next_id: AtomicU64::new(0) })
    }

    pub(super) fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Readable when [`Self::look`] has something to tell.
    pub(super) fn wake_fd(&self) -> RawFd {
        self.wake.as_raw_fd()
    }

    /// Queues a call. False once the queue is closed.
    pub(super) fn push(&self, job: Box<Job>) -> bool {
        self.ask(|waiting| waiting.calls.push_back(job))
    }

    /// Asks that a call be cancelled.
    pub(super) fn cancel(&self, id: u64) {
        self.ask(|waiting| waiting.cancellations.push(id));
    }

    fn ask(&self, change: impl FnOnce(&mut Waiting)) -> bool {
        let mut waiting = lock(&self.waiting);
        if waiting.closed {
            return false;
        }
        change(&mut waiting);
        let wake = !std::mem::replace(&mut waiting.woken, true);
        drop(waiting);
        if wake {
            // It can only fail where the counter is full, and then the loop is awake.
            let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
        }
        true
    }

    /// For the woken loop. Workers that end a call take the next one themselves: as many calls as they took since the
    /// last look are left to them, and the loop stays awake to see whether they came. A worker woken for a call that is
    /// gone by then costs as much as the call.
    pub(super) fn look(&self, py: Python<'_>) -> Look {
        let mut desk = lock(&self.desk);
        let mut waiting = lock(&self.waiting);
        let calls = desk.calls.len() + waiting.calls.len();
        let left = std::mem::take(&mut desk.taken).min(calls);
        if left == 0 {
            let mut counter = [0; 8];
            let _ = rustix::io::read(&self.wake, &mut counter);
            waiting.woken = false;
        }
        let cancelled = waiting.cancellations.drain(..).filter_map(|call| desk.tasks.get(&call));
        Look { calls: calls - left, cancelled: cancelled.map(|task| task.clone_ref(py)).collect() }
    }

    /// The next call that somebody still waits for: one cancelled while it was queued is not even made.
    pub(super) fn take(&self) -> Option<Box<Job>> {
        self.next(&mut lock(&self.desk))
    }

    fn next(&self, desk: &mut Desk) -> Option<Box<Job>> {
        loop {
            if desk.calls.is_empty() {
                std::mem::swap(&mut desk.calls, &mut lock(&self.waiting).calls);
            }
            let job = desk.calls.pop_front()?;
            if !job.sender.is_closed() {
                return Some(job);
            }
        }
    }

    /// Enters a call that waits for something under the task that runs it.
    pub(super) fn enter(&self, call: u64, task: Py<PyAny>) {
        lock(&self.desk).tasks.insert(call, task);
    }

    /// Puts a result in; and takes the next call where `more` are wanted. The first result of a turn is told (`true`):
    /// somebody must then [`Self::send`] by the end of the turn. A full batch goes at once, so that the next calls come
    /// while the loop is still at work on these.
    pub(super) fn settle(
        &self,
        entered: bool,
        job: Box<Job>,
        reply: Reply,
        more: bool,
    ) -> (bool, Option<Box<Job>>) {
        let mut desk = lock(&self.desk);
        let task = if entered { desk.tasks.remove(&job.id) } else { None };
        desk.results.push((job, reply));
        let size = desk.results.len();
        let full = is_full(size, desk.tasks.len())
            .then(|| std::mem::replace(&mut desk.results, Vec::with_capacity(size)));
        let ask = !std::mem::replace(&mut desk.asked, true);
        let next = if more { self.next(&mut desk) } else { None };
        desk.taken += usize::from(next.is_some());
        drop(desk);
        drop(task);
        if let Some(full) = full {
            self.deliver(full);
        }
        (ask, next)
    }

    /// Sends what has gathered over the turn.
    pub(super) fn send(&self) {
        let mut desk = lock(&self.desk);
        desk.asked = false;
        let results = std::mem::take(&mut desk.results);
        drop(desk);
        if !results.is_empty() {
            self.deliver(results);
        }
    }

    fn deliver(&self, batch: Batch) {
        // Nobody listens once the runtime is gone; the process is ending then.
        let _ = self.results.send(batch);
    }

    /// Takes no more calls and drops those that wait: their futures end as a stopped loop.
    pub(super) fn close(&self) {
        let fetched = std::mem::take(&mut lock(&self.desk).calls);
        let mut waiting = lock(&self.waiting);
        waiting.closed = true;
        let left = std::mem::take(&mut waiting.calls);
        drop(waiting);
        drop((fetched, left));
    }

    pub(super) fn is_closed(&self) -> bool {
        lock(&self.waiting).closed
    }
}
