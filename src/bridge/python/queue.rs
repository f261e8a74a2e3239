//! Hands calls over from Tokio to the event loop's thread, and their results back.

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pyo3::{Py, PyAny, PyTraverseError, PyVisit, Python};
use rustc_hash::FxBuildHasher;
use rustix::event::{EventfdFlags, eventfd};
use tokio::sync::{mpsc, oneshot};

use crate::bridge::{CancelCall, Reply, lease};
use crate::call::{Attempt, CallClock};
use crate::row::Arguments;

/// Locks a mutex whose holders never panic half-way, so that a poisoned one is as good.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A call, on its way from its future to the loop and back with its result. As a rule Tokio makes and frees it, because
/// Tokio's thread has more time.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) id: u64,
    pub(super) row: u64,
    pub(super) number: u32,
    pub(super) arguments: Arc<Arguments>,
    /// None once the clock is shared with a thread or a stream.
    pub(super) clock: Option<CallClock>,
    sender: oneshot::Sender<Reply>,
}

impl Job {
    /// A call, and the receiver of its result.
    pub(super) fn new(id: u64, attempt: Attempt) -> (Box<Self>, oneshot::Receiver<Reply>) {
        let (sender, receiver) = oneshot::channel();
        let Attempt { row, number, arguments, clock } = attempt;
        (Box::new(Self { id, row, number, arguments, clock: Some(clock), sender }), receiver)
    }

    /// Whether somebody still waits for the result.
    pub(super) fn is_wanted(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Gives the result to the call's future, if that still exists.
    pub(super) fn give(self, reply: Reply) {
        let _ = self.sender.send(reply);
    }
}

/// Calls with their results.
pub(super) type Settled = Vec<(Box<Job>, Reply)>;

/// The number of results that may be worth waking Tokio for while the loop is still in its turn.
const LOT: usize = 32;
/// The most results that are kept until they are [`OLD`].
const MOST: usize = 256;
/// The age at which results are worth the wake whatever their number.
const OLD: Duration = Duration::from_millis(5);

/// Tokio's side: what the loop has not fetched yet.
#[derive(Debug, Default)]
struct Waiting {
    calls: VecDeque<Box<Job>>,
    cancellations: Vec<u64>,
    /// Whether the loop has been woken and will look.
    woken: bool,
    closed: bool,
}

/// The loop's side. Its thread takes the lock once for each call and finds it free: others take it only to close the
/// queue or to count the calls. It shares no cache line with what Tokio's thread writes for each call.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Desk {
    /// Fetched together, and not taken yet.
    calls: VecDeque<Box<Job>>,
    /// The task of each call that waits for something, by which it can be cancelled.
    tasks: HashMap<u64, Py<PyAny>, FxBuildHasher>,
    results: Settled,
    /// When the first of the results came.
    first: Option<Instant>,
    /// The number of calls that workers took right after another one since the last [`Queue::look`].
    taken: usize,
    /// The number of calls that have ended, or that nobody wanted any more before they were made.
    ended: u64,
    /// Whether somebody was asked to [`Queue::send`] at the end of the turn.
    asked: bool,
}

impl Desk {
    /// Keeps a result for the next batch. Gives back a call that was cancelled meanwhile, whose result nobody waits
    /// for.
    fn put(&mut self, job: Box<Job>, reply: Reply) -> Option<Box<Job>> {
        if !job.is_wanted() {
            return Some(job);
        }
        if self.results.is_empty() {
            self.first = Some(Instant::now());
        }
        self.results.push((job, reply));
        None
    }

    /// The batch, if it must not wait for the end of the turn. If it goes once there are half as many results as other
    /// calls, the next calls come while the loop works on those (measured).
    fn full(&mut self) -> Option<Settled> {
        let (size, others) = (self.results.len(), self.tasks.len());
        let full = size > 0
            && size.is_multiple_of(LOT)
            && (size >= (others / 2).min(MOST) || self.first.is_some_and(|first| first.elapsed() >= OLD));
        full.then(|| std::mem::replace(&mut self.results, Vec::with_capacity(size)))
    }
}

/// Calls for the loop, and their results. Workers take calls from it directly. The loop is woken to see that there are
/// enough workers.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    desk: Mutex<Desk>,
    wake: Mutex<Option<OwnedFd>>,
    results: mpsc::UnboundedSender<Settled>,
    next_id: AtomicU64,
}

/// What the loop finds when it is woken.
pub(super) struct Look {
    /// The number of calls for which a worker must come.
    pub(super) calls: usize,
    /// The tasks whose calls are to be cancelled. [`Queue::take`] skips a call that is cancelled while it waits for a
    /// worker.
    pub(super) cancelled: Vec<Py<PyAny>>,
}

impl Queue {
    pub(super) fn new(results: mpsc::UnboundedSender<Settled>) -> rustix::io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        let (waiting, desk, wake) = (Mutex::default(), Mutex::default(), Mutex::new(Some(wake)));
        Ok(Self { waiting, desk, wake, results, next_id: AtomicU64::new(0) })
    }

    pub(super) fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Readable when the loop is to [`Self::look`]; -1 once the loop is closed.
    pub(super) fn wake_fd(&self) -> RawFd {
        lock(&self.wake).as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }

    /// Queues a call. False once the queue is closed.
    pub(super) fn push(&self, job: Box<Job>) -> bool {
        self.ask(|waiting| waiting.calls.push_back(job))
    }

    fn ask(&self, change: impl FnOnce(&mut Waiting)) -> bool {
        let mut waiting = lock(&self.waiting);
        if waiting.closed {
            return false;
        }
        change(&mut waiting);
        let wake = !std::mem::replace(&mut waiting.woken, true);
        drop(waiting);
        if wake && let Some(wake) = &*lock(&self.wake) {
            // This fails only if the counter is full, and then the loop is awake.
            let _ = rustix::io::write(wake, &1u64.to_ne_bytes());
        }
        true
    }

    /// Called by the loop when it was woken. Workers that end a call take the next one themselves. As many calls as
    /// they took since the last look are left to them, and the loop stays awake to see whether they came: a worker that
    /// is woken for a call that is gone by then costs as much as the call.
    pub(super) fn look(&self, py: Python<'_>) -> Look {
        let mut desk = lock(&self.desk);
        let mut waiting = lock(&self.waiting);
        let calls = desk.calls.len() + waiting.calls.len();
        let left = std::mem::take(&mut desk.taken).min(calls);
        if left == 0 {
            let _ = lock(&self.wake).as_ref().map(|wake| rustix::io::read(wake, &mut [0_u8; 8]));
            waiting.woken = false;
        }
        let cancelled = waiting.cancellations.drain(..).filter_map(|call| desk.tasks.get(&call));
        Look { calls: calls - left, cancelled: cancelled.map(|task| task.clone_ref(py)).collect() }
    }

    /// The next call that somebody still waits for. A call that was cancelled while it was queued is not even made.
    pub(super) fn take(&self) -> Option<Box<Job>> {
        self.next(&mut lock(&self.desk))
    }

    fn next(&self, desk: &mut Desk) -> Option<Box<Job>> {
        loop {
            if desk.calls.is_empty() {
                std::mem::swap(&mut desk.calls, &mut lock(&self.waiting).calls);
            }
            let job = desk.calls.pop_front()?;
            if job.is_wanted() {
                lease::check();
                return Some(job);
            }
            desk.ended += 1;
        }
    }

    /// Notes the task that runs a call which waits for something.
    pub(super) fn enter(&self, call: u64, task: Py<PyAny>) {
        lock(&self.desk).tasks.insert(call, task);
    }

    /// Puts a result in, and takes the next call if `more` are wanted. Returns `true` for the first result of a turn:
    /// the caller must then see that [`Self::send`] is called at the end of the turn. A full batch goes at once, so
    /// that the next calls come while the loop still works on others.
    pub(super) fn settle(
        &self,
        entered: bool,
        job: Box<Job>,
        reply: Reply,
        more: bool,
    ) -> (bool, Option<Box<Job>>) {
        let mut desk = lock(&self.desk);
        let task = if entered { desk.tasks.remove(&job.id) } else { None };
        desk.ended += 1;
        let unwanted = desk.put(job, reply);
        let full = desk.full();
        let ask = !std::mem::replace(&mut desk.asked, true);
        let next = if more { self.next(&mut desk) } else { None };
        desk.taken += usize::from(next.is_some());
        drop(desk);
        drop((task, unwanted));
        if let Some(full) = full {
            self.deliver(full);
        }
        (ask, next)
    }

    /// Sends the results of the turn.
    pub(super) fn send(&self) {
        let mut desk = lock(&self.desk);
        desk.asked = false;
        let results = std::mem::take(&mut desk.results);
        drop(desk);
        if !results.is_empty() {
            self.deliver(results);
        }
    }

    fn deliver(&self, batch: Settled) {
        // Nobody listens once the runtime is gone. The process is ending then.
        let _ = self.results.send(batch);
    }

    /// Accepts no more calls and drops those that wait. Their futures end as of a stopped loop.
    pub(super) fn close(&self) {
        let mut desk = lock(&self.desk);
        let mut waiting = lock(&self.waiting);
        waiting.closed = true;
        let left = (std::mem::take(&mut desk.calls), std::mem::take(&mut waiting.calls));
        drop((waiting, desk));
        drop(left);
    }

    /// Sends the last results. Lets go of the tasks, which hold this queue, and of the descriptor of the closed loop.
    pub(super) fn end(&self) {
        let held = (std::mem::take(&mut lock(&self.desk).tasks), lock(&self.wake).take());
        drop(held);
        self.send();
    }

    /// Shows Python's garbage collector the tasks. There is one pool that does so for this queue.
    pub(super) fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        // What is not visited is taken for used, and collected later.
        let Ok(desk) = self.desk.try_lock() else { return Ok(()) };
        desk.tasks.values().try_for_each(|task| visit.call(task))
    }

    pub(super) fn is_closed(&self) -> bool {
        lock(&self.waiting).closed
    }

    /// The number of calls that have not ended.
    pub(super) fn calls(&self) -> u64 {
        let ended = lock(&self.desk).ended;
        self.next_id.load(Ordering::Relaxed).saturating_sub(ended)
    }
}

impl CancelCall for Queue {
    fn cancel(&self, number: u64) {
        self.ask(|waiting| waiting.cancellations.push(number));
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, poll};

    use super::super::interpreter::{self, Interpreter};
    use super::*;
    use crate::call::call_clock;
    use crate::error::CallError;

    struct Subject {
        queue: Queue,
        batches: mpsc::UnboundedReceiver<Settled>,
        futures: Vec<oneshot::Receiver<Reply>>,
    }

    impl Subject {
        fn new() -> Self {
            let (results, batches) = mpsc::unbounded_channel();
            Self { queue: Queue::new(results).unwrap(), batches, futures: Vec::new() }
        }

        fn push(&mut self, calls: usize) {
            for _ in 0..calls {
                let attempt = Attempt {
                    row: 0,
                    number: 1,
                    arguments: Arc::default(),
                    clock: call_clock(Instant::now()).0,
                };
                let (job, future) = Job::new(self.queue.next_id(), attempt);
                assert!(self.queue.push(job));
                self.futures.push(future);
            }
        }

        /// Ends a call and takes the next.
        fn settle(&self, job: Box<Job>) -> Option<Box<Job>> {
            self.queue.settle(false, job, Err(CallError::Output(String::new())), true).1
        }

        /// Ends so many calls, a pause after each, and the turn. Returns the batches' lengths.
        fn lengths(&mut self, calls: usize, pause: Duration) -> Vec<usize> {
            self.push(calls);
            let mut next = self.queue.take();
            while let Some(job) = next {
                next = self.settle(job);
                std::thread::sleep(pause);
            }
            self.queue.send();
            std::iter::from_fn(|| self.batches.try_recv().ok()).map(|batch| batch.len()).collect()
        }

        fn look(&self) -> usize {
            Python::attach(|py| self.queue.look(py).calls)
        }

        fn is_awake(&self) -> bool {
            let wake = lock(&self.queue.wake);
            let mut fds = [PollFd::new(wake.as_ref().unwrap(), PollFlags::IN)];
            poll(&mut fds, Some(&rustix::event::Timespec::default())).unwrap() == 1
        }
    }

    #[test]
    fn calls_that_workers_will_take_are_left_to_them_and_looked_at_once_more() {
        Interpreter::start(&interpreter::choose(None)).unwrap();
        let mut subject = Subject::new();
        assert!(!subject.is_awake());
        subject.push(3);
        assert_eq!((subject.look(), subject.is_awake()), (3, false));
        let job = subject.queue.take().unwrap();
        let job = subject.settle(job).unwrap();
        subject.push(4);
        assert_eq!((subject.look(), subject.is_awake()), (4, true), "five wait, one was taken by a worker");
        assert_eq!((subject.look(), subject.is_awake()), (5, false), "nobody took any");
        drop(job);
    }

    #[test]
    fn a_batch_is_full_by_number_or_by_age() {
        Interpreter::start(&interpreter::choose(None)).unwrap();
        let mut subject = Subject::new();
        assert_eq!(subject.lengths(LOT * 2 + 1, Duration::ZERO), [LOT, LOT, 1], "no other call is under way");
        for call in 0..1_000 {
            Python::attach(|py| subject.queue.enter(u64::MAX - call, py.None()));
        }
        assert_eq!(subject.lengths(LOT * 2, OLD), [LOT, LOT]);
        // On a busy machine a batch may become old.
        assert!((0..100).any(|_| subject.lengths(MOST, Duration::ZERO) == [MOST]));
    }

    #[test]
    fn a_result_that_nobody_waits_for_any_more_is_not_kept() {
        let mut subject = Subject::new();
        subject.push(2);
        let job = subject.queue.take().unwrap();
        subject.futures.remove(0);
        let other = subject.settle(job).unwrap();
        assert!(subject.settle(other).is_none());
        subject.queue.send();
        assert_eq!(subject.batches.try_recv().unwrap().len(), 1);
    }
}
