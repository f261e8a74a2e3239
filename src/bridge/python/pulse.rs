//! The event loop's heartbeat: how long it did not turn. Not what held it up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pyo3::prelude::*;

/// How often the loop is asked to show that it turns.
const INTERVAL: Duration = Duration::from_millis(50);
/// A longer gap between two beats is a stall; a shorter one is ordinary work and charged as such.
const STALL: Duration = Duration::from_millis(250);

/// Beats of one event loop, readable from any thread without a lock. All times count from `origin`.
#[derive(Debug)]
pub struct Pulse {
    origin: Instant,
    last_beat_ns: AtomicU64,
    stalled_ns: AtomicU64,
    longest_lag_ns: AtomicU64,
    last_stall_ns: AtomicU64,
    /// The row whose call is being stepped, plus one; 0 for none.
    stepped: AtomicU64,
}

impl Default for Pulse {
    fn default() -> Self {
        Self {
            origin: Instant::now(),
            last_beat_ns: AtomicU64::new(0),
            stalled_ns: AtomicU64::new(0),
            longest_lag_ns: AtomicU64::new(0),
            last_stall_ns: AtomicU64::new(0),
            stepped: AtomicU64::new(0),
        }
    }
}

impl Pulse {
    fn now_ns(&self) -> u64 {
        self.origin.elapsed().as_nanos() as u64
    }

    fn beat(&self) {
        let now = self.now_ns();
        let gap = Duration::from_nanos(now.saturating_sub(self.last_beat_ns.load(Ordering::Acquire)));
        let lag = gap.saturating_sub(INTERVAL);
        self.longest_lag_ns.fetch_max(lag.as_nanos() as u64, Ordering::Relaxed);
        if gap > STALL {
            self.last_stall_ns.store(gap.as_nanos() as u64, Ordering::Release);
            self.stalled_ns.fetch_add(lag.as_nanos() as u64, Ordering::Release);
        }
        self.last_beat_ns.store(now, Ordering::Release);
    }

    /// For how long the loop has not turned now: zero unless it is stalled at this moment.
    pub fn stalled_now(&self) -> Duration {
        let gap =
            Duration::from_nanos(self.now_ns().saturating_sub(self.last_beat_ns.load(Ordering::Acquire)));
        if gap > STALL { gap.saturating_sub(INTERVAL) } else { Duration::ZERO }
    }

    /// The sum of all stalls, the present one included.
    pub fn stalled(&self) -> Duration {
        Duration::from_nanos(self.stalled_ns.load(Ordering::Acquire)) + self.stalled_now()
    }

    /// How long the last stall was that has ended.
    pub fn last_stall(&self) -> Duration {
        Duration::from_nanos(self.last_stall_ns.load(Ordering::Acquire))
    }

    /// Notes the row whose call is being stepped.
    pub(super) fn steps(&self, row: Option<u64>) {
        self.stepped.store(row.map_or(0, |row| row + 1), Ordering::Relaxed);
    }

    /// The row whose call is being stepped.
    pub(super) fn stepped(&self) -> Option<u64> {
        self.stepped.load(Ordering::Relaxed).checked_sub(1)
    }

    /// The latest that a beat came after its time.
    pub fn longest_lag(&self) -> Duration {
        Duration::from_nanos(self.longest_lag_ns.load(Ordering::Relaxed))
    }
}

/// The callback that beats and asks for its next turn.
#[pyclass(frozen)]
pub(super) struct Ticker {
    pulse: Arc<Pulse>,
    event_loop: Py<PyAny>,
}

impl Ticker {
    pub(super) fn start(event_loop: &Bound<'_, PyAny>, pulse: &Arc<Pulse>) -> PyResult<()> {
        // The time spent loading the predictor is no lag.
        pulse.last_beat_ns.store(pulse.now_ns(), Ordering::Release);
        let ticker = Self { pulse: Arc::clone(pulse), event_loop: event_loop.clone().unbind() };
        let ticker = Bound::new(event_loop.py(), ticker)?;
        event_loop.call_method1("call_soon", (ticker,))?;
        Ok(())
    }
}

#[pymethods]
impl Ticker {
    fn __call__(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        this.pulse.beat();
        this.event_loop.bind(slf.py()).call_method1("call_later", (INTERVAL.as_secs_f64(), slf))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_over_a_quarter_second_is_a_stall_and_a_shorter_one_is_not() {
        let pulse = Pulse::default();
        std::thread::sleep(Duration::from_millis(100));
        pulse.beat();
        assert_eq!(pulse.stalled(), Duration::ZERO);
        std::thread::sleep(Duration::from_millis(300));
        assert!(pulse.stalled_now() >= Duration::from_millis(250));
        pulse.beat();
        assert_eq!(pulse.stalled_now(), Duration::ZERO);
        assert!(pulse.stalled() >= Duration::from_millis(250));
    }
}
