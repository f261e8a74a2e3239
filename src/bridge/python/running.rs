//! One call on the event loop: begun, marked, ended. Not who steps it.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::types::PyType;
use tokio::sync::oneshot;

use super::Reply;
use super::predictor::{Driver, Predictor};
use super::queue::Job;
use super::step;
use crate::call::{Attempt, CallClock};

/// A call that a worker runs.
pub(super) struct Running {
    pub(super) id: u64,
    pub(super) row: u64,
    clock: Clock,
    pub(super) sender: oneshot::Sender<Reply>,
    pub(super) coroutine: Py<PyAny>,
    /// The call's own copy of the context the predictor was loaded in.
    pub(super) context: Py<PyAny>,
    first_chunk: Option<Arc<OnceLock<Duration>>>,
    /// It waits or has waited for something. Only such a call can be cancelled, and is entered to be found for that.
    pub(super) entered: bool,
}

/// A call's clock, shared where a thread or a stream marks on it.
enum Clock {
    Own(CallClock),
    Shared(Arc<CallClock>),
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

/// What makes the calls of one predictor.
#[derive(Debug)]
pub(super) struct Caller {
    predictor: Predictor,
    coroutine_type: Py<PyType>,
}

impl Caller {
    pub(super) fn new(py: Python<'_>, predictor: Predictor) -> PyResult<Self> {
        let coroutine_type = py.import("types")?.getattr("CoroutineType")?.cast_into()?.unbind();
        Ok(Self { predictor, coroutine_type })
    }

    /// Makes a call's coroutine, which has not run yet. Where that raises, nothing of the call is left.
    pub(super) fn begin(&self, py: Python<'_>, job: Job) -> Result<Running, (oneshot::Sender<Reply>, PyErr)> {
        let Job { id, attempt, sender } = job;
        let row = attempt.row;
        let made = self.call(py, attempt).and_then(|(clock, awaitable, first_chunk)| {
            let coroutine = self.steppable(awaitable)?.unbind();
            let context = step::copy(self.predictor.context.bind(py))?.unbind();
            Ok((clock, coroutine, context, first_chunk))
        });
        match made {
            Ok((clock, coroutine, context, first_chunk)) => {
                Ok(Running { id, row, clock, sender, coroutine, context, first_chunk, entered: false })
            }
            Err(error) => Err((sender, error)),
        }
    }

    #[allow(clippy::type_complexity)]
    fn call<'py>(
        &self,
        py: Python<'py>,
        attempt: Attempt,
    ) -> PyResult<(Clock, Bound<'py, PyAny>, Option<Arc<OnceLock<Duration>>>)> {
        let Attempt { row, number, arguments, clock } = attempt;
        let target = self.predictor.target.bind(py);
        let passed = self.predictor.keywords.of(py, &arguments, row, number)?;
        if let Driver::Async = &self.predictor.driver {
            clock.begin();
            return Ok((Clock::Own(clock), step::call(target, &passed.names, &passed.values)?, None));
        }
        let (clock, first_chunk) = (Arc::new(clock), Arc::<OnceLock<Duration>>::default());
        let marks =
            Marks { clock: Arc::clone(&clock), begun: Instant::now(), first_chunk: Arc::clone(&first_chunk) };
        let (marks, arguments) = (Bound::new(py, marks)?, passed.dict()?);
        let awaitable = if let Driver::Thread(run) = &self.predictor.driver {
            run.bind(py).call1((marks, target, arguments))?
        } else {
            clock.begin();
            arguments.set_item("on_first_chunk", marks.getattr("first_chunk")?)?;
            target.call((), Some(&arguments))?
        };
        Ok((Clock::Shared(clock), awaitable, Some(first_chunk)))
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
}

impl Running {
    /// The predictor has returned or raised.
    pub(super) fn end(&self) {
        match &self.clock {
            Clock::Own(clock) => clock.end(),
            Clock::Shared(clock) => clock.end(),
        }
    }

    /// From the beginning to the first chunk, for a stream that had one.
    pub(super) fn first_chunk(&self) -> Option<Duration> {
        self.first_chunk.as_ref().and_then(|first| first.get().copied())
    }
}
