//! The class `Session`: a job whose rows and answers are Python objects, or are made of the values that came from other
//! processes. Rows go in and outcomes come out in batches, each under one hold of the interpreter's lock.

use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyList;
use rustix::event::{EventfdFlags, eventfd};
use serde_json::json;
use tokio_asyncio_bridge::bridge::python::crossing::received;
use tokio_asyncio_bridge::bridge::python::exchange::{Exchange, Taken};
use tokio_asyncio_bridge::engine::StopReason;
use tokio_asyncio_bridge::error::Failure;
use tokio_asyncio_bridge::input::Feed;
use tokio_asyncio_bridge::job::memory::{MemoryJob, PreparedMemory};
use tokio_asyncio_bridge::job::spec::{WholePatch, keywords};
use tokio_asyncio_bridge::job::{
    Event, Format, JobError, JobSpec, Level, Observer, SessionOptions, Snapshot,
};
use tokio_asyncio_bridge::outcome::{self, Answer, Tried};
use tokio_asyncio_bridge::usage::Usage;

use crate::errors;
use crate::outcome::{Fault, Outcome, used};
use crate::predictor::{Given, object};
use crate::run::{Run, Watch, forked};

/// The number of outcomes that wakes whoever waits for them at once.
const LOT: usize = 256;
/// How long fewer outcomes wait for more: each wake makes two threads contend for the interpreter's lock.
const LATER: Duration = Duration::from_millis(1);

/// A job in memory. Its run is ended at once if both are dropped before its end.
#[pyclass(frozen, module = "tokio_asyncio_bridge._native")]
pub(crate) struct Session {
    run: Py<Run>,
    feed: Feed,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<Pending>,
    /// The predictor is loaded, or the job has ended.
    ready: Condvar,
    /// Readable when there are outcomes, or the job has ended.
    wake: OwnedFd,
}

#[derive(Default)]
struct Pending {
    exchange: Option<Arc<Exchange>>,
    calls: usize,
    done: Vec<Done>,
    /// Rows that were called and have no outcome yet.
    tried: HashMap<u64, Tried>,
    ended: bool,
}

/// A row's outcome without its objects.
struct Done {
    row: u64,
    attempts: u32,
    latency: Duration,
    usage: Option<Box<Usage>>,
    failure: Option<Box<Failure>>,
    /// What answers the row, where that is no object of this process.
    values: Option<Box<Answer>>,
}

impl Done {
    /// `gives_values` says whether its answer is no object of this process.
    fn of(outcome: &outcome::Outcome, gives_values: bool) -> Self {
        let answer = outcome.result.as_ref().ok().filter(|_| gives_values);
        Self {
            values: answer.map(|answer| Box::new(answer.clone())),
            row: outcome.row,
            attempts: outcome.attempts,
            latency: outcome.timing.latency,
            usage: outcome.usage().map(Box::new),
            failure: outcome.failure().cloned().map(Box::new),
        }
    }

    /// The outcome with its objects.
    fn with(self, py: Python<'_>, taken: Taken) -> PyResult<Outcome> {
        let (answer, raised) = match taken.result {
            Some(Ok(answer)) => (Some(answer), None),
            Some(Err(raised)) => (None, Some(raised)),
            None => (self.values.map(|values| received(py, &values)).transpose()?, None),
        };
        Ok(Outcome {
            index: self.row,
            row: taken.row,
            answer: answer.filter(|_| self.failure.is_none()),
            fault: self.failure.map(|failure| Box::new(Fault::new(*failure, raised))),
            attempts: self.attempts,
            latency: self.latency.as_secs_f64(),
            used: used(self.usage.as_deref()),
        })
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, Pending> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the predictor is loaded.
    fn loaded(&self, prepared: &PreparedMemory) {
        let mut state = self.state();
        (state.exchange, state.calls) = (Some(Arc::clone(prepared.exchange())), prepared.calls());
        drop(state);
        self.ready.notify_all();
        self.wake();
    }

    fn wake(&self) {
        // This fails only if the counter is full, and then whoever waits is awake.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }
}

/// Takes down the outcomes, and what the job tells.
struct Collector {
    watch: Watch,
    shared: Arc<Shared>,
    /// Whether somebody waits for single outcomes.
    wakes: bool,
}

impl Observer for Collector {
    fn event(&mut self, event: &Event) {
        let mut state = self.shared.state();
        let outcome = match event {
            Event::Finished { outcome, .. } => outcome,
            Event::Retrying { attempt, .. } | Event::Unfinished { last: Some(attempt), .. } => {
                return state.tried.entry(attempt.row).or_default().add(attempt);
            }
            _ => return,
        };
        state.tried.remove(&outcome.row);
        let gives_values = state.exchange.as_ref().is_some_and(|exchange| exchange.gives_values());
        state.done.push(Done::of(outcome, gives_values));
        let waiting = state.done.len();
        drop(state);
        if self.wakes && waiting == LOT {
            self.shared.wake();
        } else if self.wakes && waiting == 1 {
            let shared = Arc::clone(&self.shared);
            tokio::spawn(async move {
                tokio::time::sleep(LATER).await;
                shared.wake();
            });
        }
    }

    fn tick(&mut self, snapshot: &Snapshot) {
        self.watch.tick(snapshot);
    }

    fn message(&mut self, level: Level, text: &str) {
        self.watch.message(level, text);
    }

    fn finish(&mut self, snapshot: &Snapshot) {
        self.watch.finish(snapshot);
    }
}

/// Tells the end of the job when dropped, also if its thread panics.
struct Ends(Arc<Shared>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.state().ended = true;
        self.0.ready.notify_all();
        self.0.wake();
    }
}

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
        let wake =
            eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).map_err(std::io::Error::from)?;
        let shared = Arc::new(Shared { state: Mutex::default(), ready: Condvar::new(), wake });
        let feed = Feed::new();
        let job = MemoryJob { spec, options, feed: feed.clone(), total };
        let ends = Ends(Arc::clone(&shared));
        let run = Run::start(move |runtime, watch, control| {
            let shared = Arc::clone(&ends.0);
            let mut collector = Collector { watch: watch.clone(), shared, wakes };
            let stop = runtime.block_on(async {
                let prepared = job.prepare(&mut collector, control).await?;
                collector.shared.loaded(&prepared);
                Ok::<_, JobError>(prepared.run(&mut collector, control).await)
            })?;
            let code = stop.as_ref().map_or(0, StopReason::exit_code);
            Ok(json!({ "stop": stop.map(|stop| stop.to_string()), "code": code }))
        })?;
        Ok(Self { run: Py::new(py, run)?, feed, shared })
    }

    /// The job's run.
    #[getter]
    fn run(&self, py: Python<'_>) -> Py<Run> {
        self.run.clone_ref(py)
    }

    /// Waits until the predictor is loaded or the job has ended, at most so many seconds. Returns whether it is loaded.
    fn ready(&self, py: Python<'_>, seconds: f64) -> bool {
        if self.is_forked() {
            return false;
        }
        let within = Duration::try_from_secs_f64(seconds).unwrap_or_default();
        py.detach(|| {
            let state = self.shared.state();
            let waiting = |state: &mut Pending| state.exchange.is_none() && !state.ended;
            let waited = self.shared.ready.wait_timeout_while(state, within, waiting);
            waited.unwrap_or_else(PoisonError::into_inner).0.exchange.is_some()
        })
    }

    /// The most calls in flight, once the predictor is loaded.
    fn calls(&self) -> usize {
        if self.is_forked() { 0 } else { self.shared.state().calls }
    }

    /// Hands in rows. The predictor must be loaded.
    fn put(&self, rows: &Bound<'_, PyList>) -> PyResult<()> {
        if self.is_forked() {
            return Err(forked(rows.py()));
        }
        let exchange = self.shared.state().exchange.clone();
        exchange.map_or(Ok(()), |exchange| exchange.put(rows, &self.feed))
    }

    /// Says that no rows follow.
    fn close(&self) {
        if !self.is_forked() {
            self.feed.close();
        }
    }

    /// Whether the run has wanted more rows than there were since this was asked last.
    fn was_short(&self) -> bool {
        !self.is_forked() && self.feed.was_short()
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
        if self.is_forked() {
            return Err(forked(py));
        }
        let mut state = self.shared.state();
        let (exchange, mut tried) = (state.exchange.clone(), std::mem::take(&mut state.tried));
        drop(state);
        let rest = exchange.map(|exchange| exchange.rest()).unwrap_or_default();
        let outcomes = rest.into_iter().map(|(row, given)| {
            let tried = tried.remove(&row).unwrap_or_default();
            Py::new(py, Outcome::unfinished(row, given, &tried))
        });
        PyList::new(py, outcomes.collect::<PyResult<Vec<_>>>()?)
    }

    /// Makes the descriptor unreadable until something comes again.
    fn heard(&self) {
        // A forked process would take what is meant for its parent.
        if !self.is_forked() {
            // There is nothing to read if it is so already.
            let _ = rustix::io::read(&self.shared.wake, &mut [0; 8]);
        }
    }

    /// Whether the job has ended.
    fn has_ended(&self) -> bool {
        self.is_forked() || self.shared.state().ended
    }

    /// The descriptor that becomes readable.
    fn fileno(&self) -> RawFd {
        self.shared.wake.as_raw_fd()
    }
}

impl Session {
    fn is_forked(&self) -> bool {
        self.run.get().is_forked()
    }

    /// Passes on the outcomes that have come since the last time, each with the index of its row.
    fn each(&self, py: Python<'_>, mut pass: impl FnMut(usize, Outcome) -> PyResult<()>) -> PyResult<()> {
        if self.is_forked() {
            return Ok(());
        }
        let mut state = self.shared.state();
        let done = std::mem::take(&mut state.done);
        let exchange = state.exchange.clone();
        drop(state);
        let Some(exchange) = exchange else { return Ok(()) };
        let taken = exchange.take(done.iter().map(|done| (done.row, done.attempts)));
        let _paused = GarbagePaused::new(py)?;
        for (done, taken) in done.into_iter().zip(taken) {
            let Some(taken) = taken else { continue };
            pass(done.row as usize, done.with(py, taken)?)?;
        }
        Ok(())
    }
}

/// Keeps Python's garbage collector from running while it lives. Objects that are made by the thousand would have it
/// look through all of them again and again. The interpreter's lock is held all that time, so nobody can notice.
struct GarbagePaused<'py>(Option<Bound<'py, PyModule>>);

impl<'py> GarbagePaused<'py> {
    fn new(py: Python<'py>) -> PyResult<Self> {
        let gc = py.import("gc")?;
        if !gc.call_method0("isenabled")?.is_truthy()? {
            return Ok(Self(None));
        }
        gc.call_method0("disable")?;
        Ok(Self(Some(gc)))
    }
}

impl Drop for GarbagePaused<'_> {
    fn drop(&mut self) {
        // It has no reason to fail.
        let _ = self.0.as_ref().map(|gc| gc.call_method0("enable"));
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.is_forked() {
            return;
        }
        let exchange = self.shared.state().exchange.take();
        if let Some(exchange) = exchange {
            // Python drops this, so it is attached.
            Python::try_attach(|py| exchange.clear(py));
        }
    }
}
