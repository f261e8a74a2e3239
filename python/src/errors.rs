//! Turns the library's errors into exceptions, whose classes `_errors.py` defines.

use pyo3::prelude::*;
use pyo3::types::PyDict;
use tokio_asyncio_bridge::bridge::python::interpreter::InterpreterError;
use tokio_asyncio_bridge::job::spec::KeywordError;
use tokio_asyncio_bridge::job::{ErrorKind, JobError};

/// The exception of a job's error.
pub(crate) fn of_job(py: Python<'_>, error: &JobError) -> PyErr {
    let class = match error.kind() {
        ErrorKind::Usage => "UsageError",
        ErrorKind::Input => "InputError",
        ErrorKind::Output => "OutputError",
        ErrorKind::Journal => "JournalError",
        ErrorKind::Changed => "ChangedError",
        ErrorKind::Predictor => "PredictorError",
        ErrorKind::Cluster => "ClusterError",
        ErrorKind::Stopped(_) => "StoppedError",
        _ => "InternalError",
    };
    made(py, class, &error.to_string(), |told| {
        told.set_item("file", error.file())?;
        told.set_item("line", error.line())?;
        told.set_item("called", error.called())
    })
}

/// The exception of an option that cannot be taken.
pub(crate) fn of_keyword(py: Python<'_>, error: &KeywordError) -> PyErr {
    made(py, "UsageError", &error.to_string(), |_| Ok(()))
}

/// The exception of an interpreter that cannot be used.
pub(crate) fn of_interpreter(py: Python<'_>, error: &InterpreterError) -> PyErr {
    made(py, "PredictorError", &error.to_string(), |_| Ok(()))
}

fn made(
    py: Python<'_>,
    class: &str,
    text: &str,
    tell: impl FnOnce(&Bound<'_, PyDict>) -> PyResult<()>,
) -> PyErr {
    let exception = || {
        let told = PyDict::new(py);
        tell(&told)?;
        py.import("tokio_asyncio_bridge._errors")?.getattr(class)?.call((text,), Some(&told))
    };
    exception().map_or_else(|error| error, PyErr::from_value)
}
