//! What the loop's workers share: the queue of calls, the predictor, and the list of idle workers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use super::convert::Converter;
use super::pulse::Pulse;
use super::queue::{Job, Queue, lock};
use super::running::{Caller, Running};
use crate::bridge::Reply;
use crate::error::{BridgeError, CallError};

/// Used on the loop's thread only. No lock is held while Python runs.
///
/// It is a Python object so that Python's garbage collector sees the circles it is part of: its workers hold it, and it
/// holds what they wait for.
#[pyclass(frozen)]
pub(super) struct Pool {
    pub(super) queue: Arc<Queue>,
    /// Told whose call is being stepped, for the watchdog.
    pub(super) pulse: Arc<Pulse>,
    caller: Caller,
    converter: Converter,
    pub(super) event_loop: Py<PyAny>,
    /// `asyncio.Task`.
    pub(super) task: Py<PyAny>,
    /// `Task.cancelling`, looked up once.
    cancelling: Py<PyAny>,
    flush: Py<PyAny>,
    /// Futures that the idle workers wait for.
    idle: Mutex<Vec<Py<PyAny>>>,
    /// Workers woken or made that have not come to take a call yet. Only the loop's thread writes it.
    coming: AtomicUsize,
}

/// Called by the loop at the end of a turn with results.
#[pyclass(frozen)]
struct Flush(Arc<Queue>);

#[pymethods]
impl Flush {
    fn __call__(&self) {
        self.0.send();
    }
}

#[pymethods]
impl Pool {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        self.caller.visit(&visit)?;
        self.queue.visit(&visit)?;
        // What is not visited is taken for used, and collected later.
        let Ok(idle) = self.idle.try_lock() else { return Ok(()) };
        idle.iter().try_for_each(|future| visit.call(future))
    }

    fn __clear__(&self) {
        self.end();
    }
}

impl Pool {
    pub(super) fn new(
        event_loop: &Bound<'_, PyAny>,
        queue: Arc<Queue>,
        caller: Caller,
        converter: Converter,
        pulse: Arc<Pulse>,
    ) -> PyResult<Self> {
        let py = event_loop.py();
        let task = py.import("asyncio")?.getattr("Task")?;
        Ok(Self {
            flush: Py::new(py, Flush(Arc::clone(&queue)))?.into_any(),
            queue,
            pulse,
            caller,
            converter,
            event_loop: event_loop.clone().unbind(),
            cancelling: task.getattr("cancelling")?.unbind(),
            task: task.unbind(),
            idle: Mutex::default(),
            coming: AtomicUsize::new(0),
        })
    }

    /// Gives up everything that leads to workers. For when the loop is closed.
    pub(super) fn end(&self) {
        let idle = std::mem::take(&mut *lock(&self.idle));
        drop(idle);
        self.queue.end();
    }

    /// Wakes an idle worker. False if there is none.
    pub(super) fn wake_idle(&self, py: Python<'_>) -> bool {
        let idle = || lock(&self.idle).pop();
        while let Some(future) = idle() {
            // This fails if somebody has cancelled all tasks there are. That worker is gone.
            if future.bind(py).call_method1(pyo3::intern!(py, "set_result"), (py.None(),)).is_ok() {
                return true;
            }
        }
        false
    }

    /// Notes that a worker will come to take a call.
    pub(super) fn comes(&self) {
        self.coming.store(self.coming.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// The number of workers that will come to take a call.
    pub(super) fn coming(&self) -> usize {
        self.coming.load(Ordering::Relaxed)
    }

    /// Gives a call, if there still is one, to a worker that has come for it.
    pub(super) fn take(&self, py: Python<'_>) -> Option<Running> {
        self.coming.store(self.coming.load(Ordering::Relaxed).saturating_sub(1), Ordering::Relaxed);
        self.begin(py, self.queue.take()?)
    }

    /// Begins the call, or the next one if that raises.
    fn begin(&self, py: Python<'_>, mut job: Box<Job>) -> Option<Running> {
        loop {
            match self.caller.begin(py, job) {
                Ok(running) => return Some(running),
                Err((failed, error)) => {
                    let error = self.error(py, &error, &failed);
                    job = self.settle(py, false, failed, Err(error), true)?;
                }
            }
        }
    }

    /// Makes the future that a worker without a call waits for.
    pub(super) fn park(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let future = self.event_loop.bind(py).call_method0(pyo3::intern!(py, "create_future"))?;
        // As a future's own `__await__` does before it yields the future.
        future.setattr(pyo3::intern!(py, "_asyncio_future_blocking"), true)?;
        lock(&self.idle).push(future.clone().unbind());
        Ok(future.unbind())
    }

    /// Ends a call, and begins the next one if the worker can take `more`.
    pub(super) fn end_call(
        &self,
        py: Python<'_>,
        running: Running,
        result: PyResult<Bound<'_, PyAny>>,
        more: impl FnOnce() -> bool,
    ) -> Option<Running> {
        running.end();
        let reply = match result {
            Ok(value) => self.answer(value, &running.job).map(|mut answer| {
                answer.first_chunk = running.first_chunk();
                answer
            }),
            // A call that raises because the loop is being closed is not the predictor's failure.
            Err(_) if self.queue.is_closed() => Err(BridgeError::LoopStopped.into()),
            Err(error) => Err(self.error(py, &error, &running.job)),
        };
        let next = self.settle(py, running.entered, running.job, reply, more())?;
        self.begin(py, next)
    }

    /// The answer that a returned value makes. Where answers stay Python objects, the value itself is kept.
    fn answer(&self, value: Bound<'_, PyAny>, job: &Job) -> Reply {
        let Some(exchange) = self.caller.exchange() else { return self.converter.answer(&value, job.row) };
        let (value, mut answer) = self.converter.kept(value);
        // A value that cannot be written down has no text, but is an answer all the same.
        if exchange.weighs()
            && let Ok(told) = self.converter.answer(&value, job.row)
        {
            answer.fields = told.fields;
        }
        if job.is_wanted() {
            exchange.settle(job.row, job.number, Ok(value.unbind()));
        }
        Ok(answer)
    }

    /// The error for an exception. Where answers stay Python objects, the exception itself is kept.
    fn error(&self, py: Python<'_>, error: &PyErr, job: &Job) -> CallError {
        if let Some(exchange) = self.caller.exchange()
            && job.is_wanted()
        {
            exchange.settle(job.row, job.number, Err(error.clone_ref(py).into_value(py).into_any()));
        }
        self.converter.error(error, py)
    }

    /// Whether anybody asked the task to cancel, during the last call or by it.
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
