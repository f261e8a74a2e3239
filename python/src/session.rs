//! The class `Session`: a job whose rows and answers are Python objects, or are made of the values that came from other
//! processes.

use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::Path;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyList;
use serde_json::{Value, json};
use tokio_asyncio_bridge::bridge::python::crossing::received;
use tokio_asyncio_bridge::bridge::python::exchange::Taken;
use tokio_asyncio_bridge::bridge::python::garbage::GarbagePaused;
use tokio_asyncio_bridge::engine::StopReason;
use tokio_asyncio_bridge::input::Feed;
use tokio_asyncio_bridge::job::memory::MemoryJob;
use tokio_asyncio_bridge::job::memory::session::{Done, MemorySession};
use tokio_asyncio_bridge::job::spec::{WholePatch, keywords};
use tokio_asyncio_bridge::job::{Format, JobSpec, SessionOptions};

use crate::errors;
use crate::outcome::{Fault, Outcome, used};
use crate::predictor::{Given, object};
use crate::run::{Run, at_most};

/// Outcomes that are made between two looks for signals.
const LOT: usize = 256;

/// A job in memory. Its run is ended at once if both are dropped before its end.
#[pyclass(frozen, module = "tokio_asyncio_bridge._native")]
pub(crate) struct Session(MemorySession<Value>);

#[pymethods]
impl Session {
    /// Starts a job. `predictor` is an object, if the options name no SPEC. `total` is the number of its rows, or 0 if
    /// that is not known. With `wakes`, the descriptor becomes readable as outcomes come.
    #[new]
    #[pyo3(signature = (predictor, options, *, total, wakes))]
    #[allow(clippy::needless_pass_by_value, reason = "Python's lists are copied")]
    fn new(
        py: Python<'_>,
        predictor: Option<PyRef<'_, Given>>,
        options: Vec<(String, String)>,
        total: u64,
        wakes: bool,
    ) -> PyResult<Self> {
        let patch: WholePatch = keywords(&options).map_err(|error| errors::of_keyword(py, &error))?;
        let here = std::env::current_dir()?;
        let mut spec = JobSpec::new(&here, Path::new("rows"), Format::Jsonl);
        spec.lay_all(patch, &here);
        let options = SessionOptions { predictor: object(predictor), ..SessionOptions::default() };
        let job = MemoryJob { spec, options, feed: Feed::new(), total };
        let ended = |stop: Option<StopReason>| {
            let code = stop.as_ref().map_or(0, StopReason::exit_code);
            json!({ "stop": stop.map(|stop| stop.to_string()), "code": code })
        };
        Ok(Self(MemorySession::start(job, wakes, ended)?))
    }

    /// The job's run.
    #[getter]
    fn run(&self) -> Run {
        Run(Arc::clone(self.0.run()))
    }

    /// Waits until the predictor is loaded or the job has ended, at most so many seconds. Returns whether it is loaded.
    fn ready(&self, py: Python<'_>, seconds: f64) -> bool {
        py.detach(|| self.0.ready(at_most(seconds)))
    }

    /// The most calls in flight, once the predictor is loaded.
    fn calls(&self) -> usize {
        self.0.calls()
    }

    /// Hands in rows. The predictor must be loaded.
    fn put(&self, rows: &Bound<'_, PyList>) -> PyResult<()> {
        self.0.run().refuse_forked().map_err(|error| errors::of_job(rows.py(), &error))?;
        self.0.put(rows)
    }

    /// Says that no rows follow.
    fn close(&self) {
        self.0.close();
    }

    /// Whether the run has wanted more rows than there were since this was asked last.
    fn was_short(&self) -> bool {
        self.0.was_short()
    }

    /// The outcomes that have come since the last time, in the order in which they came.
    fn take<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let outcomes = PyList::empty(py);
        self.each(py, |_, outcome| outcomes.append(Py::new(py, outcome)?))?;
        Ok(outcomes)
    }

    /// Puts the outcomes that have come since the last time into a list, each at the index of its row. Rows before it
    /// whose outcomes have yet to come get `None`.
    fn place(&self, outcomes: &Bound<'_, PyList>) -> PyResult<()> {
        let py = outcomes.py();
        self.each(py, |index, outcome| {
            while outcomes.len() <= index {
                outcomes.append(py.None())?;
            }
            outcomes.set_item(index, Py::new(py, outcome)?)
        })
    }

    /// Takes the rows that have no outcome out of a job that has ended, each as an outcome whose error says so.
    fn unfinished<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let rest = self.0.rest(py).map_err(|error| errors::of_job(py, &error))?;
        let _paused = GarbagePaused::new(py)?;
        let outcomes = rest.enumerate().map(|(made, (row, given, tried))| {
            if made % LOT == LOT - 1 {
                py.check_signals()?;
            }
            Py::new(py, Outcome::unfinished(row, given, &tried))
        });
        PyList::new(py, outcomes.collect::<PyResult<Vec<_>>>()?)
    }

    /// Makes the descriptor unreadable until something comes again.
    fn heard(&self) {
        self.0.heard();
    }

    /// Whether the job has ended.
    fn has_ended(&self) -> bool {
        self.0.has_ended()
    }

    /// The descriptor that becomes readable.
    fn fileno(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Session {
    /// Passes on the outcomes that have come since the last time, each with the index of its row. Looks for signals
    /// between two lots. What a handler raises leaves the lots that follow where they are.
    fn each(&self, py: Python<'_>, mut pass: impl FnMut(usize, Outcome) -> PyResult<()>) -> PyResult<()> {
        let _paused = GarbagePaused::new(py)?;
        loop {
            let lot = self.0.take(py, LOT);
            let is_last = lot.len() < LOT;
            let mut interrupted = Ok(());
            for (done, taken) in lot {
                let Some(taken) = taken else { continue };
                let answer = done.values.as_deref().map(|values| {
                    // Python's code makes it, in which a signal may be handled. The lot is out of the job already.
                    received(py, values).or_else(|error| {
                        interrupted = Err(error);
                        received(py, values)
                    })
                });
                pass(done.row as usize, outcome(done, taken, answer.transpose()?))?;
            }
            interrupted?;
            if is_last {
                return Ok(());
            }
            py.check_signals()?;
        }
    }
}

/// An outcome with its objects. `made` is its answer if that is no object of this process.
fn outcome(done: Done, taken: Taken, made: Option<Py<PyAny>>) -> Outcome {
    let (answer, raised) = match taken.result {
        Some(Ok(answer)) => (Some(answer), None),
        Some(Err(raised)) => (None, Some(raised)),
        None => (made, None),
    };
    Outcome {
        index: done.row,
        row: taken.row,
        answer: answer.filter(|_| done.failure.is_none()),
        fault: done.failure.map(|failure| Box::new(Fault::new(*failure, raised))),
        attempts: done.attempts,
        latency: done.latency.as_secs_f64(),
        used: used(done.usage.as_deref()),
    }
}
