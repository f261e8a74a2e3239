//! A predictor that is a Python object of this process, in place of what a SPEC names.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use pyo3::prelude::*;
use serde::{Deserialize, Serialize};

use super::interpreter::{Interpreter, InterpreterError};
use super::{helpers, step};

/// A callable or a `dspy.Module` of whoever starts the job, with the context it is to be called in. It is never
/// imported, so it may be defined anywhere. Clones stand for the same object.
#[derive(Debug, Clone)]
pub struct PredictorObject(Arc<Given>);

#[derive(Debug)]
struct Given {
    target: Py<PyAny>,
    context: Py<PyAny>,
    name: String,
    /// The SPEC that finds it.
    spec: Option<String>,
    /// Where it comes from, if another process sent it.
    origin: Option<Origin>,
}

/// Where an object comes from, which a process that it was sent to could not see.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Origin {
    /// The names of its source files, each with its SHA-256.
    pub(super) sources: BTreeMap<String, String>,
    /// The text of its own function or class.
    pub(super) code: Option<String>,
}

/// What a predictor is loaded from.
#[derive(Debug)]
pub enum Target {
    /// `path/to/file.py:name`, `package.module:name` or `dspy`.
    Spec(String),
    /// An object of this process.
    Object(PredictorObject),
}

impl PredictorObject {
    /// Takes an object, and a copy of the context variables of the caller, with `dspy.settings` as they are now. All
    /// calls run in copies of these. So call it on the thread, and within the task, of whoever asks for the answers.
    ///
    /// # Errors
    ///
    /// Fails if our Python helpers do not load.
    pub fn new(target: &Bound<'_, PyAny>) -> Result<Self, InterpreterError> {
        let py = target.py();
        // Another thread may hold the interpreter's lock while it loads them.
        py.detach(|| Interpreter::find(None))?;
        let objects = helpers::module(py, "objects")?;
        let (name, context) = objects.call_method1("take", (target,))?.extract()?;
        // A name that is no UTF-8 cannot be recorded.
        let spec =
            objects.call_method1("spec", (target,)).and_then(|spec| spec.extract()).unwrap_or_default();
        Ok(Self(Arc::new(Given { target: target.clone().unbind(), context, name, spec, origin: None })))
    }

    /// Takes an object that another process sent.
    pub(super) fn sent(target: &Bound<'_, PyAny>, name: String, origin: Origin) -> PyResult<Self> {
        let taken = helpers::module(target.py(), "objects")?.call_method1("take", (target,))?;
        let (_, context): (String, _) = taken.extract()?;
        let (target, origin) = (target.clone().unbind(), Some(origin));
        Ok(Self(Arc::new(Given { target, context, name, spec: None, origin })))
    }

    /// Its name: `module:qualified.name`. In place of `__main__` it has the script's file, or `<notebook>`.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The SPEC that finds it in its file again, if it is a function at the top of one.
    pub fn spec(&self) -> Option<&str> {
        self.0.spec.as_deref()
    }

    /// The source files that it comes from: those of the user's own modules that lead to it. Empty if Python cannot tell.
    pub fn files(&self) -> Vec<PathBuf> {
        let files = Python::attach(|py| {
            let target = self.target(py);
            let source = helpers::module(py, "objects")?.call_method1("source", (target,))?;
            let loaded = helpers::module(py, "sources")?.call_method1("loaded", (source, target))?;
            loaded.extract::<Vec<(String, PathBuf)>>()
        });
        files.unwrap_or_default().into_iter().map(|(_, file)| file).collect()
    }

    /// Where it comes from, if another process sent it.
    pub(super) fn origin(&self) -> Option<&Origin> {
        self.0.origin.as_ref()
    }

    /// The object itself.
    pub(super) fn target<'py>(&self, py: Python<'py>) -> &Bound<'py, PyAny> {
        self.0.target.bind(py)
    }

    /// A copy of the context it was given in.
    pub(super) fn context<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        step::copy(self.0.context.bind(py))
    }
}

impl Target {
    /// The SPEC, or the name of the object.
    pub fn name(&self) -> &str {
        match self {
            Self::Spec(spec) => spec,
            Self::Object(object) => object.name(),
        }
    }
}
