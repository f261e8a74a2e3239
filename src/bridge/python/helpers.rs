//! The Python files beside this one, as the package `_tokio_asyncio_bridge`.

use std::ffi::{CStr, CString};

use pyo3::prelude::*;
use pyo3::types::PyList;

const PACKAGE: &CStr = c"_tokio_asyncio_bridge";
/// In the order of their imports of each other.
const FILES: [(&str, &str); 7] = [
    ("traces", include_str!("traces.py")),
    ("failure", include_str!("failure.py")),
    ("results", include_str!("results.py")),
    ("streams", include_str!("streams.py")),
    ("threads", include_str!("threads.py")),
    ("loader", include_str!("loader.py")),
    ("host", include_str!("host.py")),
];

pub(in crate::bridge) fn install(py: Python<'_>) -> PyResult<()> {
    let package = PyModule::from_code(py, c"", c"_tokio_asyncio_bridge/__init__.py", PACKAGE)?;
    package.setattr("__path__", PyList::empty(py))?;
    for (name, code) in FILES {
        let file = CString::new(format!("_tokio_asyncio_bridge/{name}.py"))?;
        let full = CString::new(format!("_tokio_asyncio_bridge.{name}"))?;
        let module = PyModule::from_code(py, &CString::new(code)?, &file, &full)?;
        package.setattr(name, module)?;
    }
    Ok(())
}

pub(in crate::bridge) fn module<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyModule>> {
    py.import(format!("_tokio_asyncio_bridge.{name}").as_str())
}
