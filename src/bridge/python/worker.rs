//! The calls on the event loop: a pool of long-lived tasks, each running one call after another. Not the hand-over.
//!
//! A task a call costs more than all the rest of a call together (measured: see the bridge's page). So a worker is a
//! coroutine of ours that a task drives for as long as the loop lives; it steps the predictor's coroutine in a fresh
//! copy of the context the predictor was loaded in, so that calls see nothing of each other. A worker whose task was
//! ever asked to cancel is not used again: a request that came too late would meet the next call.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use pyo3::exceptions::PyStopIteration;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyType};
use tokio::sync::{mpsc, oneshot};

use super::Reply;
use super::convert::Converter;
use super::predictor::{Driver, Predictor};
use super::pulse::Pulse;
use super::queue::{Batch, Job, Outbox, Queue, lock};
use super::step::{self, Step};
use crate::call::{Attempt, BridgeError, CallClock};
use crate::secret::Secrets;

/// Calls that end without waiting are run one after the other in one turn of the loop, so many at most.
const CALLS_A_TURN: usize = 64;

/// What the loop's callbacks share. Its locks are only ever taken by the loop's thread, so they are free; none is held
/// while Python runs.
#[derive(Debug)]
struct Pool {
    queue: Arc<Queue>,
    outbox: Outbox,
    /// Told whose call is being stepped, for the watchdog.
    pulse: Arc<Pulse>,
    predictor: Predictor,
    converter: Converter,
    event_loop: Py<PyAny>,
    task: Py<PyAny>,
    coroutine_type: Py<PyType>,
    flush: OnceLock<Py<PyAny>>,
    /// Futures of the workers that have nothing to do.
    idle: Mutex<Vec<Py<PyAny>>>,
    /// Workers woken or made that have not come to take a call yet.
    coming: AtomicUsize,
    /// The task that runs each call, for cancelling it.
    tasks: Mutex<HashMap<u64, Py<PyAny>>>,
}

/// Called by the loop when the queue has woken it.
#[pyclass(frozen)]
struct Wake(Arc<Pool>);

/// Called by the loop at the end of a turn with results.
#[pyclass(frozen)]
struct Flush(Arc<Pool>);

/// The coroutine of a worker's task.
#[pyclass(frozen)]
struct Worker {
    pool: Arc<Pool>,
    running: Mutex<Option<Running>>,
    task: Mutex<Option<Py<PyAny>>>,
}

/// A call that a worker runs.
struct Running {
    id: u64,
    row: u64,
    clock: Arc<CallClock>,
    sender: oneshot::Sender<Reply>,
    coroutine: Py<PyAny>,
    context: Py<PyAny>,
    first_chunk: Option<Arc<OnceLock<Duration>>>,
}

/// Marks for predictors that do not run on the loop from their first line on: streams and threads.
#[pyclass(frozen)]
struct Marks {
    clock: Arc<CallClock>,
    begun: Instant,
    first_chunk: Arc<OnceLock<Duration>>,
}

#[pymethods]
impl Marks {
    /// The predictor starts (a plain function, on its thread).
    fn begin(&self) {
        self.clock.begin();
    }

    /// It has ended (there).
    fn end(&self) {
        self.clock.end();
    }

    /// A chunk came; the first is noted.
    fn first_chunk(&self) {
        let _ = self.first_chunk.set(self.begun.elapsed());
    }
}

/// Makes the pool on the loop's thread, before the loop runs.
pub(super) fn start(
    event_loop: &Bound<'_, PyAny>,
    queue: Arc<Queue>,
    predictor: Predictor,
    results: mpsc::UnboundedSender<Batch>,
    secrets: Secrets,
    pulse: Arc<Pulse>,
) -> PyResult<()> {
    let py = event_loop.py();
    let wake = queue.wake_fd();
    let pool = Arc::new(Pool {
        queue,
        outbox: Outbox::new(results),
        pulse,
        converter: Converter::new(py, secrets)?,
        predictor,
        event_loop: event_loop.clone().unbind(),
        task: py.import("asyncio")?.getattr("Task")?.unbind(),
        coroutine_type: py.import("types")?.getattr("CoroutineType")?.cast_into()?.unbind(),
        flush: OnceLock::new(),
        idle: Mutex::default(),
        coming: AtomicUsize::new(0),
        tasks: Mutex::default(),
    });
    let _ = pool.flush.set(Py::new(py, Flush(Arc::clone(&pool)))?.into_any());
    event_loop.call_method1("add_reader", (wake, Wake(pool)))?;
    Ok(())
}

#[pymethods]
impl Wake {
    fn __call__(&self, py: Python<'_>) {
        let pool = &self.0;
        let (calls, cancellations) = pool.queue.look();
        for call in cancellations {
            pool.cancel(py, call);
        }
        let missing = calls.saturating_sub(pool.coming.load(Ordering::Relaxed));
        for _ in 0..missing {
            pool.coming.fetch_add(1, Ordering::Relaxed);
            if let Err(error) = Pool::call_worker(pool, py) {
                pool.coming.fetch_sub(1, Ordering::Relaxed);
                tracing::error!("failed to make a worker: {error}");
            }
        }
    }
}

#[pymethods]
impl Flush {
    fn __call__(&self) {
        self.0.outbox.send();
    }
}

impl Pool {
    /// Wakes an idle worker, or makes one.
    fn call_worker(this: &Arc<Self>, py: Python<'_>) -> PyResult<()> {
        let idle = lock(&this.idle).pop();
        if let Some(future) = idle {
            future.bind(py).call_method1(pyo3::intern!(py, "set_result"), (py.None(),))?;
            return Ok(());
        }
        let worker = Worker { pool: Arc::clone(this), running: Mutex::default(), task: Mutex::default() };
        let worker = Bound::new(py, worker)?;
        let options = PyDict::new(py);
        options.set_item("loop", this.event_loop.bind(py))?;
        let task = this.task.bind(py).call((&worker,), Some(&options))?;
        *lock(&worker.get().task) = Some(task.unbind());
        Ok(())
    }

    /// Cancels a call that runs; one that still waits in the queue is passed over when its turn comes.
    fn cancel(&self, py: Python<'_>, call: u64) {
        let task = lock(&self.tasks).get(&call).map(|task| task.clone_ref(py));
        if let Some(task) = task
            && let Err(error) = task.bind(py).call_method0(pyo3::intern!(py, "cancel"))
        {
            tracing::warn!("failed to cancel a call: {error}");
        }
    }

    /// Starts a call: makes its coroutine, which has not run yet.
    fn begin(&self, py: Python<'_>, job: Job) -> Option<Running> {
        let Job { id, attempt, sender } = job;
        let Attempt { row, number, arguments, clock } = attempt;
        let clock = Arc::new(clock);
        let predictor = &self.predictor;
        let mut first_chunk = None;
        let made = predictor.arguments(py, &arguments, row, number).and_then(|arguments| {
            let target = predictor.target.bind(py);
            let mut marks = || {
                let first = Arc::clone(first_chunk.get_or_insert_with(Arc::default));
                Bound::new(py, Marks { clock: Arc::clone(&clock), begun: Instant::now(), first_chunk: first })
            };
            let awaitable = match &predictor.driver {
                Driver::Async => {
                    clock.begin();
                    target.call((), Some(&arguments))?
                }
                Driver::Stream => {
                    clock.begin();
                    arguments.set_item("on_first_chunk", marks()?.getattr("first_chunk")?)?;
                    target.call((), Some(&arguments))?
                }
                Driver::Thread(run) => run.bind(py).call1((marks()?, target, arguments))?,
            };
            Ok((self.steppable(awaitable)?.unbind(), step::copy(predictor.context.bind(py))?.unbind()))
        });
        match made {
            Ok((coroutine, context)) => {
                Some(Running { id, row, clock, sender, coroutine, context, first_chunk })
            }
            Err(error) => {
                clock.end();
                self.settle(py, sender, Err(self.converter.error(&error, py)));
                None
            }
        }
    }

    /// Ends a call.
    fn end(&self, py: Python<'_>, running: Running, result: Result<Bound<'_, PyAny>, PyErr>) {
        lock(&self.tasks).remove(&running.id);
        running.clock.end();
        let reply = match result {
            Ok(value) => self.converter.answer(&value).map(|mut answer| {
                answer.first_chunk = running.first_chunk.as_ref().and_then(|first| first.get().copied());
                answer
            }),
            // Whatever a call raises because the loop is being closed is not the predictor's doing.
            Err(_) if self.queue.is_closed() => Err(BridgeError::LoopStopped.into()),
            Err(error) => Err(self.converter.error(&error, py)),
        };
        self.settle(py, running.sender, reply);
    }

    /// What can be stepped of an awaitable: a coroutine itself, else its iterator.
    fn steppable<'py>(&self, awaitable: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = awaitable.py();
        if awaitable.get_type().is(self.coroutine_type.bind(py)) {
            Ok(awaitable)
        } else {
            awaitable.call_method0(pyo3::intern!(py, "__await__"))
        }
    }

    fn settle(&self, py: Python<'_>, sender: oneshot::Sender<Reply>, reply: Reply) {
        if self.outbox.put(sender, reply) {
            let soon = self
                .flush
                .get()
                .map(|flush| self.event_loop.bind(py).call_method1(pyo3::intern!(py, "call_soon"), (flush,)));
            if !matches!(soon, Some(Ok(_))) {
                self.outbox.send();
            }
        }
    }
}

#[pymethods]
impl Worker {
    /// What a task calls to resume it.
    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.turn(py, None)
    }

    /// The same for tasks written in Python.
    fn send(&self, value: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.turn(value.py(), None)?.ok_or_else(|| PyStopIteration::new_err(()))
    }

    /// What a task calls to raise an exception, a cancellation mostly, where the call waits.
    fn throw(&self, error: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.turn(error.py(), Some(error))?.ok_or_else(|| PyStopIteration::new_err(()))
    }

    #[allow(clippy::unused_self, reason = "part of a coroutine's form")]
    fn close(&self) {}

    fn __await__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }
}

impl Worker {
    /// Runs calls until one waits for something, which is returned; `None` ends the task.
    fn turn(&self, py: Python<'_>, mut error: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Py<PyAny>>> {
        let pool = &self.pool;
        let running = lock(&self.running).take();
        let mut running = match (running, error) {
            (Some(running), _) => running,
            // The loop is being closed.
            (None, Some(error)) => {
                self.retire();
                return Err(PyErr::from_value(error.clone()));
            }
            (None, None) => {
                pool.coming.fetch_sub(1, Ordering::Relaxed);
                let Some(running) = self.take(py) else { return self.park(py) };
                running
            }
        };
        for turn in 1..=CALLS_A_TURN {
            let (coroutine, context) = (running.coroutine.bind(py), running.context.bind(py));
            pool.pulse.steps(Some(running.row));
            let step = match error.take() {
                Some(error) => step::throw(coroutine, context, error),
                None => step::resume(coroutine, context),
            };
            pool.pulse.steps(None);
            let result = match step {
                Step::Yielded(awaited) => {
                    *lock(&self.running) = Some(running);
                    return Ok(Some(awaited.unbind()));
                }
                Step::Returned(value) => Ok(value),
                Step::Raised(error) => Err(error),
            };
            pool.end(py, running, result);
            if self.was_cancelled(py) {
                self.retire();
                return Ok(None);
            }
            if turn == CALLS_A_TURN {
                break;
            }
            let Some(next) = self.take(py) else { return self.park(py) };
            running = next;
        }
        // The others' turn. The next call is taken, and its clock started, when this worker comes again.
        pool.coming.fetch_add(1, Ordering::Relaxed);
        Ok(Some(py.None()))
    }

    /// The next call, if one waits.
    fn take(&self, py: Python<'_>) -> Option<Running> {
        loop {
            let running = self.pool.begin(py, self.pool.queue.pop()?);
            if let Some(running) = running {
                if let Some(task) = lock(&self.task).as_ref() {
                    lock(&self.pool.tasks).insert(running.id, task.clone_ref(py));
                }
                return Some(running);
            }
        }
    }

    /// Waits for work as a task does: on a future.
    fn park(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let event_loop = self.pool.event_loop.bind(py);
        let future = event_loop.call_method0(pyo3::intern!(py, "create_future"))?;
        // What a future's own `__await__` does before it yields the future.
        future.setattr(pyo3::intern!(py, "_asyncio_future_blocking"), true)?;
        lock(&self.pool.idle).push(future.clone().unbind());
        Ok(Some(future.unbind()))
    }

    /// Whether anybody asked the task to cancel, in this call or by it.
    fn was_cancelled(&self, py: Python<'_>) -> bool {
        let task = lock(&self.task).as_ref().map(|task| task.clone_ref(py));
        let requests =
            task.map(|task| task.bind(py).call_method0(pyo3::intern!(py, "cancelling"))?.extract::<u32>());
        !matches!(requests, Some(Ok(0)))
    }

    fn retire(&self) {
        let task = lock(&self.task).take();
        drop(task);
    }
}
