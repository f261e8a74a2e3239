//! The one embedded interpreter: which Python it is, and how it starts. Not the event loop.

use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;

pub use super::printed::Show;
use super::which::{PythonError, fitting};
pub use super::which::{choose, linked_version};
use super::{forked, helpers, main_thread, printed};

/// How long Python may take to note a file that is kept from forked processes.
const KEEPING: Duration = Duration::from_secs(2);

/// Why the interpreter did not start.
#[derive(Debug, thiserror::Error)]
pub enum InterpreterError {
    /// There is none that could be started.
    #[error(transparent)]
    Python(#[from] PythonError),
    /// `CPython` itself refused.
    #[error("failed to start Python with `{}`: {reason}", .python.display())]
    Start {
        /// The executable.
        python: PathBuf,
        /// `CPython`'s own words.
        reason: String,
    },
    /// Our Python helpers did not load.
    #[error("failed to load the Python side of the bridge: {0}")]
    Helpers(#[from] PyErr),
}

/// The running interpreter. There is one a process; it is never finalized, only its exit functions are run.
///
/// What Python takes for its main thread is the one that started it: see [`main_thread`].
#[derive(Debug, Clone)]
pub struct Interpreter {
    /// The executable it answers to (`sys.executable`).
    pub executable: PathBuf,
    /// `major.minor.micro`.
    pub version: String,
}

static STARTED: Mutex<Option<Interpreter>> = Mutex::new(None);

impl Interpreter {
    /// Lets the libraries that ask models log errors only. For once the predictor is loaded.
    pub fn hush(&self) {
        Python::attach(|py| {
            // What cannot be hushed is no reason to stop.
            let _ = helpers::module(py, "host").and_then(|host| host.call_method0("hush"));
        });
    }

    /// Starts `CPython` as the given executable (see [`choose`]), or returns the one already running.
    ///
    /// Tokio's signal handlers must have been made before: importing `asyncio` installs Python's own SIGINT handler
    /// where that signal is still at its default.
    ///
    /// # Errors
    ///
    /// Fails where CPython cannot start as this executable, or another one runs already.
    pub fn start(python: &Path) -> Result<Self, InterpreterError> {
        let mut started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = &*started {
            return Ok(running.clone());
        }
        let executable = fitting(python)?;
        let failed = |reason: String| InterpreterError::Start { python: executable.clone(), reason };
        let (ready, started_with) = sync_channel(1);
        let python = executable.clone();
        main_thread::run(move || drop(ready.send(initialize(&python))));
        let version = started_with.recv().map_err(|_| failed("its thread ended".to_owned()))??;
        Ok(started.insert(Self { executable, version }).clone())
    }

    /// Has what Python prints from now on shown by `show`, in place of its own streams. Only the first is heard.
    #[allow(clippy::unused_self, reason = "there is one interpreter a process")]
    pub fn show_prints_by(&self, show: Show) {
        printed::show_by(show);
    }

    /// Closes the file in processes that Python forks from now on, so that they do not hold its lock.
    pub fn keep_from_children(&self, file: BorrowedFd<'_>) {
        let file = file.as_raw_fd();
        let (done, wait) = sync_channel(1);
        // On a thread of its own, for a predictor may hold the interpreter's lock.
        std::thread::spawn(move || {
            let kept = Python::attach(|py| {
                helpers::module(py, "forks")?.call_method1("keep_from_children", (file,)).map(drop)
            });
            let _ = done.send(kept.map_err(|error| error.to_string()));
        });
        let kept = wait.recv_timeout(KEEPING).unwrap_or_else(|error| Err(error.to_string()));
        if let Err(error) = kept {
            tracing::warn!("forked processes will hold the journal's lock: {error}");
        }
    }

    /// Runs what `CPython` would run at its exit (non-daemon threads, `atexit`, buffered output). For the end of the
    /// process; afterwards nothing must call into Python. Returns whether it ended within the bound.
    pub fn run_exit_functions(&self, bound: Duration) -> bool {
        let (done, wait) = sync_channel(1);
        // A loop that did not end holds the main thread. What was printed is to be seen all the same.
        let on_main_thread = !main_thread::is_taken();
        let run = move || {
            run_exit_functions(on_main_thread);
            let _ = done.send(());
        };
        if on_main_thread {
            main_thread::run(run);
        } else if std::thread::Builder::new().name("exit".into()).spawn(run).is_err() {
            return false;
        }
        wait.recv_timeout(bound).is_ok()
    }

    /// Makes a module of Python source, to be imported by its name.
    ///
    /// # Errors
    ///
    /// Fails with what compiling or running the source raised.
    pub fn define(&self, name: &str, source: &str) -> PyResult<()> {
        let (file, name, source) =
            (CString::new(format!("{name}.py"))?, CString::new(name)?, CString::new(source)?);
        Python::attach(|py| PyModule::from_code(py, &source, &file, &name).map(drop))
    }

    /// The versions of the named distributions that are installed; absent ones are left out.
    pub fn package_versions(&self, names: &[&str]) -> Vec<(String, String)> {
        Python::attach(|py| {
            let Ok(metadata) = py.import("importlib.metadata") else { return Vec::new() };
            let version = |name: &&str| {
                let found = metadata.call_method1("version", (*name,)).ok()?.extract::<String>().ok()?;
                Some(((*name).to_owned(), found))
            };
            names.iter().filter_map(version).collect()
        })
    }
}

/// Starts `CPython` on this thread; returns its version.
fn initialize(python: &Path) -> Result<String, InterpreterError> {
    raw::initialize(python)
        .map_err(|reason| InterpreterError::Start { python: python.to_owned(), reason })?;
    let version = Python::attach(|py| {
        helpers::install(py)?;
        printed::let_go_at_forks(py)?;
        let info = py.version_info();
        Ok::<_, PyErr>(format!("{}.{}.{}", info.major, info.minor, info.patch))
    })?;
    Ok(version)
}

fn run_exit_functions(on_main_thread: bool) {
    Python::attach(|py| {
        let done = helpers::module(py, "host")
            .and_then(|host| host.call_method1("exit_functions", (on_main_thread,)));
        forked::end_if_child(py, || done.as_ref().err());
        if let Err(error) = done {
            tracing::warn!("Python's exit functions raised: {error}");
        }
    });
}

#[allow(unsafe_code)]
mod raw {
    //! The calls `pyo3` has no safe form of: `Python::initialize` takes its standard library from the first
    //! `python3` on the path and ignores the virtual environment; `PyConfig.executable` does not.

    use std::ffi::{CStr, CString};
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;

    use pyo3::ffi;

    fn text(status: &ffi::PyStatus) -> String {
        if status.err_msg.is_null() {
            return "no reason given".to_owned();
        }
        // SAFETY: a non-null `err_msg` is a static NUL-terminated string.
        unsafe { CStr::from_ptr(status.err_msg) }.to_string_lossy().into_owned()
    }

    /// Starts the interpreter and releases the GIL.
    pub(super) fn initialize(executable: &Path) -> Result<(), String> {
        let path = CString::new(executable.as_os_str().as_bytes()).map_err(|error| error.to_string())?;
        // SAFETY: the documented sequence of PEP 587 on a zeroed configuration that `PyConfig_InitPythonConfig`
        // fills in before anything reads it; the interpreter is not running (guarded by `STARTED`), and the GIL this
        // thread then holds is given up at once, as `Python::initialize` does.
        unsafe {
            if ffi::Py_IsInitialized() != 0 {
                return Ok(());
            }
            let mut config: ffi::PyConfig = std::mem::zeroed();
            ffi::PyConfig_InitPythonConfig(&raw mut config);
            config.install_signal_handlers = 0;
            config.parse_argv = 0;
            let target = &raw mut config.executable;
            let mut status = ffi::PyConfig_SetBytesString(&raw mut config, target, path.as_ptr());
            if ffi::PyStatus_Exception(status) == 0 {
                status = ffi::Py_InitializeFromConfig(&raw const config);
            }
            ffi::PyConfig_Clear(&raw mut config);
            if ffi::PyStatus_Exception(status) != 0 {
                return Err(text(&status));
            }
            ffi::PyEval_SaveThread();
        }
        Ok(())
    }
}
