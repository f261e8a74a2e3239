//! A job in memory on a thread of its own: rows go in and outcomes come out in batches, each under one hold of the
//! interpreter's lock.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyList;

use super::MemoryJob;
pub use super::collector::Done;
use super::collector::{Collector, Ends, Pending, Shared};
use crate::bridge::python::exchange::Taken;
use crate::input::Feed;
use crate::job::background::Background;
use crate::job::error::JobError;
use crate::outcome::Tried;
use crate::policy::stop::StopReason;

/// A job in memory that runs. Its run is ended at once if this and all clones of [`Self::run`] are dropped before its
/// end.
///
/// In a process that was forked meanwhile it has ended, and nothing comes out: see [`Background`].
pub struct MemorySession<T> {
    run: Arc<Background<T>>,
    feed: Feed,
    shared: Arc<Shared>,
}

impl<T: Send + 'static> MemorySession<T> {
    /// Starts a job. With `wakes`, the descriptor becomes readable as outcomes come, and not only at the end. `ended`
    /// makes the run's result of what stopped it, if anything did.
    ///
    /// # Errors
    ///
    /// Fails if there can be no further thread or descriptor.
    pub fn start(
        job: MemoryJob,
        wakes: bool,
        ended: impl FnOnce(Option<StopReason>) -> T + Send + 'static,
    ) -> io::Result<Self> {
        let (shared, feed) = (Arc::new(Shared::new()?), job.feed.clone());
        let ends = Ends(Arc::clone(&shared));
        let run = Background::start(move |runtime, watch, control| {
            let shared = Arc::clone(&ends.0);
            let mut collector = Collector { watch: watch.clone(), shared, wakes };
            runtime.block_on(async {
                let prepared = job.prepare(&mut collector, control).await?;
                collector.shared.loaded(&prepared);
                Ok(ended(prepared.run(&mut collector, control).await))
            })
        })?;
        Ok(Self { run: Arc::new(run), feed, shared })
    }
}

impl<T> MemorySession<T> {
    /// The job's run.
    pub fn run(&self) -> &Arc<Background<T>> {
        &self.run
    }

    /// Waits until the predictor is loaded or the job has ended, at most so long. Returns whether it is loaded.
    pub fn ready(&self, within: Duration) -> bool {
        let waiting = |state: &mut Pending| state.exchange.is_none() && !state.ended;
        !self.run.is_forked() && {
            let waited = self.shared.ready.wait_timeout_while(self.shared.state(), within, waiting);
            waited.unwrap_or_else(PoisonError::into_inner).0.exchange.is_some()
        }
    }

    /// The most calls in flight, once the predictor is loaded.
    pub fn calls(&self) -> usize {
        if self.run.is_forked() { 0 } else { self.shared.state().calls }
    }

    /// Hands in rows. The predictor must be loaded. Does nothing in a process that was forked meanwhile.
    ///
    /// # Errors
    ///
    /// Fails with what Python code raises that is asked about a row, or that a signal has called. No row is handed in
    /// then.
    pub fn put(&self, rows: &Bound<'_, PyList>) -> PyResult<()> {
        if self.run.is_forked() {
            return Ok(());
        }
        let exchange = self.shared.state().exchange.clone();
        exchange.map_or(Ok(()), |exchange| exchange.put(rows, &self.feed))
    }

    /// Says that no rows follow.
    pub fn close(&self) {
        if !self.run.is_forked() {
            self.feed.close();
        }
    }

    /// Whether the run has wanted more rows than there were since this was asked last.
    pub fn was_short(&self) -> bool {
        !self.run.is_forked() && self.feed.was_short()
    }

    /// Takes the outcomes that have come since the last time, in the order in which they came, and at most so many.
    /// Needs the interpreter's lock.
    pub fn take(
        &self,
        _: Python<'_>,
        most: usize,
    ) -> impl ExactSizeIterator<Item = (Done, Option<Taken>)> + use<T> {
        let (mut done, mut taken) = (Vec::new(), Vec::new());
        if !self.run.is_forked() {
            let mut state = self.shared.state();
            if let Some(exchange) = state.exchange.clone() {
                let most = most.min(state.done.len());
                done.extend(state.done.drain(..most));
                drop(state);
                taken = exchange.take(done.iter().map(|done| (done.row, done.attempts)));
            }
        }
        done.into_iter().zip(taken)
    }

    /// Takes the rows that have no outcome out of a job that has ended, each with its number and what its calls come
    /// to. Needs the interpreter's lock.
    ///
    /// # Errors
    ///
    /// Fails in a process that was forked meanwhile.
    pub fn rest(
        &self,
        _: Python<'_>,
    ) -> Result<impl Iterator<Item = (u64, Py<PyAny>, Tried)> + use<T>, JobError> {
        self.run.refuse_forked()?;
        let mut state = self.shared.state();
        let (exchange, mut tried) = (state.exchange.clone(), std::mem::take(&mut state.tried));
        drop(state);
        let rest = exchange.map(|exchange| exchange.rest()).unwrap_or_default();
        Ok(rest.into_iter().map(move |(row, given)| (row, given, tried.remove(&row).unwrap_or_default())))
    }

    /// Makes the descriptor unreadable until something comes again.
    pub fn heard(&self) {
        // A forked process would take what is meant for its parent.
        if !self.run.is_forked() {
            self.shared.heard();
        }
    }

    /// Whether the job has ended.
    pub fn has_ended(&self) -> bool {
        self.run.is_forked() || self.shared.state().ended
    }
}

/// The descriptor that becomes readable when there are outcomes or the job has ended. Fewer than 256 outcomes wait for
/// more, a millisecond at most.
impl<T> AsFd for MemorySession<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.wake.as_fd()
    }
}

impl<T> Drop for MemorySession<T> {
    fn drop(&mut self) {
        if self.run.is_forked() {
            return;
        }
        let exchange = self.shared.state().exchange.take();
        if let Some(exchange) = exchange {
            // Python drops this, so it is attached.
            Python::try_attach(|py| exchange.clear(py));
        }
    }
}
