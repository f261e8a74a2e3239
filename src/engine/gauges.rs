//! What is going on in the engine, in numbers that anyone may read at any time. Not what was recorded.

use std::sync::atomic::{AtomicUsize, Ordering};

/// What is going on now, for reporters to read at any time.
#[derive(Debug, Default)]
pub struct Gauges {
    /// Calls handed over and not yet ended, timed out or given up.
    pub in_flight: AtomicUsize,
    /// The most there ever were at once, abandoned calls included.
    pub most_in_flight: AtomicUsize,
    /// Rows waiting for their next attempt.
    pub waiting_retry: AtomicUsize,
    /// Abandoned calls that are still running.
    pub abandoned: AtomicUsize,
}

/// Counts one thing for as long as it lives.
pub(super) struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    pub(super) fn new(gauge: &'a AtomicUsize) -> Self {
        gauge.fetch_add(1, Ordering::Relaxed);
        Self(gauge)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
