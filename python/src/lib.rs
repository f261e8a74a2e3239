//! The extension module `tokio_asyncio_bridge._native`.

// For the Rust side alone: an extension module's allocator leaves the interpreter's `malloc`, and that of other modules,
// as they are.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

mod journal;

/// What Python sees.
#[pyo3::pymodule(gil_used = true)]
mod _native {
    use std::ffi::OsString;

    use pyo3::exceptions::PyRuntimeError;
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::journal::answer_columns;
    use tokio_asyncio_bridge::bridge::python::interpreter;
    use tokio_asyncio_bridge::cli;

    /// Runs the program on the interpreter's main thread, to the end of the process. `arguments` are those that it was called
    /// with, its own name first.
    #[pyfunction]
    fn main(py: Python<'_>, arguments: Vec<OsString>) -> PyResult<()> {
        py.detach(|| {
            interpreter::adopt().map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
            cli::main(arguments)
        })
    }
}
