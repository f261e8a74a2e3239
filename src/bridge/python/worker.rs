//! A worker: a coroutine of ours that one task drives for as long as the loop lives, running one call after another.
//!
//! A task a call costs more than all the rest of a call together (measured: see the bridge's page). So a worker steps
//! the predictor's coroutine itself, in a fresh copy of the context the predictor was loaded in: calls see nothing of
//! each other. A worker whose task was ever asked to cancel is not used again: a request that came too late would meet
//! the next call.

use std::sync::Arc;

use pyo3::exceptions::PyStopIteration;
use pyo3::prelude::*;

use super::forked;
use super::pool::Pool;
use super::running::Running;
use super::step::{self, Step};

/// Calls that end without waiting are run one after the other in one turn of the loop, so many at most.
const CALLS_A_TURN: usize = 64;

/// The coroutine of a worker's task.
#[pyclass]
pub(super) struct Worker {
    pool: Arc<Pool>,
    /// What drives the worker; none once it must not be used any more.
    task: Option<Py<PyAny>>,
    /// The call that waits.
    waiting: Option<Running>,
    /// What it waits for itself, or was woken by.
    parked: Option<Py<PyAny>>,
}

#[pymethods]
impl Worker {
    /// What a task calls to resume it.
    fn __next__(&mut self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.turn(py, None)
    }

    /// The same for tasks written in Python.
    fn send(&mut self, value: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.turn(value.py(), None)?.ok_or_else(|| PyStopIteration::new_err(()))
    }

    /// What a task calls to raise an exception, a cancellation mostly, where the call waits.
    fn throw(&mut self, error: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.turn(error.py(), Some(error))?.ok_or_else(|| PyStopIteration::new_err(()))
    }

    #[allow(clippy::unused_self, reason = "part of a coroutine's form")]
    fn close(&self) {}

    fn __await__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }
}

impl Worker {
    pub(super) fn new(pool: Arc<Pool>) -> Self {
        Self { pool, task: None, waiting: None, parked: None }
    }

    /// Tells it the task that was made to drive it.
    pub(super) fn is_driven_by(&mut self, task: Py<PyAny>) {
        self.task = Some(task);
    }

    /// Whether it was cancelled while it had nothing to do: it was not on its way to a call then.
    fn is_idle(&self, py: Python<'_>) -> bool {
        let cancelled =
            |future: &Py<PyAny>| future.bind(py).call_method0(pyo3::intern!(py, "cancelled"))?.is_truthy();
        self.parked.as_ref().is_some_and(|future| cancelled(future).unwrap_or(false))
    }

    /// Runs calls until there is something to wait for, which is returned; `None` ends the task.
    fn turn(&mut self, py: Python<'_>, mut error: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Py<PyAny>>> {
        forked::end_if_child(py, || None);
        let pool = Arc::clone(&self.pool);
        let Some(task) = self.task.as_ref().map(|task| task.bind(py).clone()) else { return Ok(None) };
        let mut next = match (self.waiting.take(), error) {
            // The loop is being closed, or somebody cancels all tasks there are.
            (None, Some(error)) => {
                self.task = None;
                if !self.is_idle(py) {
                    Pool::replace(&pool, py);
                }
                return Err(PyErr::from_value(error.clone()));
            }
            (None, None) => {
                self.parked = None;
                pool.take(py)
            }
            (waiting, _) => waiting,
        };
        for turn in 1..=CALLS_A_TURN {
            let Some(mut running) = next else {
                let future = pool.park(py)?;
                self.parked = Some(future.clone_ref(py));
                return Ok(Some(future));
            };
            let (coroutine, context) = (running.coroutine.bind(py), running.context.bind(py));
            pool.pulse.steps(Some(running.job.row));
            let step = match error.take() {
                Some(error) => step::throw(coroutine, context, error),
                None => step::resume(coroutine, context),
            };
            forked::end_if_child(py, || step.error());
            pool.pulse.steps(None);
            let result = match step {
                Step::Yielded(awaited) => {
                    if !running.entered {
                        running.entered = true;
                        pool.queue.enter(running.job.id, task.unbind());
                    }
                    self.waiting = Some(running);
                    return Ok(Some(awaited.unbind()));
                }
                Step::Returned(value) => Ok(value),
                Step::Raised(error) => Err(error),
            };
            let mut cancelled = false;
            next = pool.end(py, running, result, || {
                cancelled = pool.was_cancelled(&task);
                !cancelled && turn < CALLS_A_TURN
            });
            if cancelled {
                self.task = None;
                return Ok(None);
            }
        }
        // The others' turn. The next call is taken, and its clock started, when this worker comes again.
        pool.comes();
        Ok(Some(py.None()))
    }
}
