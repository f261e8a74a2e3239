//! The class `Run`: a job on a thread of its own, which Python waits for.

use std::sync::Arc;
use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio_asyncio_bridge::job::background::{Background, Watch};
use tokio_asyncio_bridge::job::{Control, JobError, Level};

use crate::errors;

/// The longest single wait, after which Python looks for signals.
const LONGEST: Duration = Duration::from_millis(100);

/// A job that runs on a thread of its own. If the object is dropped before the job's end, the job is ended at once.
#[pyclass(frozen, module = "tokio_asyncio_bridge._native")]
pub(crate) struct Run(pub(crate) Arc<Background<Value>>);

/// Starts a job on a thread of its own. The value is its result.
pub(crate) fn start(
    work: impl FnOnce(&Runtime, &mut Watch, &Control) -> Result<Value, JobError> + Send + 'static,
) -> PyResult<Run> {
    Ok(Run(Arc::new(Background::start(work)?)))
}

/// At most so many seconds of waiting.
pub(crate) fn at_most(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default().min(LONGEST)
}

#[pymethods]
impl Run {
    /// Waits for the end, at most so many seconds, and returns whether the job has ended. In a forked process it has.
    fn wait(&self, py: Python<'_>, seconds: f64) -> bool {
        py.detach(|| self.0.wait(at_most(seconds)))
    }

    /// Asks the job to stop, as the first Ctrl-C at a terminal does.
    fn stop(&self) {
        self.0.stop();
    }

    /// Asks the job to end at once.
    fn kill(&self) {
        self.0.kill();
    }

    /// How the job stands, as JSON, or `None` before its first call. Times are in seconds.
    fn standing(&self) -> PyResult<Option<String>> {
        let Some(snapshot) = self.0.standing() else { return Ok(None) };
        let mut standing =
            serde_json::to_value(snapshot).map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
        standing["done"] = snapshot.done().into();
        standing["elapsed_s"] = snapshot.elapsed.as_secs_f64().into();
        standing["eta_s"] = snapshot.eta().map(|eta| eta.as_secs_f64()).into();
        Ok(Some(standing.to_string()))
    }

    /// Takes the messages that came since the last time, each as its level (`note`, `warning`, `error`) and its text.
    fn messages(&self) -> Vec<(&'static str, String)> {
        let level = |level| match level {
            Level::Note => "note",
            Level::Warning => "warning",
            Level::Error => "error",
        };
        self.0.messages().into_iter().map(|(of, text)| (level(of), text)).collect()
    }

    /// Takes the result of a job that has ended, as JSON. Raises its error if it failed.
    fn result(&self, py: Python<'_>) -> PyResult<String> {
        let result = py.detach(|| self.0.result());
        result.map(|value| value.to_string()).map_err(|error| errors::of_job(py, &error))
    }

    /// Whether this is a process that was forked meanwhile.
    fn is_forked(&self) -> bool {
        self.0.is_forked()
    }
}
