//! The textbook bridge: `pyo3_asyncio::tokio::into_future` once for each call. It is the reference for tests, `demo`
//! and benches. The production bridge is [`super::python`].
//!
//! A Tokio thread attaches to the interpreter, calls the predictor to get a coroutine, turns that into a Rust future,
//! detaches, and only then awaits it: the GIL is never held across an `.await`. Dropping the future leaves the Python
//! task running (measured: 50 of 50), so a guard cancels the task explicitly.

use std::future::ready;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3_asyncio::TaskLocals;

use super::python::convert::{Converter, NulledCount};
use super::python::event_loop::{EventLoop, LoopKind};
use super::python::helpers;
use super::python::predictor::{LoadError, Predictor, Request};
use super::{Bridge, Call, Description, Health, Reply};
use crate::call::{Attempt, CallClock, Lane};
use crate::error::{BridgeError, CallError};
use crate::input::Types;
use crate::secret::Secrets;

/// The textbook bridge. It ends by [`Bridge::close`], or unobserved once it is dropped.
#[derive(Debug)]
pub struct IntoFutureBridge {
    event_loop: Arc<EventLoop>,
    locals: TaskLocals,
    predictor: Predictor,
    converter: Arc<Converter>,
    nulled: Arc<NulledCount>,
    /// Counts the calls that have not ended: each of them holds one more.
    calls: Arc<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a call's task tells the future that waits for the call.
#[derive(Debug, Default)]
struct CallState {
    task: Mutex<Option<Py<PyAny>>>,
    ended: Mutex<Option<Reply>>,
    dropped: AtomicBool,
}

/// One call, as its task sees it. Only Python holds it, so that the clock is dropped with the task.
#[pyclass(frozen)]
struct Running {
    row: u64,
    clock: CallClock,
    _counted: Arc<()>,
    begun: OnceLock<Instant>,
    first_chunk: OnceLock<Duration>,
    converter: Arc<Converter>,
    state: Arc<CallState>,
}

#[pymethods]
impl Running {
    /// The row, read by the watchdog.
    #[getter]
    fn row(&self) -> u64 {
        self.row
    }

    /// Called when the task runs. Returns false if nobody waits for it any more.
    fn started(&self, task: Py<PyAny>) -> bool {
        *lock(&self.state.task) = Some(task);
        !self.state.dropped.load(Ordering::Acquire)
    }

    fn begin(&self) {
        let _ = self.begun.set(Instant::now());
        self.clock.begin();
    }

    fn end(&self) {
        self.clock.end();
    }

    fn first_chunk(&self) {
        if let Some(begun) = self.begun.get() {
            let _ = self.first_chunk.set(begun.elapsed());
        }
    }

    // The result is converted here: an exception that is kept would keep this very call, by its traceback's frames.

    fn finish(&self, value: &Bound<'_, PyAny>) {
        self.clock.end();
        let mut answer = self.converter.answer(value, self.row);
        if let Ok(answer) = &mut answer {
            answer.first_chunk = self.first_chunk.get().copied();
        }
        *lock(&self.state.ended) = Some(answer);
    }

    fn fail(&self, py: Python<'_>, error: Bound<'_, PyAny>) {
        self.clock.end();
        *lock(&self.state.ended) = Some(Err(self.converter.error(&PyErr::from_value(error), py)));
    }
}

/// Cancels the call's task if it is dropped before the call has ended.
struct CancelOnDrop {
    event_loop: Arc<EventLoop>,
    state: Arc<CallState>,
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.state.dropped.store(true, Ordering::Release);
        let Some(task) = lock(&self.state.task).take() else { return };
        Python::try_attach(|py| {
            let cancel = task.bind(py).getattr("cancel");
            // This fails if the loop is closed, and then it has no task left.
            let _ = cancel.and_then(|cancel| {
                self.event_loop.object(py).call_method1("call_soon_threadsafe", (cancel,))
            });
        });
    }
}

impl IntoFutureBridge {
    /// Starts an event loop and loads the predictor on its thread. The interpreter must be running. Blocks until the
    /// predictor is loaded.
    ///
    /// # Errors
    ///
    /// Fails if the event loop cannot be made or the predictor cannot be loaded, with the reason that Python gave.
    pub fn start(kind: LoopKind, request: Request, secrets: Secrets) -> Result<Self, LoadError> {
        let mask = secrets.clone();
        let nulled = Arc::<NulledCount>::default();
        let counted = Arc::clone(&nulled);
        let set_up = move |event_loop: &Bound<'_, PyAny>, _: &_| {
            let py = event_loop.py();
            let mut secrets = secrets;
            let predictor = Predictor::load(event_loop, request, &mut secrets)?;
            let context = predictor.context.bind(py).clone();
            let locals = TaskLocals::new(event_loop.clone()).with_context(context);
            Ok((locals, predictor, Arc::new(Converter::new(py, secrets, counted)?)))
        };
        let (event_loop, (locals, mut predictor, converter)) =
            EventLoop::start(kind, mask.clone(), set_up).map_err(|error| LoadError::of(&error, &mask))?;
        "into_future".clone_into(&mut predictor.description.bridge);
        predictor.description.event_loop.clone_from(&event_loop.name);
        let event_loop = Arc::new(event_loop);
        Ok(Self { event_loop, locals, predictor, converter, nulled, calls: Arc::default() })
    }

    /// The textbook's one line, in its three steps: attach, make the coroutine a future, detach.
    fn make(
        &self,
        py: Python<'_>,
        attempt: Attempt,
        state: Arc<CallState>,
    ) -> PyResult<impl Future<Output = PyResult<Py<PyAny>>> + Send + use<>> {
        let passed = self.predictor.keywords.of(py, &attempt.arguments, attempt.row, attempt.number)?;
        let arguments = passed.dict()?;
        let running = Running {
            row: attempt.row,
            clock: attempt.clock,
            _counted: Arc::clone(&self.calls),
            begun: OnceLock::new(),
            first_chunk: OnceLock::new(),
            converter: Arc::clone(&self.converter),
            state,
        };
        let running = Bound::new(py, running)?;
        let driver =
            self.predictor.drive.bind(py).call1((&running, self.predictor.target.bind(py), arguments))?;
        let coroutine = helpers::module(py, "host")?.call_method1("cancellable", (running, driver))?;
        pyo3_asyncio::into_future_with_locals(&self.locals, coroutine)
    }
}

impl Bridge for IntoFutureBridge {
    fn describe(&self) -> &Description {
        &self.predictor.description
    }

    fn types(&self) -> Option<&dyn Types> {
        Some(&*self.predictor.types)
    }

    fn submit(&self, attempt: Attempt) -> Call {
        let failed = |error: CallError| Call::driven(ready(Err(error)));
        if self.event_loop.is_ending() {
            return failed(BridgeError::LoopStopped.into());
        }
        attempt.clock.runs_on(Arc::clone(&self.event_loop.pulse) as Arc<dyn Lane>);
        let state = Arc::<CallState>::default();
        let event_loop = Arc::clone(&self.event_loop);
        let guard = CancelOnDrop { event_loop: Arc::clone(&event_loop), state: Arc::clone(&state) };
        let converter = Arc::clone(&self.converter);
        match Python::try_attach(|py| self.make(py, attempt, Arc::clone(&state))) {
            None => failed(BridgeError::InterpreterGone.into()),
            Some(Err(error)) => failed(broken(&event_loop, &converter, &error)),
            Some(Ok(future)) => Call::driven(async move {
                let awaited = future.await;
                lock(&state.task).take();
                drop(guard); // The task that it would cancel is gone.
                // A task that raises because the loop is being closed is not the predictor's failure.
                let ended =
                    lock(&state.ended).take().filter(|ended| ended.is_ok() || !event_loop.is_ending());
                match (ended, awaited) {
                    // The task may have been cancelled afterwards: the answer is there, and paid for.
                    (Some(ended), _) => ended,
                    (None, Err(error)) => Err(broken(&event_loop, &converter, &error)),
                    (None, Ok(_)) => Err(BridgeError::LoopStopped.into()),
                }
            }),
        }
    }

    fn health(&self) -> Health {
        self.event_loop.health(Arc::strong_count(&self.calls) as u64 - 1, &self.nulled)
    }

    fn close(&self, within: Duration) -> bool {
        self.event_loop.shut_down(within)
    }
}

impl Drop for IntoFutureBridge {
    fn drop(&mut self) {
        // Calls that are left hold the loop.
        self.event_loop.ask_to_end();
    }
}

/// The error for an exception around the driver, which catches what the predictor raises: it is the loop's.
fn broken(event_loop: &EventLoop, converter: &Converter, error: &PyErr) -> CallError {
    Python::try_attach(|py| {
        let closed = event_loop.object(py).call_method0("is_closed");
        if closed.and_then(|closed| closed.extract()).unwrap_or(true)
            || error.get_type(py).name().is_ok_and(|name| name == "CancelledError")
        {
            BridgeError::LoopStopped.into()
        } else {
            converter.error(error, py)
        }
    })
    .unwrap_or(BridgeError::InterpreterGone.into())
}
