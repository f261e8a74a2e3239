//! What the loop's workers share: calls to make, results to give, who is idle. Not how a call is stepped.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::convert::{Converter, NulledCount};
use super::helpers;
use super::predictor::Predictor;
use super::pulse::Pulse;
use super::queue::{Job, Queue, lock};
use super::running::{Caller, Running};
use super::worker::Worker;
use crate::bridge::Reply;
use crate::error::BridgeError;
use crate::secret::Secrets;

/// What the loop's callbacks share, on the loop's thread. No lock is held while Python runs.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) queue: Arc<Queue>,
    /// Told whose call is being stepped, for the watchdog.
    pub(super) pulse: Arc<Pulse>,
    caller: Caller,
    converter: Converter,
    event_loop: Py<PyAny>,
    task: Py<PyAny>,
    /// `Task.cancelling`, looked up once.
    cancelling: Py<PyAny>,
    flush: Py<PyAny>,
    /// Futures of the workers that have nothing to do.
    idle: Mutex<Vec<Py<PyAny>>>,
    /// Workers woken or made that have not come to take a call yet. Only the loop's thread writes it.
    coming: AtomicUsize,
}

/// Called by the loop when the queue has woken it.
#[pyclass(frozen)]
struct Wake(Arc<Pool>);

/// Called by the loop at the end of a turn with results. It has no part in the pool, which keeps it: Python could not see
/// that circle, and would keep both for ever.
#[pyclass(frozen)]
struct Flush(Arc<Queue>);

/// Makes the pool on the loop's thread, before the loop runs.
pub(super) fn start(
    event_loop: &Bound<'_, PyAny>,
    queue: Arc<Queue>,
    predictor: Predictor,
    secrets: Secrets,
    pulse: Arc<Pulse>,
    nulled: Arc<NulledCount>,
) -> PyResult<()> {
    let py = event_loop.py();
    let wake = queue.wake_fd();
    helpers::module(py, "forks")?.call_method1("keep_from_children", (wake,))?;
    let task = py.import("asyncio")?.getattr("Task")?;
    let flush = Py::new(py, Flush(Arc::clone(&queue)))?.into_any();
    let pool = Arc::new(Pool {
        queue,
        pulse,
        caller: Caller::new(py, predictor)?,
        converter: Converter::new(py, secrets, nulled)?,
        event_loop: event_loop.clone().unbind(),
        cancelling: task.getattr("cancelling")?.unbind(),
        task: task.unbind(),
        flush,
        idle: Mutex::default(),
        coming: AtomicUsize::new(0),
    });
    event_loop.call_method1("add_reader", (wake, Wake(pool)))?;
    Ok(())
}

#[pymethods]
impl Wake {
    fn __call__(&self, py: Python<'_>) {
        let pool = &self.0;
        let look = pool.queue.look(py);
        for task in look.cancelled {
            if let Err(error) = task.bind(py).call_method0(pyo3::intern!(py, "cancel")) {
                tracing::warn!("failed to cancel a call: {error}");
            }
        }
        while pool.coming.load(Ordering::Relaxed) < look.calls {
            if !Pool::call_worker(pool, py) {
                return;
            }
            pool.comes();
        }
    }
}

#[pymethods]
impl Flush {
    fn __call__(&self) {
        self.0.send();
    }
}

impl Pool {
    /// Wakes an idle worker, or makes one. False if that failed.
    fn call_worker(this: &Arc<Self>, py: Python<'_>) -> bool {
        let idle = || lock(&this.idle).pop();
        while let Some(future) = idle() {
            // It fails where somebody has cancelled all tasks there are: that worker is gone.
            if future.bind(py).call_method1(pyo3::intern!(py, "set_result"), (py.None(),)).is_ok() {
                return true;
            }
        }
        Self::make_worker(this, py)
            .inspect_err(|error| tracing::error!("failed to make a worker: {error}"))
            .is_ok()
    }

    fn make_worker(this: &Arc<Self>, py: Python<'_>) -> PyResult<()> {
        let worker = Bound::new(py, Worker::new(Arc::clone(this)))?;
        let options = PyDict::new(py);
        options.set_item("loop", this.event_loop.bind(py))?;
        let task = this.task.bind(py).call((&worker,), Some(&options))?;
        worker.try_borrow_mut()?.is_driven_by(task.unbind());
        Ok(())
    }

    /// Another worker comes in the place of one that somebody has cancelled on its way.
    pub(super) fn replace(this: &Arc<Self>, py: Python<'_>) {
        if !this.queue.is_closed() {
            Self::call_worker(this, py);
        }
    }

    /// A worker will come to take a call.
    pub(super) fn comes(&self) {
        self.coming.store(self.coming.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// A worker that was to come takes a call, if there still is one.
    pub(super) fn take(&self, py: Python<'_>) -> Option<Running> {
        self.coming.store(self.coming.load(Ordering::Relaxed).saturating_sub(1), Ordering::Relaxed);
        self.begin(py, self.queue.take()?)
    }

    /// Begins the call; where that raises, the next one.
    fn begin(&self, py: Python<'_>, mut job: Box<Job>) -> Option<Running> {
        loop {
            match self.caller.begin(py, job) {
                Ok(running) => return Some(running),
                Err((failed, error)) => {
                    job = self.settle(py, false, failed, Err(self.converter.error(&error, py)), true)?;
                }
            }
        }
    }

    /// What a worker that has nothing to do waits for, as a task does: a future.
    pub(super) fn park(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let future = self.event_loop.bind(py).call_method0(pyo3::intern!(py, "create_future"))?;
        // What a future's own `__await__` does before it yields the future.
        future.setattr(pyo3::intern!(py, "_asyncio_future_blocking"), true)?;
        lock(&self.idle).push(future.clone().unbind());
        Ok(future.unbind())
    }

    /// Ends a call; and begins the next where the worker can take `more`.
    pub(super) fn end(
        &self,
        py: Python<'_>,
        running: Running,
        result: PyResult<Bound<'_, PyAny>>,
        more: impl FnOnce() -> bool,
    ) -> Option<Running> {
        running.end();
        let reply = match result {
            Ok(value) => self.converter.answer(&value, running.job.row).map(|mut answer| {
                answer.first_chunk = running.first_chunk();
                answer
            }),
            // Whatever a call raises because the loop is being closed is not the predictor's doing.
            Err(_) if self.queue.is_closed() => Err(BridgeError::LoopStopped.into()),
            Err(error) => Err(self.converter.error(&error, py)),
        };
        let next = self.settle(py, running.entered, running.job, reply, more())?;
        self.begin(py, next)
    }

    /// Whether anybody asked the task to cancel, in the last call or by it.
    pub(super) fn was_cancelled(&self, task: &Bound<'_, PyAny>) -> bool {
        let requests = self.cancelling.bind(task.py()).call1((task,));
        !matches!(requests.and_then(|requests| requests.is_truthy()), Ok(false))
    }

    fn settle(
        &self,
        py: Python<'_>,
        entered: bool,
        job: Box<Job>,
        reply: Reply,
        more: bool,
    ) -> Option<Box<Job>> {
        let (ask, next) = self.queue.settle(entered, job, reply, more);
        if ask {
            let soon = self.event_loop.bind(py).call_method1(pyo3::intern!(py, "call_soon"), (&self.flush,));
            if soon.is_err() {
                self.queue.send();
            }
        }
        next
    }
}
