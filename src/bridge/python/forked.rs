//! Whether this is a process that Python forked: such a one runs none of ours. Not what it does of its own.

use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::prelude::*;

use super::helpers;

static FORKED: AtomicBool = AtomicBool::new(false);

/// Called in the child, by `forks.py`.
#[pyfunction]
pub(super) fn mark() {
    FORKED.store(true, Ordering::Relaxed);
}

/// Whether this is one.
pub(super) fn is_child() -> bool {
    FORKED.load(Ordering::Relaxed)
}

/// Ends a forked child where it comes back from the predictor's code with what that raised, if anything.
///
/// No lock may be held or taken before: a thread that is not in the child may hold it.
pub(super) fn end_if_child<'a>(py: Python<'_>, error: impl FnOnce() -> Option<&'a PyErr>) {
    if is_child() {
        let error = error().map(|error| error.clone_ref(py).into_value(py));
        let _ = helpers::module(py, "forks").and_then(|forks| forks.call_method1("end", (error,)));
        // Not reached but where Python itself fails.
        std::process::abort();
    }
}
