//! The class `Outcome`: what became of a row.

use std::sync::OnceLock;

use pyo3::exceptions::PyBaseException;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3::{PyTraverseError, PyVisit};
use tokio_asyncio_bridge::error::Failure;
use tokio_asyncio_bridge::outcome::Tried;
use tokio_asyncio_bridge::usage::Usage;

/// Tokens in, tokens out, and requests to the model.
type Used = (u64, u64, u64);

/// What became of a row: its answer, or why it has none.
#[pyclass(frozen, module = "tokio_asyncio_bridge")]
pub(crate) struct Outcome {
    /// The row's place among all rows, from 0.
    #[pyo3(get)]
    pub(crate) index: u64,
    /// The row as it was given.
    #[pyo3(get)]
    pub(crate) row: Py<PyAny>,
    /// What the predictor returned; `None` if the row failed.
    #[pyo3(get)]
    pub(crate) answer: Option<Py<PyAny>>,
    pub(crate) fault: Option<Box<Fault>>,
    /// How often the predictor was called; 0 for a row that was not called. A journal counts the last run that called it.
    #[pyo3(get)]
    pub(crate) attempts: u32,
    /// Seconds that the last attempt took.
    #[pyo3(get)]
    pub(crate) latency: f64,
    pub(crate) used: Option<Box<(Used, Option<f64>)>>,
}

/// What attempts used and cost, as an outcome keeps it.
pub(crate) fn used(usage: Option<&Usage>) -> Option<Box<(Used, Option<f64>)>> {
    usage.map(|usage| Box::new(((usage.input, usage.output, usage.calls), usage.cost_usd)))
}

/// Why a row has no answer. Its exception is made when somebody asks for it.
pub(crate) struct Fault {
    failure: Option<Failure>,
    /// The exception that the predictor raised.
    raised: Option<Py<PyAny>>,
    made: OnceLock<Py<PyAny>>,
}

impl Fault {
    pub(crate) fn new(failure: Failure, raised: Option<Py<PyAny>>) -> Self {
        Self { failure: Some(failure), raised, made: OnceLock::new() }
    }

    fn exception(&self, py: Python<'_>, called: bool) -> PyResult<Py<PyAny>> {
        if let Some(made) = self.made.get() {
            return Ok(made.clone_ref(py));
        }
        let exception = self.make(py, called)?.unbind();
        // Another thread may have been faster while Python ran.
        Ok(self.made.get_or_init(|| exception).clone_ref(py))
    }

    fn make<'py>(&self, py: Python<'py>, called: bool) -> PyResult<Bound<'py, PyAny>> {
        let Some(failure) = &self.failure else { return Ok(py.None().into_bound(py)) };
        let told = PyDict::new(py);
        told.set_item("kind", failure.own_class().unwrap_or("predictor"))?;
        told.set_item("type", &*failure.class)?;
        told.set_item("called", called)?;
        told.set_item("status", failure.status)?;
        told.set_item("traceback", &failure.traceback)?;
        let class = py.import("tokio_asyncio_bridge._errors")?.getattr("RowError")?;
        let exception = class.call((&failure.message,), Some(&told))?;
        if let Some(raised) = &self.raised
            && raised.bind(py).is_instance_of::<PyBaseException>()
        {
            exception.setattr("__cause__", raised)?;
        }
        Ok(exception)
    }
}

impl Outcome {
    /// The outcome of a row that the run has not finished.
    pub(crate) fn unfinished(index: u64, row: Py<PyAny>, tried: &Tried) -> Self {
        let fault = Some(Box::new(Fault::new(Failure::unfinished(), None)));
        let (attempts, latency) = (tried.attempts, tried.latency.as_secs_f64());
        Self { index, row, answer: None, fault, attempts, latency, used: used(tried.usage.as_ref()) }
    }
}

#[pymethods]
impl Outcome {
    /// An outcome of these parts.
    #[new]
    #[pyo3(signature = (*, index, row, answer=None, error=None, attempts=0, latency=0.0, usage=None, cost=None))]
    #[allow(clippy::too_many_arguments, reason = "all of them are named")]
    fn new(
        index: u64,
        row: Py<PyAny>,
        answer: Option<Py<PyAny>>,
        error: Option<Py<PyAny>>,
        attempts: u32,
        latency: f64,
        usage: Option<Used>,
        cost: Option<f64>,
    ) -> Self {
        let fault =
            error.map(|error| Box::new(Fault { failure: None, raised: None, made: OnceLock::from(error) }));
        let used = usage.map(|used| Box::new((used, cost)));
        Self { index, row, answer, fault, attempts, latency, used }
    }

    /// Whether the row was answered.
    #[getter]
    fn ok(&self) -> bool {
        self.fault.is_none()
    }

    /// Why the row has no answer; `None` if it has one.
    #[getter]
    fn error(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.fault.as_ref().map(|fault| fault.exception(py, self.attempts > 0)).transpose()
    }

    /// What the attempts used, as far as they told; `None` if none did.
    #[getter]
    fn usage<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(((input, output, calls), _)) = self.used.as_deref() else { return Ok(None) };
        let class = py.import("tokio_asyncio_bridge._outcome")?.getattr("Usage")?;
        class.call1((input, output, calls)).map(Some)
    }

    /// What the attempts cost in US dollars; `None` if that is not known.
    #[getter]
    fn cost(&self) -> Option<f64> {
        self.used.as_deref()?.1
    }

    /// Returns the answer, or raises the error.
    fn result(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        match self.error(py)? {
            Some(error) => Err(PyErr::from_value(error.into_bound(py))),
            None => Ok(self.answer.as_ref().map(|answer| answer.clone_ref(py))),
        }
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let what = if let Some(error) = self.error(py)? {
            format!("error={}", error.bind(py).repr()?)
        } else {
            let answer = self.answer.as_ref().map(|answer| answer.bind(py).repr()).transpose()?;
            format!("answer={}", answer.map_or_else(|| "None".to_owned(), |answer| answer.to_string()))
        };
        Ok(format!(
            "Outcome(index={}, row={}, {what}, attempts={}, latency={:.6})",
            self.index,
            self.row.bind(py).repr()?,
            self.attempts,
            self.latency
        ))
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        let make = py.import("tokio_asyncio_bridge._outcome")?.getattr("unpickled")?;
        let usage = self.used.as_deref().map(|(used, _)| *used);
        let parts = (
            self.index,
            &self.row,
            &self.answer,
            self.error(py)?,
            self.attempts,
            self.latency,
            usage,
            self.cost(),
        );
        Ok((make, parts.into_pyobject(py)?.into_any()))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.row)?;
        visit.call(&self.answer)?;
        let Some(fault) = &self.fault else { return Ok(()) };
        visit.call(&fault.raised)?;
        fault.made.get().map_or(Ok(()), |made| visit.call(made))
    }
}
