//! The hand-over: a queue from Tokio to the loop, and the loop's own side of it. Not what a result means.

use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::types::PyDict;
use rustix::event::{EventfdFlags, eventfd};
use tokio::sync::{mpsc, oneshot};

use super::Reply;
use super::convert::Converter;
use super::predictor::Predictor;
use crate::call::{Attempt, BridgeError};
use crate::secret::Secrets;

/// What Tokio asks of the loop.
#[derive(Debug)]
pub(super) enum Command {
    /// Make a call.
    Call { call: u64, attempt: Attempt, sender: oneshot::Sender<Reply> },
    /// Cancel it.
    Cancel(u64),
}

/// A mutex whose holders never panic half-way: a poisoned one is as good.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug, Default)]
struct Pending {
    commands: Vec<Command>,
    closed: bool,
}

/// Commands on their way to the loop.
#[derive(Debug)]
pub(super) struct Queue {
    pending: Mutex<Pending>,
    wake: OwnedFd,
    next_id: AtomicU64,
}

impl Queue {
    pub(super) fn new() -> rustix::io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Self { pending: Mutex::default(), wake, next_id: AtomicU64::new(0) })
    }

    pub(super) fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Queues a command; wakes the loop where none was waiting. False once the queue is closed.
    pub(super) fn push(&self, command: Command) -> bool {
        let mut pending = lock(&self.pending);
        if pending.closed {
            return false;
        }
        pending.commands.push(command);
        let first = pending.commands.len() == 1;
        drop(pending);
        if first {
            // It can only fail where the counter is full, and then the loop is awake.
            let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
        }
        true
    }

    /// Takes no more commands and drops what waits: their futures end as [`BridgeError::LoopStopped`].
    pub(super) fn close(&self) {
        let mut pending = lock(&self.pending);
        pending.closed = true;
        let left = std::mem::take(&mut pending.commands);
        drop(pending);
        drop(left);
    }

    fn is_closed(&self) -> bool {
        lock(&self.pending).closed
    }

    fn take(&self, into: &mut Vec<Command>) {
        let mut counter = [0; 8];
        let _ = rustix::io::read(&self.wake, &mut counter);
        std::mem::swap(&mut lock(&self.pending).commands, into);
    }
}

/// What the loop's callbacks share. Its locks are only ever taken by the loop's thread (a thread predictor's
/// [`Call`] aside), so they are free.
#[derive(Debug)]
struct Shared {
    queue: Arc<Queue>,
    predictor: Predictor,
    converter: Converter,
    create_task: Py<PyAny>,
    call_soon: Py<PyAny>,
    copy_context: Py<PyAny>,
    tasks: Mutex<HashMap<u64, Py<PyAny>>>,
    outbox: Mutex<Vec<(oneshot::Sender<Reply>, Reply)>>,
    results: mpsc::UnboundedSender<Vec<(oneshot::Sender<Reply>, Reply)>>,
    flush: Mutex<Option<Py<PyAny>>>,
}

/// The loop's side: drains the queue whenever it was woken.
#[pyclass(frozen)]
pub(super) struct LoopSide(Arc<Shared>);

/// Sends the turn's results.
#[pyclass(frozen)]
struct Flush(Arc<Shared>);

/// One call, as its task sees it.
#[pyclass(frozen)]
struct Call {
    id: u64,
    shared: Arc<Shared>,
    attempt: Attempt,
    sender: Mutex<Option<oneshot::Sender<Reply>>>,
    begun: Mutex<Option<Instant>>,
    first_chunk: Mutex<Option<Duration>>,
}

impl LoopSide {
    pub(super) fn start(
        event_loop: &Bound<'_, PyAny>,
        queue: Arc<Queue>,
        predictor: Predictor,
        results: mpsc::UnboundedSender<Vec<(oneshot::Sender<Reply>, Reply)>>,
        secrets: Secrets,
    ) -> PyResult<()> {
        let py = event_loop.py();
        let wake = queue.wake.as_raw_fd();
        let shared = Arc::new(Shared {
            queue,
            converter: Converter::new(py, secrets)?,
            create_task: event_loop.getattr("create_task")?.unbind(),
            call_soon: event_loop.getattr("call_soon")?.unbind(),
            copy_context: predictor.context.bind(py).getattr("copy")?.unbind(),
            predictor,
            tasks: Mutex::default(),
            outbox: Mutex::default(),
            results,
            flush: Mutex::default(),
        });
        *lock(&shared.flush) = Some(Py::new(py, Flush(Arc::clone(&shared)))?.into_any());
        event_loop.call_method1("add_reader", (wake, Self(shared)))?;
        Ok(())
    }
}

#[pymethods]
impl LoopSide {
    fn __call__(&self, py: Python<'_>) {
        let mut commands = Vec::new();
        self.0.queue.take(&mut commands);
        for command in commands {
            match command {
                Command::Call { call, attempt, sender } => Shared::begin(&self.0, py, call, attempt, sender),
                Command::Cancel(call) => self.0.cancel(py, call),
            }
        }
    }
}

impl Shared {
    fn begin(this: &Arc<Self>, py: Python<'_>, id: u64, attempt: Attempt, sender: oneshot::Sender<Reply>) {
        if sender.is_closed() {
            return; // Cancelled while it was queued: it is not even made.
        }
        let call = Call {
            id,
            shared: Arc::clone(this),
            attempt,
            sender: Mutex::new(Some(sender)),
            begun: Mutex::default(),
            first_chunk: Mutex::default(),
        };
        let made = Bound::new(py, call).and_then(|call| {
            this.task(&call).inspect_err(|error| call.get().settle(py, Err(this.converter.error(error, py))))
        });
        if let Ok(task) = made {
            lock(&this.tasks).insert(id, task);
        }
    }

    fn task(&self, call: &Bound<'_, Call>) -> PyResult<Py<PyAny>> {
        let py = call.py();
        let attempt = &call.get().attempt;
        let arguments = self.predictor.arguments(py, &attempt.arguments, attempt.row, attempt.number)?;
        let coroutine =
            self.predictor.drive.bind(py).call1((call, self.predictor.target.bind(py), arguments))?;
        let options = PyDict::new(py);
        options.set_item(pyo3::intern!(py, "context"), self.copy_context.bind(py).call0()?)?;
        Ok(self.create_task.bind(py).call((coroutine,), Some(&options))?.unbind())
    }

    fn cancel(&self, py: Python<'_>, call: u64) {
        // The guard is not held over the call into Python, which may come back here.
        let task = lock(&self.tasks).get(&call).map(|task| task.clone_ref(py));
        if let Some(task) = task
            && let Err(error) = task.bind(py).call_method0("cancel")
        {
            tracing::warn!("failed to cancel a call: {error}");
        }
    }

    fn send(&self, py: Python<'_>, sender: oneshot::Sender<Reply>, reply: Reply) {
        let mut outbox = lock(&self.outbox);
        outbox.push((sender, reply));
        let first = outbox.len() == 1;
        drop(outbox);
        if first {
            let flush = lock(&self.flush).as_ref().map(|flush| flush.clone_ref(py));
            let scheduled = flush.map(|flush| self.call_soon.bind(py).call1((flush,)));
            if !matches!(scheduled, Some(Ok(_))) {
                self.flush();
            }
        }
    }

    fn flush(&self) {
        let batch = std::mem::take(&mut *lock(&self.outbox));
        // Nobody listens once the runtime is gone; the process is ending then.
        let _ = self.results.send(batch);
    }
}

#[pymethods]
impl Flush {
    fn __call__(&self) {
        self.0.flush();
    }
}

#[pymethods]
impl Call {
    /// The row, for the watchdog.
    #[getter]
    fn row(&self) -> u64 {
        self.attempt.row
    }

    /// The predictor starts.
    fn begin(&self) {
        *lock(&self.begun) = Some(Instant::now());
        self.attempt.clock.begin();
    }

    /// It has ended (a plain function, on its thread).
    fn end(&self) {
        self.attempt.clock.end();
    }

    /// A chunk came; the first is noted.
    fn first_chunk(&self) {
        let mut first = lock(&self.first_chunk);
        if first.is_none() {
            *first = lock(&self.begun).map(|begun| begun.elapsed());
        }
    }

    /// It has returned.
    fn finish(&self, value: &Bound<'_, PyAny>) {
        self.attempt.clock.end();
        let mut reply = self.shared.converter.answer(value);
        if let Ok(answer) = &mut reply {
            answer.first_chunk = *lock(&self.first_chunk);
        }
        self.settle(value.py(), reply);
    }

    /// It has raised.
    fn fail(&self, py: Python<'_>, error: Bound<'_, PyAny>) {
        self.attempt.clock.end();
        // Whatever a task raises because the loop is being closed is not the predictor's doing.
        let reply = if self.shared.queue.is_closed() {
            BridgeError::LoopStopped.into()
        } else {
            self.shared.converter.error(&PyErr::from_value(error), py)
        };
        self.settle(py, Err(reply));
    }
}

impl Call {
    fn settle(&self, py: Python<'_>, reply: Reply) {
        let sender = lock(&self.sender).take();
        if let Some(sender) = sender {
            self.shared.send(py, sender, reply);
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // Here and not in `settle`: a task that was cancelled before its first step runs nothing of ours.
        let task = lock(&self.shared.tasks).remove(&self.id);
        drop(task);
    }
}
