//! What the engine is doing at the moment, in numbers.

use std::sync::atomic::{AtomicUsize, Ordering};

/// What is going on now. Anyone may read it at any time.
#[derive(Debug, Default)]
pub struct Gauges {
    /// Calls in flight: handed over, and neither ended nor abandoned.
    pub in_flight: AtomicUsize,
    /// The most calls that ever ran at once, abandoned ones included.
    pub most_in_flight: AtomicUsize,
    /// Rows that wait out the backoff before their next attempt.
    pub waiting_retry: AtomicUsize,
    /// Abandoned calls that are still running.
    pub abandoned: AtomicUsize,
}

/// Adds one to a gauge for as long as it lives.
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
