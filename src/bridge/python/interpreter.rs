//! Starts the one embedded interpreter of this process, as a given Python executable.

use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;

pub use super::printed::{Masking, Show, tell};
use super::which::{PythonError, fitting};
pub use super::which::{choose, linked_version};
use super::{exit, forked, guest, helpers, main_thread, printed, raw};
use crate::secret::Secrets;

/// How long the registration of a file that is kept from forked processes may take.
const KEEPING: Duration = Duration::from_secs(2);

/// How long the exit functions may take at the end of a process.
const END: Duration = Duration::from_secs(3);
/// The same if an event loop has not ended: what blocks it may hold the interpreter's lock.
const END_BLOCKED: Duration = Duration::from_millis(500);

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
        /// The reason that `CPython` gave.
        reason: String,
    },
    /// Our Python helpers did not load.
    #[error("failed to load the Python side of the bridge: {0}")]
    Helpers(#[from] PyErr),
    /// This process was forked while a job was running.
    #[error("{}", forked::CUT_OFF_BY)]
    Forked,
    /// Another one runs in this process.
    #[error(
        "failed to start Python with `{}`: this process already runs `{}`\nhint: run the job with `{}`, or in another process",
        .python.display(), .running.display(), .running.display()
    )]
    Another {
        /// The executable that was asked for.
        python: PathBuf,
        /// The executable of the running interpreter.
        running: PathBuf,
    },
}

impl InterpreterError {
    /// The executable that the error is about, if it can be run at all.
    pub fn executable(&self) -> Option<&Path> {
        match self {
            Self::Python(error) => error.executable(),
            Self::Start { python, .. } | Self::Another { python, .. } => Some(python),
            Self::Helpers(_) | Self::Forked => None,
        }
    }
}

/// The running interpreter. A process has one. It is never finalized, only its exit functions are run.
///
/// Python takes the thread that started it for its main thread: see [`main_thread`].
#[derive(Debug, Clone)]
pub struct Interpreter {
    /// Its executable (`sys.executable`).
    pub executable: PathBuf,
    /// `major.minor.micro`.
    pub version: String,
    /// Whether this program started it. Otherwise this program runs inside it, as an extension module.
    pub is_embedded: bool,
}

/// Variables of the environment that a job has set.
#[derive(Debug)]
pub struct Variables(Vec<String>);

/// Why variables cannot be set.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SetError(String);

impl Drop for Variables {
    fn drop(&mut self) {
        if guest::is_guest() && !exit::has_begun() && !forked::is_cut_off() {
            let names = std::mem::take(&mut self.0);
            Python::try_attach(|py| {
                let variables = helpers::module(py, "variables");
                if let Err(error) =
                    variables.and_then(|variables| variables.call_method1("take_back", (names,)))
                {
                    tracing::warn!("failed to put the environment back: {error}");
                }
            });
        }
    }
}

/// The running interpreter, and the executables that were found to be its own.
struct Started {
    interpreter: Interpreter,
    asked: Vec<PathBuf>,
}

static STARTED: Mutex<Option<Started>> = Mutex::new(None);

impl Interpreter {
    /// Starts `CPython` as the given executable (see [`choose`]), or returns the running interpreter if it is the same.
    ///
    /// Install Tokio's signal handlers before: importing `asyncio` installs Python's own SIGINT handler if that signal
    /// still has its default one.
    ///
    /// # Errors
    ///
    /// Fails if `CPython` cannot start as this executable, or if another one runs in this process already.
    pub fn start(python: &Path) -> Result<Self, InterpreterError> {
        if raw::is_running() {
            Self::running()?;
        }
        let mut started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(started) = &mut *started {
            started.admit(python)?;
            return Ok(started.interpreter.clone());
        }
        let executable = fitting(python)?;
        let failed = |reason: String| InterpreterError::Start { python: executable.clone(), reason };
        let (ready, started_with) = sync_channel(1);
        let asked = executable.clone();
        main_thread::run(move || drop(ready.send(initialize(&asked))));
        let interpreter = started_with.recv().map_err(|_| failed("its thread ended".to_owned()))??;
        // Not so if another program has started it.
        let is_asked = interpreter.executable == executable;
        let asked = is_asked.then(|| python.to_owned()).into_iter().collect();
        let started = started.insert(Started { interpreter, asked });
        started.admit(python)?;
        Ok(started.interpreter.clone())
    }

    /// The interpreter that runs in this process already, if it is another program's or was started before; else the
    /// one that [`choose`] finds. An executable that is asked for must be that of a running one.
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub fn find(python: Option<&Path>) -> Result<Self, InterpreterError> {
        match python {
            None if raw::is_running() => Self::running(),
            None => Self::start(&choose(None)),
            Some(python) => Self::start(python),
        }
    }

    fn running() -> Result<Self, InterpreterError> {
        if forked::is_cut_off() {
            return Err(InterpreterError::Forked);
        }
        let _working = forked::Working::new();
        let mut started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(started) = &*started {
            return Ok(started.interpreter.clone());
        }
        let started = started.insert(Started { interpreter: initialize(Path::new(""))?, asked: Vec::new() });
        Ok(started.interpreter.clone())
    }

    /// Sets those variables of the environment that are not set. If another program runs the interpreter, they are set
    /// for as long as what is returned lives.
    ///
    /// # Errors
    ///
    /// Fails if another job has set one of them to another value.
    pub fn set_variables(&self, variables: Vec<(String, String)>) -> Result<Variables, SetError> {
        Python::attach(|py| {
            let names = helpers::module(py, "variables")?.call_method1("lend", (variables,))?.extract()?;
            Ok(Variables(names))
        })
        .map_err(|error: PyErr| SetError(Python::attach(|py| error.value(py).to_string())))
    }

    /// Sets variables for the rest of the process, whether or not they are set.
    ///
    /// # Errors
    ///
    /// Fails if a variable cannot have this name or value.
    #[allow(clippy::unused_self, reason = "there is one interpreter a process")]
    pub fn replace_variables(&self, variables: Vec<(String, String)>) -> Result<(), SetError> {
        let replaced = Python::attach(|py| {
            helpers::module(py, "variables")?.call_method1("replace", (variables,)).map(drop)
        });
        replaced.map_err(|error: PyErr| SetError(Python::attach(|py| error.value(py).to_string())))
    }

    /// Lets the libraries that call models log errors only. Loggers are the process's: this holds for all jobs, until a
    /// job starts while no other is alive. Call it once the predictor is loaded, for libraries set their levels at
    /// import.
    pub fn hush(&self) {
        Python::attach(|py| {
            // Libraries that cannot be hushed are no reason to stop.
            let _ = helpers::module(py, "host").and_then(|host| host.call_method0("hush"));
        });
    }

    /// Has the signals that end a job kill this process. By default the program handles them, or else Python would.
    #[allow(clippy::unused_self, reason = "there is one interpreter a process")]
    pub fn die_of_signals(&self) {
        let (done, wait) = sync_channel(1);
        main_thread::run(move || {
            let died = Python::attach(|py| helpers::module(py, "signals")?.call_method0("die").map(drop));
            let _ = done.send(died.map_err(|error| error.to_string()));
        });
        if let Ok(Err(error)) = wait.recv() {
            tracing::warn!("signals will not end the process: {error}");
        }
    }

    /// Whether another program runs the interpreter, and has not made its end the task of this one.
    #[allow(clippy::unused_self, reason = "there is one interpreter a process")]
    pub fn is_guest(&self) -> bool {
        guest::is_guest()
    }

    /// Has what Python prints from now on shown by `show` instead of written. The streams are the process's: only the
    /// first call has an effect.
    #[allow(clippy::unused_self, reason = "there is one interpreter a process")]
    pub fn show_prints_by(&self, show: Show) {
        printed::show_by(show);
    }

    /// Masks these texts in what Python prints, until the value is dropped.
    #[must_use]
    pub fn mask(&self, secrets: &Secrets) -> Masking {
        Masking::new(secrets)
    }

    /// Closes the file in processes that Python forks from now on, so that they do not hold its lock. Ends with the
    /// file: a descriptor that is closed here is forgotten.
    pub fn keep_from_children(&self, file: BorrowedFd<'_>) {
        let file = file.as_raw_fd();
        let (done, wait) = sync_channel(1);
        // On a thread of its own, because a predictor may hold the interpreter's lock.
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

    /// Runs what `CPython` would run at its exit (waits for non-daemon threads, runs `atexit`, flushes buffers). Call
    /// it at the end of the process, on any thread, any number of times: they are run once, and nothing may call into
    /// Python afterwards.
    ///
    /// Returns whether they are done, after at most `bound`. Does nothing, and returns false, while an event loop is in
    /// use that nobody has asked to end: they would end what another job stands on. Returns true if another program
    /// started the interpreter, which then ends it.
    #[allow(clippy::unused_self, reason = "there is one interpreter a process")]
    pub fn run_exit_functions(&self, bound: Duration) -> bool {
        exit::run(bound)
    }

    /// Makes a module of Python source, which can then be imported by its name.
    ///
    /// # Errors
    ///
    /// Fails with what compiling or running the source raised.
    pub fn define(&self, name: &str, source: &str) -> PyResult<()> {
        let (file, name, source) =
            (CString::new(format!("{name}.py"))?, CString::new(name)?, CString::new(source)?);
        Python::attach(|py| PyModule::from_code(py, &source, &file, &name).map(drop))
    }

    /// The versions of those of the named distributions that are installed.
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

/// The interpreter that [`Interpreter::find`] returns if it runs already, and its executable. Starts none, but checks
/// that it could.
///
/// # Errors
///
/// As [`Interpreter::start`].
pub fn located(python: Option<&Path>) -> Result<(PathBuf, Option<Interpreter>), InterpreterError> {
    if raw::is_running() {
        let interpreter = Interpreter::find(python)?;
        return Ok((interpreter.executable.clone(), Some(interpreter)));
    }
    Ok((fitting(&choose(python))?, None))
}

/// The executable of the interpreter that [`Interpreter::find`] returns, without starting one or checking that it fits.
///
/// # Errors
///
/// Fails if an interpreter runs in this process already and our Python helpers do not load.
pub fn executable(python: Option<&Path>) -> Result<PathBuf, InterpreterError> {
    match python {
        None if raw::is_running() => Ok(Interpreter::running()?.executable),
        python => Ok(choose(python)),
    }
}

/// Ends Python as [`Interpreter::run_exit_functions`] does, if it runs, in at most three seconds. For the end of a
/// process that is ours.
pub fn end() {
    exit::run(if main_thread::is_taken() { END_BLOCKED } else { END });
}

impl Started {
    /// Fails if `python` is not the running interpreter's executable.
    fn admit(&mut self, python: &Path) -> Result<(), InterpreterError> {
        if self.asked.iter().any(|asked| asked == python) {
            return Ok(());
        }
        let running = &self.interpreter.executable;
        // One that does not fit either is another all the same.
        let found = fitting(python).or_else(|error| error.executable().map(Path::to_owned).ok_or(error))?;
        if !is_same(&found, running) {
            return Err(InterpreterError::Another { python: found, running: running.clone() });
        }
        self.asked.push(python.to_owned());
        Ok(())
    }
}

/// Makes the end of the interpreter that runs in this process the task of this program, which ends the process: see
/// [`end`]. To be called before any job.
///
/// # Errors
///
/// Fails if there is none, or our Python helpers do not load.
pub fn adopt() -> Result<(), InterpreterError> {
    exit::adopt();
    Interpreter::running().map(drop)
}

/// Whether the calling thread, which must be attached, is in the process's main interpreter. No job runs in another
/// one.
pub fn is_main(_: Python<'_>) -> bool {
    raw::is_main()
}

/// Whether two paths lead to the same executable of the same environment: all environments' executables are links to
/// that which they were made with.
fn is_same(one: &Path, other: &Path) -> bool {
    let place = |path: &Path| Some((path.parent()?.canonicalize().ok()?, path.canonicalize().ok()?));
    one == other || place(one).is_some_and(|one| Some(one) == place(other))
}

/// Starts `CPython` on this thread, unless it runs already.
fn initialize(python: &Path) -> Result<Interpreter, InterpreterError> {
    let is_ours = raw::initialize(python)
        .map_err(|reason| InterpreterError::Start { python: python.to_owned(), reason })?;
    exit::has_started(is_ours);
    let interpreter = Python::attach(|py| {
        helpers::install(py)?;
        printed::cover(py)?;
        printed::let_go_at_forks(py)?;
        if guest::is_guest() {
            exit::leave_in_time(py)?;
        }
        let info = py.version_info();
        let version = format!("{}.{}.{}", info.major, info.minor, info.patch);
        let executable =
            if is_ours { python.to_owned() } else { py.import("sys")?.getattr("executable")?.extract()? };
        Ok::<_, PyErr>(Interpreter { executable, version, is_embedded: is_ours })
    })?;
    Ok(interpreter)
}
