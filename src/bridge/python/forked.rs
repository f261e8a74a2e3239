//! Whether this process was forked by Python. Such a child runs the predictor's code and none of ours.

use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::prelude::*;

use super::helpers;

static FORKED: AtomicBool = AtomicBool::new(false);

/// Called in the child, by `forks.py`.
#[pyfunction]
pub(super) fn mark() {
    FORKED.store(true, Ordering::Relaxed);
}

/// Whether this process is a forked child.
pub(super) fn is_child() -> bool {
    FORKED.load(Ordering::Relaxed)
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
