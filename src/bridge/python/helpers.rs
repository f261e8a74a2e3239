//! Gives Python the Python files of this folder, as the package `_tokio_asyncio_bridge`.

use std::ffi::{CStr, CString};

use pyo3::prelude::*;
use pyo3::types::PyList;

use super::guest;

const NAME: &str = "_tokio_asyncio_bridge";
const PACKAGE: &CStr = c"_tokio_asyncio_bridge";
const PREDICTOR: &str = "dspy_predictor";
/// Each file comes after those that it imports.
const FILES: &[(&str, &str)] = &[
    ("touched", include_str!("touched.py")),
    ("variables", include_str!("variables.py")),
    ("traces", include_str!("traces.py")),
    ("signals", include_str!("signals.py")),
    ("printed", include_str!("printed.py")),
    ("forks", include_str!("forks.py")),
    ("reply", include_str!("reply.py")),
    ("brought", include_str!("brought.py")),
    ("failure", include_str!("failure.py")),
    ("results", include_str!("results.py")),
    ("streams", include_str!("streams.py")),
    ("threads", include_str!("threads.py")),
    ("typed", include_str!("typed.py")),
    ("loader", include_str!("loader.py")),
    ("sources", include_str!("sources.py")),
    ("objects", include_str!("objects.py")),
    ("parcel", include_str!("parcel.py")),
    ("surroundings", include_str!("surroundings.py")),
    ("metered", include_str!("metered.py")),
    ("reachable", include_str!("reachable.py")),
    ("layers", include_str!("layers.py")),
    ("warm", include_str!("warm.py")),
    ("host", include_str!("host.py")),
];

/// Makes the package. Call it once, when the interpreter has started.
pub(in crate::bridge) fn install(py: Python<'_>) -> PyResult<()> {
    let package = PyModule::from_code(py, c"", c"_tokio_asyncio_bridge/__init__.py", PACKAGE)?;
    package.setattr("__path__", PyList::empty(py))?;
    package.setattr("warn", wrap_pyfunction!(warn, py)?)?;
    package.setattr("is_guest", guest::is_guest())?;
    FILES.iter().try_for_each(|(name, code)| add(py, name, code).map(drop))?;
    if !guest::is_guest() {
        module(py, "signals")?.call_method0("keep")?;
    }
    Ok(())
}

/// Warns the user.
#[pyfunction]
fn warn(py: Python<'_>, text: &str) -> PyResult<()> {
    if guest::is_guest() {
        let logger = py.import("logging")?.call_method1("getLogger", ("tokio_asyncio_bridge",))?;
        return logger.call_method1("warning", ("%s", text)).map(drop);
    }
    tracing::warn!("{text}");
    Ok(())
}

fn add<'py>(py: Python<'py>, name: &str, code: &str) -> PyResult<Bound<'py, PyModule>> {
    let file = CString::new(format!("{NAME}/{name}.py"))?;
    let full = CString::new(format!("{NAME}.{name}"))?;
    let module = PyModule::from_code(py, &CString::new(code)?, &file, &full)?;
    py.import(NAME)?.setattr(name, &module)?;
    Ok(module)
}

/// The helper for DSPy. It is run at its first use, because importing DSPy takes a second and not every predictor needs
/// it.
pub(in crate::bridge) fn dspy(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    let is_there = py.import("sys")?.getattr("modules")?.contains(format!("{NAME}.{PREDICTOR}"))?;
    let dspy = if is_there { module(py, PREDICTOR) } else { add_dspy(py) }?;
    dspy.call_method0("prepare")?;
    Ok(dspy)
}

fn add_dspy(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    module(py, "loader")?.call_method0("require_dspy")?;
    add(py, "dspy_replies", include_str!("dspy_replies.py"))?;
    if let Err(error) = add(py, "dspy_engine", include_str!("dspy_engine.py")) {
        warn(
            py,
            &format!("this release of DSPy is run without tuning, and makes fewer calls a second: {error}"),
        )?;
        add(py, "dspy_engine", include_str!("dspy_untuned.py"))?;
    }
    add(py, "dspy_provider", include_str!("dspy_provider.py"))?;
    add(py, "dspy_meter", include_str!("dspy_meter.py"))?;
    add(py, "dspy_local", include_str!("dspy_local.py"))?;
    add(py, "dspy_prompt", include_str!("dspy_prompt.py"))?;
    add(py, PREDICTOR, include_str!("dspy_predictor.py"))
}

/// One of the files.
pub(in crate::bridge) fn module<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyModule>> {
    py.import(format!("_tokio_asyncio_bridge.{name}").as_str())
}
