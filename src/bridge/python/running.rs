//! One call on the event loop: how it is begun, how its times are marked, how it is ended.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::types::PyType;
use pyo3::{PyTraverseError, PyVisit};

use super::exchange::Exchange;
use super::predictor::{Driver, Predictor};
use super::queue::Job;
use super::step;
use crate::call::CallClock;

/// A call that a worker runs.
pub(super) struct Running {
    pub(super) job: Box<Job>,
    shared: Option<Shared>,
    pub(super) coroutine: Py<PyAny>,
    /// The call's own copy of the context in which the predictor was loaded.
    pub(super) context: Py<PyAny>,
    /// Whether the call waits or has waited for something. Only such a call can be cancelled, so it is entered to be
    /// found.
    pub(super) entered: bool,
}

/// What a thread or a stream marks times on.
#[derive(Clone)]
struct Shared {
    clock: Arc<CallClock>,
    first_chunk: Arc<OnceLock<Duration>>,
}

/// Marks times for predictors that do not run on the loop from their first line on: streams and threads.
#[pyclass(frozen)]
struct Marks {
    shared: Shared,
    begun: Instant,
}

#[pymethods]
impl Marks {
    /// Called when the predictor starts (a plain function, on its thread).
    fn begin(&self) {
        self.shared.clock.begin();
    }

    /// Called when it has ended (there).
    fn end(&self) {
        self.shared.clock.end();
    }

    /// Called for each chunk. The first is noted.
    fn first_chunk(&self) {
        let _ = self.shared.first_chunk.set(self.begun.elapsed());
    }
}

/// Makes the calls of one predictor.
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

    /// Makes a call's coroutine, which does not run yet.
    ///
    /// # Errors
    ///
    /// Fails with what making it raised, and gives the job back. Nothing of the call is left then.
    pub(super) fn begin(&self, py: Python<'_>, mut job: Box<Job>) -> Result<Running, (Box<Job>, PyErr)> {
        let made = self.call(py, &mut job).and_then(|(awaitable, shared)| {
            let coroutine = self.steppable(awaitable)?.unbind();
            let context = step::copy(self.predictor.context.bind(py))?.unbind();
            Ok((coroutine, context, shared))
        });
        match made {
            Ok((coroutine, context, shared)) => {
                Ok(Running { job, shared, coroutine, context, entered: false })
            }
            Err(error) => Err((job, error)),
        }
    }

    /// Where answers go, if they stay Python objects.
    pub(super) fn exchange(&self) -> Option<&Exchange> {
        self.predictor.exchange.as_deref()
    }

    /// Shows Python's garbage collector what a circle may go through.
    pub(super) fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.predictor.target)?;
        visit.call(&self.predictor.context)
    }

    fn call<'py>(&self, py: Python<'py>, job: &mut Job) -> PyResult<(Bound<'py, PyAny>, Option<Shared>)> {
        let target = self.predictor.target.bind(py);
        let passed = match &self.predictor.exchange {
            Some(exchange) => exchange.passed(py, job.row, job.number)?,
            None => self.predictor.keywords.of(py, &job.arguments, job.row, job.number)?,
        };
        if let Driver::Async = &self.predictor.driver {
            job.clock.as_ref().inspect(|clock| clock.begin());
            return Ok((step::call(target, &passed.names, &passed.values)?, None));
        }
        let Some(clock) = job.clock.take().map(Arc::new) else { unreachable!("a call is made once") };
        let shared = Shared { clock, first_chunk: Arc::default() };
        let marks = Bound::new(py, Marks { shared: shared.clone(), begun: Instant::now() })?;
        let arguments = passed.dict()?;
        let awaitable = if let Driver::Thread(run) = &self.predictor.driver {
            run.bind(py).call1((marks, target, arguments))?
        } else {
            shared.clock.begin();
            arguments.set_item("on_first_chunk", marks.getattr("first_chunk")?)?;
            target.call((), Some(&arguments))?
        };
        Ok((awaitable, Some(shared)))
    }

    /// The part of an awaitable that can be stepped: a coroutine itself, else its iterator.
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
    /// Shows Python's garbage collector what a circle may go through.
    pub(super) fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.coroutine)?;
        visit.call(&self.context)
    }

    /// Notes that the predictor has returned or raised.
    pub(super) fn end(&self) {
        let shared = self.shared.as_ref().map(|shared| &*shared.clock);
        if let Some(clock) = shared.or(self.job.clock.as_ref()) {
            clock.end();
        }
    }

    /// The time from the beginning to the first chunk of a stream.
    pub(super) fn first_chunk(&self) -> Option<Duration> {
        self.shared.as_ref().and_then(|shared| shared.first_chunk.get().copied())
    }
}
