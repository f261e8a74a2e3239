//! An asyncio event loop on its own thread: starts it, watches it, and ends it in bounded time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::convert::NulledCount;
use super::exit::{self, InUse};
use super::forked::Working;
use super::latch::Latch;
use super::printed::Masking;
use super::pulse::{Pulse, Ticker};
use super::watchdog::Watchdog;
use super::{forked, guest, helpers, main_thread, step};
use crate::bridge::{Health, LaneHealth};
use crate::call::Lane as _;
use crate::secret::Secrets;

/// How long a loop whose predictor could not be loaded may take to end before that is reported.
const FAILED: Duration = Duration::from_secs(2);

/// Which event loop to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum LoopKind {
    /// uvloop if it can be imported, else asyncio's own.
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

/// A running event loop. It ends by [`Self::shut_down`], or unobserved once this is dropped.
#[derive(Debug)]
pub struct EventLoop {
    handle: Arc<Py<PyAny>>,
    /// `asyncio` or `uvloop`.
    pub name: String,
    /// For how long it did not turn.
    pub pulse: Arc<Pulse>,
    watchdog: Arc<Watchdog>,
    ending: Arc<AtomicBool>,
    ended: Arc<Latch>,
    /// Until it is asked to end.
    in_use: Mutex<Option<InUse>>,
    _stay: Arc<Stay>,
}

/// What a job has in the interpreter beside its loop: secrets that are masked, directories and modules. Taken away when
/// the loop has ended and the bridge is dropped.
#[derive(Debug)]
struct Stay {
    masking: Masking,
    event_loop: OnceLock<Py<PyAny>>,
    // The last to be dropped.
    _working: Working,
}

impl Drop for Stay {
    fn drop(&mut self) {
        let Some(event_loop) = self.event_loop.take() else { return };
        let leave = move || {
            if exit::has_begun() {
                return;
            }
            Python::try_attach(|py| {
                let brought = helpers::module(py, "brought");
                if let Err(error) = brought.and_then(|brought| brought.call_method1("end", (event_loop,))) {
                    tracing::warn!("failed to take away what a job has imported: {error}");
                }
            });
        };
        if guest::is_guest() {
            // Whoever waits for the job's end finds the process as it was.
            leave();
        } else {
            // On a thread of its own, because another job may hold the interpreter's lock.
            let _ = std::thread::Builder::new().name("leave".into()).spawn(leave);
        }
    }
}

/// A loop that is ready to run: itself, its name, its thread's id in Python, and what was set up on it.
type Ready<T> = (Py<PyAny>, String, u64, T);

impl EventLoop {
    /// Makes the loop on its thread, runs `set_up` there (no task is running yet), then runs the loop. Blocks until
    /// `set_up` has returned.
    ///
    /// `secrets` are masked in what Python prints, and in what is reported of the loop.
    ///
    /// # Errors
    ///
    /// Fails with the exception that making the loop or `set_up` raised, and if Python's exit functions have begun.
    pub fn start<T, F>(kind: LoopKind, secrets: Secrets, set_up: F) -> PyResult<(Self, T)>
    where
        T: Send + 'static,
        F: for<'py> FnOnce(&Bound<'py, PyAny>, &Arc<Pulse>) -> PyResult<T> + Send + 'static,
    {
        if forked::is_cut_off() {
            return Err(PyRuntimeError::new_err(forked::CUT_OFF_BY));
        }
        let working = Working::new();
        let in_use = InUse::new()?;
        let pulse = Arc::<Pulse>::default();
        let (ending, ended) = (Arc::<AtomicBool>::default(), Arc::<Latch>::default());
        let stay = Arc::new(Stay {
            masking: Masking::new(&secrets),
            event_loop: OnceLock::new(),
            _working: working,
        });
        let (ready, made) = sync_channel(1);
        let thread = Thread {
            kind,
            pulse: Arc::clone(&pulse),
            ending: Arc::clone(&ending),
            stay: Arc::clone(&stay),
            ready,
        };
        main_thread::occupy("asyncio", Arc::clone(&ended), move || thread.run(set_up))?;
        let made = made.recv().unwrap_or_else(|_| {
            let reason = "the event loop's thread ended while it was being set up";
            Err(PyRuntimeError::new_err(reason))
        });
        if made.is_err() {
            ended.wait(FAILED);
        }
        let (handle, name, id, value) = made?;
        let watchdog = Arc::<Watchdog>::default();
        let this = Self {
            handle: Arc::new(handle),
            name,
            pulse: Arc::clone(&pulse),
            watchdog: Arc::clone(&watchdog),
            ending: Arc::clone(&ending),
            ended,
            in_use: Mutex::new(Some(in_use)),
            _stay: stay,
        };
        watchdog.start(id, pulse, ending, secrets)?;
        Ok((this, value))
    }

    /// The loop object.
    pub fn object<'py>(&self, py: Python<'py>) -> &Bound<'py, PyAny> {
        self.handle.bind(py)
    }

    /// Whether the loop was asked to end.
    pub fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }

    /// The state of the loop, which has so many calls, and what was found in their answers.
    pub(in crate::bridge) fn health(&self, calls: u64, nulled: &NulledCount) -> Health {
        let (busy, saturated) = self.pulse.busy();
        let [memory, peak_memory] = resident().unwrap_or_default();
        let lane = LaneHealth {
            stalled: self.pulse.stalled_by(Instant::now()),
            stalled_now: self.pulse.stalled_now(),
            longest_lag: self.pulse.longest_lag(),
            blockages: self.watchdog.longest(&self.pulse),
            calls,
            processor: clock_gettime(ClockId::ProcessCPUTime).try_into().unwrap_or_default(),
            busy,
            saturated,
            memory,
            peak_memory,
            ..LaneHealth::default()
        };
        Health { lanes: vec![lane], blocked: self.watchdog.news(), nulled: nulled.get() }
    }

    /// Stops the loop, cancels and awaits what is on it, and closes it. Returns whether it has ended, after at most
    /// `bound`; if it has not, its thread is left to end by itself or with the process. May be called on any thread,
    /// and again.
    pub fn shut_down(&self, bound: Duration) -> bool {
        self.ask_to_end();
        self.ended.wait(bound)
    }

    /// Asks the loop to end, without waiting for that.
    pub(in crate::bridge) fn ask_to_end(&self) {
        if self.ending.swap(true, Ordering::AcqRel) {
            return;
        }
        drop(self.in_use.lock().unwrap_or_else(PoisonError::into_inner).take());
        let handle = Arc::clone(&self.handle);
        // On a thread of its own, because whatever blocks the loop may hold the interpreter's lock.
        let _ = std::thread::Builder::new().name("stop".into()).spawn(move || {
            Python::try_attach(|py| {
                let event_loop = handle.bind(py);
                // A loop that is closed already raises. Then its thread has ended by itself.
                let _ = event_loop
                    .getattr("stop")
                    .and_then(|stop| event_loop.call_method1("call_soon_threadsafe", (stop,)));
            });
        });
    }
}

impl Drop for EventLoop {
    fn drop(&mut self) {
        self.ask_to_end();
    }
}

/// Resident memory of this process, in bytes: now, and the most so far.
fn resident() -> Option<[u64; 2]> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let of = |name| {
        let kilobytes = status.lines().find_map(|line| line.strip_prefix(name)?.strip_suffix("kB"))?;
        Some(kilobytes.trim().parse::<u64>().ok()? * 1024)
    };
    Some([of("VmRSS:")?, of("VmHWM:")?])
}

/// What the loop's thread works with.
struct Thread<T> {
    kind: LoopKind,
    pulse: Arc<Pulse>,
    ending: Arc<AtomicBool>,
    stay: Arc<Stay>,
    ready: SyncSender<PyResult<Ready<T>>>,
}

impl<T> Thread<T> {
    /// Runs the loop from its making to its end.
    fn run<F>(self, set_up: F)
    where
        F: for<'py> FnOnce(&Bound<'py, PyAny>, &Arc<Pulse>) -> PyResult<T>,
    {
        // Nobody waits any more if Python has ended.
        Python::try_attach(|py| {
            // The thread may run one loop after the other. What a predictor sets in its context is not the next one's.
            let lived = step::within_new_context(py, || self.live(py, set_up)).flatten();
            forked::end_if_child(py, || lived.as_ref().err());
            if let Err(error) = lived {
                let _ = self.ready.send(Err(error));
            }
        });
    }

    /// Fails with what raised before the loop ran.
    fn live<F>(&self, py: Python<'_>, set_up: F) -> PyResult<()>
    where
        F: for<'py> FnOnce(&Bound<'py, PyAny>, &Arc<Pulse>) -> PyResult<T>,
    {
        let host = helpers::module(py, "host")?;
        let (event_loop, name): (Bound<'_, PyAny>, String) =
            host.call_method1("new_loop", (self.kind.name(),))?.extract()?;
        let _ = self.stay.event_loop.set(event_loop.clone().unbind());
        let ready = self.set_up(&event_loop, set_up);
        forked::end_if_child(py, || ready.as_ref().err());
        let ready = ready.map(|(id, value)| (event_loop.clone().unbind(), name, id, value));
        let is_ready = ready.is_ok();
        let _ = self.ready.send(ready);
        if is_ready {
            self.turn(&event_loop);
        }
        if let Err(error) = host.call_method1("close", (&event_loop,)) {
            tracing::warn!("failed to close the event loop: {error}");
        }
        Ok(())
    }

    fn set_up<F>(&self, event_loop: &Bound<'_, PyAny>, set_up: F) -> PyResult<(u64, T)>
    where
        F: for<'py> FnOnce(&Bound<'py, PyAny>, &Arc<Pulse>) -> PyResult<T>,
    {
        let value = set_up(event_loop, &self.pulse)?;
        // The predictor's file may have read some more.
        self.stay.masking.add_environment();
        Ticker::start(event_loop, &self.pulse)?;
        let id = event_loop.py().import("threading")?.call_method0("get_ident")?.extract()?;
        Ok((id, value))
    }

    /// Runs the loop until it is asked to end: a predictor that calls `loop.stop()` ends no other calls.
    fn turn(&self, event_loop: &Bound<'_, PyAny>) {
        let py = event_loop.py();
        loop {
            let ran = event_loop.getattr("run_forever").and_then(|run| step::run(&run, ()));
            forked::end_if_child(py, || ran.as_ref().err());
            if let Err(error) = ran {
                tracing::warn!("the event loop raised: {error}");
            }
            let is_closed = event_loop.call_method0("is_closed").and_then(|closed| closed.extract());
            // Checked only now: a loop that is asked to end before it has run must take the stop here, not while it
            // closes.
            if is_closed.unwrap_or(true) || self.ending.load(Ordering::Acquire) || exit::has_begun() {
                return;
            }
        }
    }
}
