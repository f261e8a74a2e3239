//! An asyncio event loop on its thread: started, watched, ended in bounded time. Not the calls on it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use rustix::time::{ClockId, clock_gettime};

use super::convert::NulledCount;
use super::pulse::{Pulse, Ticker};
use super::watchdog::Watchdog;
use super::{forked, helpers, main_thread};
use crate::bridge::{Health, LaneHealth};
use crate::call::Lane as _;
use crate::secret::Secrets;

/// Which event loop to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LoopKind {
    /// uvloop where it can be imported, else asyncio's own.
    #[default]
    Auto,
    /// asyncio's own.
    Asyncio,
    /// uvloop, or an error.
    Uvloop,
}

impl LoopKind {
    fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Asyncio => "asyncio",
            Self::Uvloop => "uvloop",
        }
    }
}

/// A running event loop: on Python's main thread, where no other runs there, else on a thread of its own.
#[derive(Debug)]
pub struct EventLoop {
    handle: Arc<Py<PyAny>>,
    /// `asyncio` or `uvloop`.
    pub name: String,
    /// Its heartbeat.
    pub pulse: Arc<Pulse>,
    /// What was found to block it.
    watchdog: Arc<Watchdog>,
    ending: Arc<AtomicBool>,
    ended: Mutex<Receiver<()>>,
}

impl EventLoop {
    /// Makes the loop on its thread, runs `set_up` there (no task is running yet), then runs the loop.
    ///
    /// `secrets` are masked in what is told of it.
    ///
    /// # Errors
    ///
    /// Fails with what making the loop or `set_up` raised.
    pub fn start<T, F>(kind: LoopKind, secrets: Secrets, set_up: F) -> PyResult<(Self, T)>
    where
        T: Send + 'static,
        F: for<'py> FnOnce(&Bound<'py, PyAny>, &Arc<Pulse>) -> PyResult<T> + Send + 'static,
    {
        let pulse = Arc::<Pulse>::default();
        let ending = Arc::<AtomicBool>::default();
        let (ready_tx, ready_rx) = sync_channel::<PyResult<(Py<PyAny>, String, u64, T)>>(1);
        let (ended_tx, ended_rx) = sync_channel::<()>(1);
        let (thread_pulse, thread_ending) = (Arc::clone(&pulse), Arc::clone(&ending));
        main_thread::occupy("asyncio", ended_tx, move || {
            Python::attach(|py| {
                let made = make(py, kind).and_then(|(event_loop, name)| {
                    let value = set_up(&event_loop, &thread_pulse)?;
                    Ticker::start(&event_loop, &thread_pulse)?;
                    let id = py.import("threading")?.call_method0("get_ident")?.extract()?;
                    Ok((event_loop, name, id, value))
                });
                forked::end_if_child(py, || made.as_ref().err());
                match made {
                    Ok((event_loop, name, id, value)) => {
                        let _ = ready_tx.send(Ok((event_loop.clone().unbind(), name, id, value)));
                        run(&event_loop, &thread_ending);
                    }
                    Err(error) => drop(ready_tx.send(Err(error))),
                }
            });
        })?;
        let (handle, name, id, value) = ready_rx.recv().map_err(|_| {
            pyo3::exceptions::PyRuntimeError::new_err(
                "the event loop's thread ended while it was being set up",
            )
        })??;
        let watchdog = Watchdog::start(id, Arc::clone(&pulse), Arc::clone(&ending), secrets)?;
        Ok((
            Self { handle: Arc::new(handle), name, pulse, watchdog, ending, ended: Mutex::new(ended_rx) },
            value,
        ))
    }

    /// The loop object.
    pub fn object<'py>(&self, py: Python<'py>) -> &Bound<'py, PyAny> {
        self.handle.bind(py)
    }

    /// Whether the loop was asked to end.
    pub fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }

    /// How the loop is now, while it has so many calls, and what it has found in their answers.
    pub(in crate::bridge) fn health(&self, calls: u64, nulled: &NulledCount) -> Health {
        let lane = LaneHealth {
            stalled: self.pulse.stalled_by(Instant::now()),
            stalled_now: self.pulse.stalled_now(),
            longest_lag: self.pulse.longest_lag(),
            blockages: self.watchdog.longest(&self.pulse),
            calls,
            processor: clock_gettime(ClockId::ProcessCPUTime).try_into().unwrap_or_default(),
            memory: resident().unwrap_or_default(),
            deaths: 0,
        };
        Health { lanes: vec![lane], blocked: self.watchdog.news(), nulled: nulled.get() }
    }

    /// Stops the loop, cancels and awaits what is on it and closes it. Returns whether that ended within the bound;
    /// if not, the thread is left to die with the process.
    pub fn shut_down(&self, bound: Duration) -> bool {
        self.ending.store(true, Ordering::Release);
        let handle = Arc::clone(&self.handle);
        // On a thread of its own: whatever blocks the loop may hold the interpreter's lock.
        let stopping = std::thread::Builder::new().name("stop".into()).spawn(move || {
            Python::try_attach(|py| {
                let event_loop = handle.bind(py);
                // A loop that is closed already raises; then the thread has ended by itself.
                let _ = event_loop
                    .getattr("stop")
                    .and_then(|stop| event_loop.call_method1("call_soon_threadsafe", (stop,)));
            });
        });
        if stopping.is_err() {
            return false;
        }
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        !matches!(ended.recv_timeout(bound), Err(RecvTimeoutError::Timeout))
    }
}

/// Resident memory of this process.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.strip_suffix("kB"))?;
    Some(kilobytes.trim().parse::<u64>().ok()? * 1024)
}

fn make(py: Python<'_>, kind: LoopKind) -> PyResult<(Bound<'_, PyAny>, String)> {
    let (event_loop, name): (Bound<'_, PyAny>, String) =
        helpers::module(py, "host")?.call_method1("new_loop", (kind.name(),))?.extract()?;
    py.import("asyncio")?.call_method1("set_event_loop", (event_loop.clone(),))?;
    Ok((event_loop, name))
}

/// Runs the loop until it is asked to end: a predictor that calls `loop.stop()` stops no one else's calls.
fn run(event_loop: &Bound<'_, PyAny>, ending: &AtomicBool) {
    let py = event_loop.py();
    while !ending.load(Ordering::Acquire) {
        let ran = event_loop.call_method0("run_forever");
        forked::end_if_child(py, || ran.as_ref().err());
        if let Err(error) = ran {
            tracing::warn!("the event loop raised: {error}");
        }
        if event_loop.call_method0("is_closed").and_then(|closed| closed.extract()).unwrap_or(true) {
            return;
        }
    }
    let closed = helpers::module(py, "host").and_then(|host| host.call_method1("close", (event_loop,)));
    if let Err(error) = closed {
        tracing::warn!("failed to close the event loop: {error}");
    }
}
