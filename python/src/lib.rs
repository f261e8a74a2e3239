//! The extension module `tokio_asyncio_bridge._native`: Python's way to the library, without logic of its own.
#![allow(clippy::needless_pass_by_value, reason = "what Python passes is extracted into values")]

mod bar;
mod errors;
mod jobs;
mod journal;
mod outcome;
mod predictor;
mod run;
mod serving;
mod session;

// For the Rust side alone: an extension module's allocator leaves the interpreter's `malloc`, and that of other
// modules, as they are.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What Python sees.
#[pyo3::pymodule(gil_used = true)]
mod _native {
    use std::ffi::OsString;

    use pyo3::exceptions::{PyImportError, PyRuntimeError};
    use pyo3::prelude::*;
    use tokio_asyncio_bridge::bridge::python::interpreter;
    use tokio_asyncio_bridge::cli;

    #[pymodule_export]
    use crate::bar::{Bar, figures};
    #[pymodule_export]
    use crate::jobs::{compare, export, merge, process, resume, verify};
    #[pymodule_export]
    use crate::journal::{Outcomes, answer_columns, process_rows};
    #[pymodule_export]
    use crate::outcome::Outcome;
    #[pymodule_export]
    use crate::predictor::Given;
    #[pymodule_export]
    use crate::run::Run;
    #[pymodule_export]
    use crate::serving::{Serving, die, end_with_coordinator};
    #[pymodule_export]
    use crate::session::Session;

    /// The version of the program, and that of the protocol between a coordinator and its workers.
    #[pymodule_export]
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    #[pymodule_export]
    const PROTOCOL: u32 = tokio_asyncio_bridge::bridge::remote::PROTOCOL;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        if interpreter::is_main(module.py()) {
            return Ok(());
        }
        Err(PyImportError::new_err("`tokio_asyncio_bridge` cannot be used in a subinterpreter"))
    }

    /// Runs the program on the interpreter's main thread, to the end of the process. `arguments` are those that it was
    /// called with, its own name first.
    #[pyfunction]
    fn main(py: Python<'_>, arguments: Vec<OsString>) -> PyResult<()> {
        py.detach(|| {
            interpreter::adopt().map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
            cli::main(arguments)
        })
    }
}
