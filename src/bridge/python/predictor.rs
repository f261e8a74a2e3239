//! The predictor a SPEC names, loaded in the interpreter: how it is called and what it takes.

use std::path::PathBuf;

use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::helpers;
use crate::row::{Arguments, Value};
use crate::secret::Secrets;

/// What a predictor takes and what it is, for binding columns and for telling the user.
#[derive(Debug, Clone)]
pub struct Description {
    /// The SPEC it was loaded from.
    pub spec: String,
    /// `async function`, `async generator`, `function on threads`, `dspy.Module …`.
    pub kind: String,
    /// Parameters passed by name, and whether each is required. `row_id` and `attempt` are not among them.
    pub parameters: Vec<(String, bool)>,
    /// Whether it takes `**row`.
    pub takes_all: bool,
    /// The file it was loaded from.
    pub source: Option<PathBuf>,
    /// Whether it runs on threads, which nothing can cancel.
    pub threaded: bool,
}

/// The language model DSPy predictors are given.
#[derive(Debug, Clone, Default)]
pub struct ModelSettings {
    /// `local`, or what `dspy.LM` takes.
    pub model: String,
    /// Where the API is.
    pub api_base: Option<String>,
    /// `--lm KEY=VALUE`, values as JSON text.
    pub options: Vec<(String, String)>,
    /// Whether the user named the model: then it also replaces one that the predictor's file configured.
    pub explicit: bool,
}

/// A predictor in the interpreter.
#[derive(Debug)]
pub struct Predictor {
    pub(in crate::bridge) target: Py<PyAny>,
    pub(in crate::bridge) drive: Py<PyAny>,
    pub(in crate::bridge) context: Py<PyAny>,
    json_loads: Py<PyAny>,
    offers_row_id: bool,
    offers_attempt: bool,
    /// What it is.
    pub description: Description,
}

/// Gives the model once a predictor turns out to need one, so that none is started for those that do not.
pub type ModelProvider = Box<dyn FnOnce() -> Result<ModelSettings, String> + Send>;

/// What to load.
pub struct Request {
    /// `path/to/file.py:name`, `package.module:name` or `dspy`.
    pub spec: String,
    /// The DSPy signature of the predictor `dspy`.
    pub signature: String,
    /// The language model for DSPy predictors.
    pub model: ModelProvider,
}

/// The predictor cannot be used; the text is the reason, with Python's traceback where it gave one, and the remedy.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct LoadError(pub String);

impl LoadError {
    /// What an exception during loading means to the user: our own refusals as they are, theirs with the traceback.
    pub(in crate::bridge) fn of(error: &PyErr, secrets: &Secrets) -> Self {
        Python::attach(|py| {
            let told = helpers::module(py, "loader").and_then(|loader| {
                loader.call_method1("explain", (error.value(py),))?.extract::<String>()
            });
            Self(secrets.mask(&told.unwrap_or_else(|_| error.to_string())).into_owned())
        })
    }
}

impl Predictor {
    /// Loads what is requested. For the event loop's thread, before the loop runs.
    pub(in crate::bridge) fn load(event_loop: &Bound<'_, PyAny>, request: Request) -> PyResult<Self> {
        let py = event_loop.py();
        let loaded = helpers::module(py, "loader")?.call_method1("load", (&request.spec, event_loop))?;
        Self::of(event_loop, &request.spec, &loaded)
    }

    fn of(event_loop: &Bound<'_, PyAny>, spec: &str, loaded: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = event_loop.py();
        let threaded: bool = loaded.getattr("threaded")?.extract()?;
        let streaming: bool = loaded.getattr("streaming")?.extract()?;
        let offered: Vec<String> = loaded.getattr("offered")?.extract()?;
        let drive = match (threaded, streaming) {
            (true, _) => "drive_thread",
            (_, true) => "drive_stream",
            _ => "drive",
        };
        Ok(Self {
            target: loaded.getattr("call")?.unbind(),
            drive: helpers::module(py, "host")?.getattr(drive)?.unbind(),
            context: py.import("contextvars")?.call_method0("copy_context")?.unbind(),
            json_loads: py.import("json")?.getattr("loads")?.unbind(),
            offers_row_id: offered.iter().any(|name| name == "row_id"),
            offers_attempt: offered.iter().any(|name| name == "attempt"),
            description: Description {
                spec: spec.to_owned(),
                kind: loaded.getattr("kind")?.extract()?,
                parameters: loaded.getattr("parameters")?.extract()?,
                takes_all: loaded.getattr("takes_all")?.extract()?,
                source: loaded.getattr("source")?.extract()?,
                threaded,
            },
        })
    }

    /// The keyword arguments of one call.
    pub(in crate::bridge) fn arguments<'py>(
        &self,
        py: Python<'py>,
        arguments: &Arguments,
        row: u64,
        attempt: u32,
    ) -> PyResult<Bound<'py, PyDict>> {
        let keywords = PyDict::new(py);
        for (name, value) in arguments {
            match value {
                Value::Text(text) => keywords.set_item(name.as_ref(), text)?,
                Value::Json(raw) => keywords.set_item(name.as_ref(), self.json_loads.bind(py).call1((raw.get(),))?)?,
            }
        }
        if self.offers_row_id {
            keywords.set_item("row_id", row)?;
        }
        if self.offers_attempt {
            keywords.set_item("attempt", attempt)?;
        }
        Ok(keywords)
    }
}
