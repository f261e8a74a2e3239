//! Gives Python the Python files of this folder, as the package `_tokio_asyncio_bridge`.

use std::ffi::CStr;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use super::guest;

const NAME: &str = "_tokio_asyncio_bridge";
const PACKAGE: &CStr = c"_tokio_asyncio_bridge";
const PREDICTOR: &str = "dspy_predictor";

/// One of the files.
struct File {
    name: &'static str,
    source: &'static str,
    /// The file as the Python of the build compiled it, in the format of a `.pyc` file. Empty if it did not.
    compiled: &'static [u8],
}

/// Length of the head of a `.pyc` file. It begins with the magic number of the Python that can run it.
const PYC_HEAD: usize = 16;

macro_rules! file {
    ($name:literal) => {
        File {
            name: $name,
            source: include_str!(concat!($name, ".py")),
            compiled: include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".pyc")),
        }
    };
}

/// Each file comes after those that it imports.
const FILES: &[File] = &[
    file!("touched"),
    file!("variables"),
    file!("traces"),
    file!("signals"),
    file!("printed"),
    file!("forks"),
    file!("reply"),
    file!("brought"),
    file!("failure"),
    file!("results"),
    file!("streams"),
    file!("threads"),
    file!("typed"),
    file!("loader"),
    file!("sources"),
    file!("objects"),
    file!("parcel"),
    file!("surroundings"),
    file!("metered"),
    file!("reachable"),
    file!("layers"),
    file!("warm"),
    file!("host"),
];

/// Makes the package. Call it once, when the interpreter has started.
pub(in crate::bridge) fn install(py: Python<'_>) -> PyResult<()> {
    let package = PyModule::from_code(py, c"", c"_tokio_asyncio_bridge/__init__.py", PACKAGE)?;
    package.setattr("__path__", PyList::empty(py))?;
    package.setattr("warn", wrap_pyfunction!(warn, py)?)?;
    package.setattr("is_guest", guest::is_guest())?;
    FILES.iter().try_for_each(|file| add(py, file.name, file).map(drop))?;
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

/// Runs a file as the module of that name.
fn add<'py>(py: Python<'py>, name: &str, file: &File) -> PyResult<Bound<'py, PyModule>> {
    let full = format!("{NAME}.{name}");
    let path = format!("{NAME}/{name}.py");
    let module = PyModule::new(py, &full)?;
    module.setattr("__file__", &path)?;
    let modules = py.import("sys")?.getattr("modules")?;
    modules.set_item(&full, &module)?;
    let run = |code| py.import("builtins")?.call_method1("exec", (code, module.dict()));
    if let Err(error) = file.code(py, &path).and_then(run) {
        modules.del_item(full)?;
        return Err(error);
    }
    py.import(NAME)?.setattr(name, &module)?;
    Ok(module)
}

impl File {
    /// The file's code, compiled now unless it was compiled for this Python.
    fn code<'py>(&self, py: Python<'py>, path: &str) -> PyResult<Bound<'py, PyAny>> {
        let magic: Vec<u8> = py.import("importlib.util")?.getattr("MAGIC_NUMBER")?.extract()?;
        if self.compiled.starts_with(&magic) {
            let code = PyBytes::new(py, &self.compiled[PYC_HEAD..]);
            return py.import("marshal")?.call_method1("loads", (code,));
        }
        py.import("builtins")?.call_method1("compile", (self.source, path, "exec"))
    }
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
    add(py, "dspy_replies", &file!("dspy_replies"))?;
    if let Err(error) = add(py, "dspy_engine", &file!("dspy_engine")) {
        warn(
            py,
            &format!("this release of DSPy is run without tuning, and makes fewer calls a second: {error}"),
        )?;
        add(py, "dspy_engine", &file!("dspy_untuned"))?;
    }
    add(py, "dspy_provider", &file!("dspy_provider"))?;
    add(py, "dspy_meter", &file!("dspy_meter"))?;
    add(py, "dspy_local", &file!("dspy_local"))?;
    add(py, "dspy_prompt", &file!("dspy_prompt"))?;
    add(py, PREDICTOR, &file!("dspy_predictor"))
}

/// One of the files.
pub(in crate::bridge) fn module<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyModule>> {
    py.import(format!("_tokio_asyncio_bridge.{name}").as_str())
}

#[cfg(test)]
mod tests {
    use super::super::interpreter::{self, Interpreter};
    use super::*;

    #[test]
    fn files_are_compiled_by_the_build_and_else_from_their_source() {
        Interpreter::start(&interpreter::choose(None)).unwrap();
        Python::attach(|py| {
            let magic: Vec<u8> =
                py.import("importlib.util").unwrap().getattr("MAGIC_NUMBER").unwrap().extract().unwrap();
            assert!(FILES.iter().all(|file| file.compiled.starts_with(&magic)));
            let file = File { name: "another", source: "answer = 42", compiled: b"of another Python" };
            let module = add(py, file.name, &file).unwrap();
            assert_eq!(module.getattr("answer").unwrap().extract::<u8>().unwrap(), 42);
        });
    }
}
