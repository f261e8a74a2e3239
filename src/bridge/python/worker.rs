//! Workers: long-lived tasks that run one call after another, and how they are made and woken.
//!
//! A task for each call costs more than everything else in a call together (measured: see the bridge's page). So a
//! worker steps the predictor's coroutine itself, in a fresh copy of the context in which the predictor was loaded:
//! calls see nothing of each other. A worker whose task was ever asked to cancel is not used again, because a request
//! that came too late would hit the next call.

use std::sync::Arc;

use pyo3::exceptions::PyStopIteration;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3::{PyTraverseError, PyVisit};

use super::convert::{Converter, NulledCount};
use super::pool::Pool;
use super::predictor::Predictor;
use super::pulse::Pulse;
use super::queue::Queue;
use super::running::{Caller, Running};
use super::step::{self, Step};
use super::{forked, helpers};
use crate::secret::Secrets;

/// The most calls that are run one after the other in one turn of the loop if they end without waiting.
const CALLS_A_TURN: usize = 64;

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
    let (caller, converter) = (Caller::new(py, predictor)?, Converter::new(py, secrets, nulled)?);
    let pool = Pool::new(event_loop, queue, caller, converter, pulse)?;
    let reader = Bound::new(py, Wake(Py::new(py, pool)?))?;
    helpers::module(py, "forks")?.call_method1("keep_from_children", (wake,))?;
    helpers::module(py, "host")?.call_method1("at_end", (event_loop, reader.getattr("end")?))?;
    event_loop.call_method1("add_reader", (wake, reader))?;
    Ok(())
}

/// Called by the loop when the queue has woken it.
#[pyclass(frozen)]
struct Wake(Py<Pool>);

#[pymethods]
impl Wake {
    fn __call__(&self, py: Python<'_>) {
        let bound = self.0.bind(py);
        let pool = bound.get();
        let look = pool.queue.look(py);
        for task in look.cancelled {
            if let Err(error) = task.bind(py).call_method0(pyo3::intern!(py, "cancel")) {
                tracing::warn!("failed to cancel a call: {error}");
            }
        }
        while pool.coming() < look.calls {
            if !call_worker(bound) {
                return;
            }
            pool.comes();
        }
    }

    /// Called when the loop is about to be closed.
    fn end(&self, py: Python<'_>) -> PyResult<()> {
        let pool = self.0.bind(py).get();
        let wake = pool.queue.wake_fd();
        helpers::module(py, "forks")?.call_method1("let_go", (wake,))?;
        // The predictor may have closed the loop.
        let removed = pool.event_loop.bind(py).call_method1("remove_reader", (wake,));
        pool.end();
        removed.map(drop)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.0)
    }
}

/// Wakes an idle worker, or makes one. False if that failed.
fn call_worker(pool: &Bound<'_, Pool>) -> bool {
    pool.get().wake_idle(pool.py())
        || make_worker(pool).inspect_err(|error| tracing::error!("failed to make a worker: {error}")).is_ok()
}

fn make_worker(pool: &Bound<'_, Pool>) -> PyResult<()> {
    let (py, own) = (pool.py(), pool.get());
    let worker = Worker { pool: pool.clone().unbind(), task: None, waiting: None, parked: None };
    let worker = Bound::new(py, worker)?;
    let options = PyDict::new(py);
    options.set_item("loop", own.event_loop.bind(py))?;
    let task = own.task.bind(py).call((&worker,), Some(&options))?;
    worker.try_borrow_mut()?.task = Some(task.unbind());
    Ok(())
}

/// The coroutine of a worker's task.
#[pyclass]
struct Worker {
    pool: Py<Pool>,
    /// The task that drives the worker. None once the worker must not be used any more.
    task: Option<Py<PyAny>>,
    /// The call that waits for something.
    waiting: Option<Running>,
    /// The future that the worker itself waits for, or was woken by.
    parked: Option<Py<PyAny>>,
}

#[pymethods]
impl Worker {
    /// Called by a task to resume the worker.
    fn __next__(&mut self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.turn(py, None)
    }

    /// The same for tasks written in Python.
    fn send(&mut self, value: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.turn(value.py(), None)?.ok_or_else(|| PyStopIteration::new_err(()))
    }

    /// Called by a task to raise an exception, a cancellation as a rule, where the call waits.
    fn throw(&mut self, error: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.turn(error.py(), Some(error))?.ok_or_else(|| PyStopIteration::new_err(()))
    }

    /// Drops the call that waits: its loop is about to be closed.
    fn close(&mut self) {
        let held = (self.task.take(), self.parked.take(), self.waiting.take());
        drop(held);
    }

    fn __await__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.pool)?;
        visit.call(&self.task)?;
        visit.call(&self.parked)?;
        self.waiting.as_ref().map_or(Ok(()), |running| running.visit(&visit))
    }

    fn __clear__(&mut self) {
        self.close();
    }
}

impl Worker {
    /// Whether the worker was cancelled while it was idle. Then it was not on its way to a call.
    fn is_idle(&self, py: Python<'_>) -> bool {
        let cancelled =
            |future: &Py<PyAny>| future.bind(py).call_method0(pyo3::intern!(py, "cancelled"))?.is_truthy();
        self.parked.as_ref().is_some_and(|future| cancelled(future).unwrap_or(false))
    }

    /// Runs calls until there is something to wait for, which is returned. `None` ends the task.
    fn turn(&mut self, py: Python<'_>, mut error: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Py<PyAny>>> {
        forked::end_if_child(py, || None);
        let bound = self.pool.bind(py).clone();
        let pool = bound.get();
        let Some(task) = self.task.as_ref().map(|task| task.bind(py).clone()) else { return Ok(None) };
        let mut next = match (self.waiting.take(), error) {
            // The loop is being closed, or somebody cancels all tasks there are.
            (None, Some(error)) => {
                self.task = None;
                // Another worker must take the call for which this one was on its way.
                if !self.is_idle(py) && !pool.queue.is_closed() {
                    call_worker(&bound);
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
            next = pool.end_call(py, running, result, || {
                cancelled = pool.was_cancelled(&task);
                !cancelled && turn < CALLS_A_TURN
            });
            if cancelled {
                self.task = None;
                return Ok(None);
            }
        }
        // Other tasks' turn. This worker takes its next call, which starts that call's clock, when it comes again.
        pool.comes();
        Ok(Some(py.None()))
    }
}
