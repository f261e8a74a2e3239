//! The bar of the command line, for the Python side to draw, and its figures as a text.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;
use tokio_asyncio_bridge::job::{LimitedBy, Snapshot, TerminalBar};

/// What `Progress` of `_progress.py` tells, as far as it does not follow from the rest.
#[derive(FromPyObject)]
pub(crate) struct Progress {
    total: u64,
    resumed: u64,
    ok: u64,
    failed: u64,
    unfinished: u64,
    in_flight: u64,
    waiting_retry: u64,
    abandoned: u64,
    cost_usd: Option<f64>,
    elapsed_s: f64,
    rows_per_s: f64,
    limited_by: Option<String>,
}

impl From<Progress> for Snapshot {
    fn from(progress: Progress) -> Self {
        let limited_by = match progress.limited_by.as_deref() {
            Some("rpm") => Some(LimitedBy::Rpm),
            Some("tpm") => Some(LimitedBy::Tpm),
            Some("server") => Some(LimitedBy::Server),
            Some("outage") => Some(LimitedBy::Outage),
            _ => None,
        };
        Self {
            total: progress.total,
            resumed: progress.resumed,
            ok: progress.ok,
            failed: progress.failed,
            unfinished: progress.unfinished,
            in_flight: progress.in_flight,
            waiting_retry: progress.waiting_retry,
            abandoned: progress.abandoned,
            cost_usd: progress.cost_usd,
            elapsed: Duration::try_from_secs_f64(progress.elapsed_s).unwrap_or_default(),
            rows_per_s: progress.rows_per_s,
            limited_by,
        }
    }
}

/// A bar on standard error, which should be a terminal.
#[pyclass(frozen, module = "tokio_asyncio_bridge._native")]
pub(crate) struct Bar(Mutex<TerminalBar>);

#[pymethods]
impl Bar {
    #[new]
    fn new() -> Self {
        Self(Mutex::new(TerminalBar::stderr()))
    }

    /// Draws how a run stands, in place of what was drawn before.
    fn show(&self, py: Python<'_>, progress: Progress) {
        self.with(py, |bar| bar.draw(&progress.into()));
    }

    /// Removes what is drawn, until the next `show`.
    fn clear(&self, py: Python<'_>) {
        self.with(py, TerminalBar::clear);
    }
}

impl Bar {
    /// Releases the interpreter's lock, for a terminal may take its time.
    fn with(&self, py: Python<'_>, use_it: impl FnOnce(&mut TerminalBar) + Send) {
        py.detach(|| use_it(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner)));
    }
}

/// The figures of a run for people, on one line.
#[pyfunction]
pub(crate) fn figures(progress: Progress) -> String {
    Snapshot::from(progress).line()
}
