//! Whether this process was forked by Python. A child that a predictor forked runs the predictor's code and none of
//! ours. Any other child may run jobs of its own, unless one was running when it was forked.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use pyo3::prelude::*;

use super::helpers;

/// What is told where a child wants to run a job and cannot.
pub(super) const CUT_OFF_BY: &str = "this process was forked while a job was running, and lacks that job's threads\nhint: fork \
     before the job starts or when it has ended, or start processes with `multiprocessing.get_context(\"spawn\")`";

static OF_PREDICTOR: AtomicBool = AtomicBool::new(false);
static CUT_OFF: AtomicBool = AtomicBool::new(false);
/// Jobs that use the interpreter, or are about to.
static WORKING: AtomicUsize = AtomicUsize::new(0);

/// A job that uses the interpreter: its threads, and the locks that they hold, would be missed in a child forked
/// meanwhile.
#[derive(Debug)]
pub(super) struct Working(());

impl Working {
    pub(super) fn new() -> Self {
        WORKING.fetch_add(1, Ordering::Relaxed);
        Self(())
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        WORKING.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether any job uses the interpreter.
pub(super) fn any_works() -> bool {
    WORKING.load(Ordering::Relaxed) > 0
}

/// Called in the child, by `forks.py`.
#[pyfunction]
pub(super) fn mark(by_predictor: bool) {
    if by_predictor {
        OF_PREDICTOR.store(true, Ordering::Relaxed);
    } else if WORKING.swap(0, Ordering::Relaxed) > 0 {
        CUT_OFF.store(true, Ordering::Relaxed);
    }
}

/// Whether this process was forked by a predictor.
pub(super) fn is_child() -> bool {
    OF_PREDICTOR.load(Ordering::Relaxed)
}

/// Whether this process was forked while a job was running, and can run none.
pub(super) fn is_cut_off() -> bool {
    CUT_OFF.load(Ordering::Relaxed) || is_child()
}

/// Ends a forked child that returns from the predictor's code, which raised `error`, if anything.
///
/// No lock may be taken before: it may be held by a thread that the child does not have.
pub(super) fn end_if_child<'a>(py: Python<'_>, error: impl FnOnce() -> Option<&'a PyErr>) {
    if is_child() {
        let error = error().map(|error| error.clone_ref(py).into_value(py));
        let _ = helpers::module(py, "forks").and_then(|forks| forks.call_method1("end", (error,)));
        // Reached only if Python itself fails.
        std::process::abort();
    }
}
