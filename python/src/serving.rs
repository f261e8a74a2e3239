//! The class `Serving`: the worker that is an actor of Ray.

use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use tokio_asyncio_bridge::cli::actor::{self, Actor};

/// The most bytes that are returned at once. Ray passes replies of up to 100 kB on directly, and others through its
/// object store.
const MOST: usize = 90_000;

/// A worker in this process, which is reached by polls.
#[pyclass(frozen, module = "tokio_asyncio_bridge._native")]
pub(crate) struct Serving(Actor);

#[pymethods]
impl Serving {
    /// Starts the worker of this process. The process is killed so many seconds after the last poll.
    #[new]
    fn new(lease: f64) -> PyResult<Self> {
        let lease = Duration::try_from_secs_f64(lease).unwrap_or(Duration::MAX);
        Ok(Self(Actor::start(lease)?))
    }

    /// Takes bytes that so many precede. May be called again with the same ones.
    fn push(&self, offset: u64, data: &[u8]) {
        self.0.push(offset, data);
    }

    /// The bytes that follow the first `acknowledged`; none if there are none within so many seconds; `None` once all
    /// were acknowledged and none will follow. Polls are numbered from 1. One that is repeated has its number again.
    fn pull<'py>(
        &self,
        py: Python<'py>,
        number: u64,
        acknowledged: u64,
        seconds: f64,
    ) -> Option<Bound<'py, PyBytes>> {
        self.0.polled(number);
        let mut pulled = self.0.pull(acknowledged, MOST, Duration::ZERO);
        if pulled.as_ref().is_some_and(Vec::is_empty) {
            let wait = Duration::try_from_secs_f64(seconds).unwrap_or_default();
            // Not before, for it takes long to get the lock back where the predictor is busy.
            pulled = py.detach(|| self.0.pull(acknowledged, MOST, wait));
        }
        self.0.replied();
        pulled.map(|bytes| PyBytes::new(py, &bytes))
    }
}

/// Kills this process, with all that it has started, at once.
#[pyfunction]
pub(crate) fn die() {
    actor::die();
}

/// Kills this process, with all that it has started, so many seconds after the other end of its standard input is gone.
#[pyfunction]
pub(crate) fn end_with_coordinator(seconds: f64) -> PyResult<()> {
    let parting = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    Ok(actor::end_with_coordinator(parting)?)
}
