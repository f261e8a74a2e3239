//! The Python files beside this one, as the package `_tokio_asyncio_bridge`.

use std::ffi::{CStr, CString};

use pyo3::prelude::*;
use pyo3::types::PyList;

const PACKAGE: &CStr = c"_tokio_asyncio_bridge";
/// `LiteLLM` downloads its price table at import unless this is set, also where a user's own file imports it.
const INIT: &CStr = c"import os\nos.environ.setdefault('LITELLM_LOCAL_MODEL_COST_MAP', 'True')\n";
/// In the order of their imports of each other.
const FILES: [(&str, &str); 8] = [
    ("traces", include_str!("traces.py")),
    ("failure", include_str!("failure.py")),
    ("results", include_str!("results.py")),
    ("streams", include_str!("streams.py")),
    ("threads", include_str!("threads.py")),
    ("loader", include_str!("loader.py")),
    ("metered", include_str!("metered.py")),
    ("host", include_str!("host.py")),
];

/// Makes the package; once, when the interpreter has started.
pub(in crate::bridge) fn install(py: Python<'_>) -> PyResult<()> {
    let package = PyModule::from_code(py, INIT, c"_tokio_asyncio_bridge/__init__.py", PACKAGE)?;
    package.setattr("__path__", PyList::empty(py))?;
    for (name, code) in FILES {
        let file = CString::new(format!("_tokio_asyncio_bridge/{name}.py"))?;
        let full = CString::new(format!("_tokio_asyncio_bridge.{name}"))?;
        let module = PyModule::from_code(py, &CString::new(code)?, &file, &full)?;
        package.setattr(name, module)?;
    }
    Ok(())
}

/// The helper for DSPy, run at its first use: importing DSPy takes a second, and not every predictor is DSPy's.
pub(in crate::bridge) fn dspy(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    const NAME: &CStr = c"_tokio_asyncio_bridge.dspy_predictor";
    let modules = py.import("sys")?.getattr("modules")?;
    if let Ok(module) = modules.get_item(NAME) {
        Ok(module.cast_into()?)
    } else {
        module(py, "loader")?.call_method0("require_dspy")?;
        let code = CString::new(include_str!("dspy_predictor.py"))?;
        PyModule::from_code(py, &code, c"_tokio_asyncio_bridge/dspy_predictor.py", NAME)
    }
}

/// One of the files.
pub(in crate::bridge) fn module<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyModule>> {
    py.import(format!("_tokio_asyncio_bridge.{name}").as_str())
}
