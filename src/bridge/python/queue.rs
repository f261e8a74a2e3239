//! The hand-over between Tokio and the event loop's thread: calls one way, results the other. Not how a call is run.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};
use tokio::sync::{mpsc, oneshot};

use super::Reply;
use crate::call::Attempt;

/// A mutex whose holders never panic half-way: a poisoned one is as good.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A call that waits to be run.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) id: u64,
    pub(super) attempt: Attempt,
    pub(super) sender: oneshot::Sender<Reply>,
}

#[derive(Debug, Default)]
struct Waiting {
    calls: VecDeque<Job>,
    cancellations: Vec<u64>,
    /// The loop has been woken and has not looked yet.
    woken: bool,
    closed: bool,
}

/// What Tokio asks of the loop. Workers take calls from it directly; the loop is woken to have enough of them.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    wake: OwnedFd,
    next_id: AtomicU64,
}

impl Queue {
    pub(super) fn new() -> rustix::io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Self { waiting: Mutex::default(), wake, next_id: AtomicU64::new(0) })
    }

    pub(super) fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Readable when [`Self::look`] has something to tell.
    pub(super) fn wake_fd(&self) -> RawFd {
        self.wake.as_raw_fd()
    }

    /// Queues a call. False once the queue is closed.
    pub(super) fn push(&self, job: Job) -> bool {
        self.put(|waiting| waiting.calls.push_back(job))
    }

    /// Asks that a call be cancelled.
    pub(super) fn cancel(&self, id: u64) {
        self.put(|waiting| waiting.cancellations.push(id));
    }

    fn put(&self, change: impl FnOnce(&mut Waiting)) -> bool {
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

    /// For the woken loop: how many calls wait, and what is to be cancelled.
    pub(super) fn look(&self) -> (usize, Vec<u64>) {
        let mut counter = [0; 8];
        let _ = rustix::io::read(&self.wake, &mut counter);
        let mut waiting = lock(&self.waiting);
        waiting.woken = false;
        (waiting.calls.len(), std::mem::take(&mut waiting.cancellations))
    }

    /// The next call that somebody still waits for: one cancelled while it was queued is not even made.
    pub(super) fn pop(&self) -> Option<Job> {
        let mut waiting = lock(&self.waiting);
        loop {
            let job = waiting.calls.pop_front()?;
            if !job.sender.is_closed() {
                return Some(job);
            }
        }
    }

    /// Takes no more calls and drops those that wait: their futures end as a stopped loop.
    pub(super) fn close(&self) {
        let mut waiting = lock(&self.waiting);
        waiting.closed = true;
        let left = std::mem::take(&mut waiting.calls);
        drop(waiting);
        drop(left);
    }

    pub(super) fn is_closed(&self) -> bool {
        lock(&self.waiting).closed
    }
}

/// Results on their way to their calls' futures, gathered over one turn of the loop.
pub(super) type Batch = Vec<(oneshot::Sender<Reply>, Reply)>;

/// Results that are worth waking Tokio for.
const FULL: usize = 16;

/// The loop's side of the results.
#[derive(Debug)]
pub(super) struct Outbox {
    batch: Mutex<Batch>,
    results: mpsc::UnboundedSender<Batch>,
}

impl Outbox {
    pub(super) fn new(results: mpsc::UnboundedSender<Batch>) -> Self {
        Self { batch: Mutex::default(), results }
    }

    /// Puts a result in; true if it is the first of its batch, which somebody must then [`Self::send`] by the end of
    /// the turn. A full batch goes at once, so that the next calls come while the loop is still at work on these.
    pub(super) fn put(&self, sender: oneshot::Sender<Reply>, reply: Reply) -> bool {
        let mut batch = lock(&self.batch);
        batch.push((sender, reply));
        let length = batch.len();
        drop(batch);
        if length >= FULL {
            self.send();
        }
        length == 1
    }

    /// Sends what has gathered.
    pub(super) fn send(&self) {
        let batch = std::mem::take(&mut *lock(&self.batch));
        if batch.is_empty() {
            return;
        }
        // Nobody listens once the runtime is gone; the process is ending then.
        let _ = self.results.send(batch);
    }
}
