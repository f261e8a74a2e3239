//! The end of Python. It belongs to the process: exit functions run once, when no job uses the interpreter any more.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;
use std::time::{Duration, Instant};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use super::latch::Latch;
use super::{forked, guest, helpers, main_thread, printed};

/// How long jobs may take to end when the interpreter does that another program runs, and how often that is looked at.
const LEAVE: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(5);

#[derive(Debug)]
struct Lifecycle {
    /// Event loops that nobody has asked to end.
    in_use: usize,
    exit: Exit,
}

#[derive(Debug)]
enum Exit {
    /// The interpreter has not been started.
    NotStarted,
    /// The exit functions have not been run.
    Ahead,
    /// Another program started the interpreter in this process, and will end it.
    NotOurs,
    /// The exit functions run, or have run; the latch opens when they are done.
    Begun(Arc<Latch>),
}

static STATE: Mutex<Lifecycle> = Mutex::new(Lifecycle { in_use: 0, exit: Exit::NotStarted });

fn state() -> MutexGuard<'static, Lifecycle> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps the exit functions from being run for as long as it lives.
#[derive(Debug)]
pub(super) struct InUse(());

impl InUse {
    /// Fails once the exit functions have begun.
    pub(super) fn new() -> PyResult<Self> {
        let mut state = state();
        if matches!(state.exit, Exit::Begun(_)) {
            return Err(PyRuntimeError::new_err("Python has ended in this process"));
        }
        state.in_use += 1;
        Ok(Self(()))
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        state().in_use -= 1;
    }
}

/// Notes that the interpreter has been started, by this program or by another one in this process.
pub(super) fn has_started(is_ours: bool) {
    let mut state = state();
    if is_ours {
        state.exit = Exit::Ahead;
    } else if matches!(state.exit, Exit::NotStarted) {
        state.exit = Exit::NotOurs;
        guest::enter();
    }
}

/// Notes that the end of an interpreter which runs already is this program's task. To be called before any job.
pub(super) fn adopt() {
    state().exit = Exit::Ahead;
}

/// Has all jobs end before the interpreter that another program runs. A thread that is still in Python then never
/// returns.
pub(super) fn leave_in_time(py: Python<'_>) -> PyResult<()> {
    py.import("atexit")?.call_method1("register", (wrap_pyfunction!(leave, py)?,)).map(drop)
}

#[pyfunction]
fn leave(py: Python<'_>) -> PyResult<()> {
    if forked::is_child() {
        return Ok(());
    }
    let over = Arc::<Latch>::default();
    over.open();
    state().exit = Exit::Begun(over);
    helpers::module(py, "host")?.call_method0("stop_loops")?;
    py.detach(|| {
        let begun = Instant::now();
        while forked::any_works() && begun.elapsed() < LEAVE {
            std::thread::sleep(LOOK);
        }
    });
    Ok(())
}

/// Whether the exit functions have begun; nothing may call into Python afterwards.
pub(super) fn has_begun() -> bool {
    matches!(state().exit, Exit::Begun(_))
}

/// Runs the exit functions unless they have been run or a job still uses the interpreter. Returns whether they are
/// done, after at most `bound`.
pub(super) fn run(bound: Duration) -> bool {
    let mut state = state();
    let latch = match &state.exit {
        Exit::NotStarted | Exit::NotOurs => return true,
        Exit::Begun(latch) => Arc::clone(latch),
        Exit::Ahead if state.in_use > 0 => return false,
        Exit::Ahead => {
            let latch = Arc::<Latch>::default();
            state.exit = Exit::Begun(Arc::clone(&latch));
            begin(Arc::clone(&latch));
            latch
        }
    };
    drop(state);
    latch.wait(bound)
}

fn begin(latch: Arc<Latch>) {
    // An event loop that did not end holds the main thread. What was printed is to be seen all the same.
    let on_main_thread = !main_thread::is_taken();
    // The jobs' secrets were taken away with the jobs, but their exit functions have yet to print.
    printed::mask_ended_jobs();
    let run = move || {
        run_on_this_thread(on_main_thread);
        latch.open();
    };
    if on_main_thread {
        main_thread::run(run);
    } else {
        // Where no thread can be started, whoever waits learns that the exit functions did not end.
        let _ = Builder::new().name("exit".into()).spawn(run);
    }
}

fn run_on_this_thread(is_main: bool) {
    Python::attach(|py| {
        let done =
            helpers::module(py, "host").and_then(|host| host.call_method1("exit_functions", (is_main,)));
        forked::end_if_child(py, || done.as_ref().err());
        if let Err(error) = done {
            tracing::warn!("Python's exit functions raised: {error}");
        }
    });
}
