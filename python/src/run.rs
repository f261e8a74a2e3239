//! The class `Run`: a job on a thread of its own, which Python waits for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio_asyncio_bridge::bridge::python::interpreter::InterpreterError;
use tokio_asyncio_bridge::job::{Control, JobError, Level, Observer, Signal, Snapshot};

use crate::errors;

/// The longest single wait.
const LONGEST: Duration = Duration::from_secs(1);
/// How long what a stopped job was doing, such as loading its predictor, may take to end.
const CLEARING: Duration = Duration::from_secs(30);
/// How often it is looked whether the job is to end at once meanwhile.
const LOOK: Duration = Duration::from_millis(100);

/// A job that runs on a thread of its own. If the object is dropped before the job's end, the job is ended at once.
#[pyclass(frozen, module = "tokio_asyncio_bridge._native")]
pub(crate) struct Run {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// The process that the thread is in.
    process: u32,
}

#[derive(Default)]
struct Shared {
    control: Control,
    hurries: AtomicBool,
    state: Mutex<Progress>,
    ended: Condvar,
}

/// What the job has told so far.
#[derive(Default)]
struct Progress {
    messages: Vec<(&'static str, String)>,
    snapshot: Option<Snapshot>,
    result: Option<Result<Value, JobError>>,
    has_ended: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, Progress> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kill(&self) {
        self.hurries.store(true, Ordering::Relaxed);
        self.control.kill(Signal::Interrupt);
    }

    /// Waits until nothing of the job runs any more, so that nothing of it is left in the process. A job that is to end
    /// at once leaves it behind.
    fn clear(&self, runtime: Runtime) {
        let (clearing, cleared) = channel::<()>();
        let clear = move || {
            runtime.shutdown_timeout(CLEARING);
            drop(clearing);
        };
        if Builder::new().name("tab-clear".to_owned()).spawn(clear).is_err() {
            return;
        }
        let mut told = false;
        while cleared.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout)
            && !self.hurries.load(Ordering::Relaxed)
        {
            if !told {
                let text = "stopping: waiting for what was being loaded or read (Ctrl-C again to stop now)";
                self.state().messages.push(("warning", text.to_owned()));
            }
            told = true;
        }
    }
}

/// Takes down what the job tells.
#[derive(Clone)]
pub(crate) struct Watch(Arc<Shared>);

impl Observer for Watch {
    fn tick(&mut self, snapshot: &Snapshot) {
        self.0.state().snapshot = Some(*snapshot);
    }

    fn message(&mut self, level: Level, text: &str) {
        let level = match level {
            Level::Note => "note",
            Level::Warning => "warning",
            Level::Error => "error",
        };
        self.0.state().messages.push((level, text.to_owned()));
    }

    fn finish(&mut self, snapshot: &Snapshot) {
        self.tick(snapshot);
    }
}

/// Tells the end of the job when dropped, also if its thread panics.
struct Ends(Arc<Shared>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.state().has_ended = true;
        self.0.ended.notify_all();
    }
}

impl Run {
    /// Starts `work` on a new thread, with a Tokio runtime of its own, an observer and a control. The value is the
    /// result.
    pub(crate) fn start(
        work: impl FnOnce(&Runtime, &mut Watch, &Control) -> Result<Value, JobError> + Send + 'static,
    ) -> PyResult<Self> {
        let shared = Arc::<Shared>::default();
        let ends = Ends(Arc::clone(&shared));
        // One thread is enough: the event loop has its own.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let thread = Builder::new().name("tab-run".to_owned()).spawn(move || {
            let shared = &ends.0;
            let result = work(&runtime, &mut Watch(Arc::clone(shared)), &shared.control);
            shared.clear(runtime);
            shared.state().result = Some(result);
        })?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)), process: std::process::id() })
    }
}

#[pymethods]
impl Run {
    /// Waits for the end, at most so many seconds, and returns whether the job has ended. In a forked process it has.
    fn wait(&self, py: Python<'_>, seconds: f64) -> bool {
        if self.is_forked() {
            return true;
        }
        let within = Duration::try_from_secs_f64(seconds).unwrap_or_default().min(LONGEST);
        py.detach(|| {
            let state = self.shared.state();
            let waited = self.shared.ended.wait_timeout_while(state, within, |state| !state.has_ended);
            waited.unwrap_or_else(PoisonError::into_inner).0.has_ended
        })
    }

    /// Asks the job to stop, as the first Ctrl-C at a terminal does.
    fn stop(&self) {
        if !self.is_forked() {
            self.shared.control.stop(Signal::Interrupt);
        }
    }

    /// Asks the job to end at once.
    fn kill(&self) {
        if !self.is_forked() {
            self.shared.kill();
        }
    }

    /// How the job stands, as JSON, or `None` before its first call. Times are in seconds.
    fn standing(&self) -> PyResult<Option<String>> {
        if self.is_forked() {
            return Ok(None);
        }
        let Some(snapshot) = self.shared.state().snapshot else { return Ok(None) };
        let mut standing =
            serde_json::to_value(snapshot).map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
        standing["done"] = snapshot.done().into();
        standing["elapsed_s"] = snapshot.elapsed.as_secs_f64().into();
        standing["eta_s"] = snapshot.eta().map(|eta| eta.as_secs_f64()).into();
        Ok(Some(standing.to_string()))
    }

    /// Takes the messages that came since the last time, each as its level (`note`, `warning`, `error`) and its text.
    fn messages(&self) -> Vec<(&'static str, String)> {
        if self.is_forked() { Vec::new() } else { std::mem::take(&mut self.shared.state().messages) }
    }

    /// Takes the result of a job that has ended, as JSON. Raises its error if it failed.
    fn result(&self, py: Python<'_>) -> PyResult<String> {
        if self.is_forked() {
            return Err(forked(py));
        }
        if !self.shared.state().has_ended {
            return Err(PyRuntimeError::new_err("the job has not ended"));
        }
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // It has nothing left to do.
        py.detach(|| thread.map(JoinHandle::join));
        match self.shared.state().result.take() {
            Some(Ok(value)) => Ok(value.to_string()),
            Some(Err(error)) => Err(errors::of_job(py, &error)),
            None => Err(errors::of_panic(py)),
        }
    }

    /// Whether this is a process that was forked meanwhile. It has neither the job's thread nor what that thread
    /// locked, so no lock is taken there. To it the job has ended and has told nothing, and its result is an error.
    pub(crate) fn is_forked(&self) -> bool {
        self.process != std::process::id()
    }
}

/// The exception of a job whose process was forked.
pub(crate) fn forked(py: Python<'_>) -> PyErr {
    errors::of_interpreter(py, &InterpreterError::Forked)
}

impl Drop for Run {
    fn drop(&mut self) {
        if !self.is_forked() && !self.shared.state().has_ended {
            self.shared.kill();
        }
    }
}
