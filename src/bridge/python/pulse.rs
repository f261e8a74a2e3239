//! The event loop's heartbeat: how long it did not turn. Not what held it up.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pyo3::prelude::*;

use crate::call::Lane;

/// How often the loop is asked to show that it turns.
const INTERVAL: Duration = Duration::from_millis(50);
/// A longer gap between two beats is a stall; a shorter one is ordinary work and charged as such.
const STALL: Duration = Duration::from_millis(250);

/// Beats of one event loop, readable from any thread. All times count from `origin`.
#[derive(Debug)]
pub struct Pulse {
    origin: Instant,
    beats: Mutex<Beats>,
    /// The row whose call is being stepped, plus one; 0 for none.
    stepped: AtomicU64,
}

/// Read and written as one: whoever saw a stall's sum without the beat that ended it would count the stall twice.
#[derive(Debug, Default, Clone, Copy)]
struct Beats {
    last: Duration,
    stalled: Duration,
    longest_lag: Duration,
    last_stall: Duration,
}

impl Default for Pulse {
    fn default() -> Self {
        Self { origin: Instant::now(), beats: Mutex::default(), stepped: AtomicU64::new(0) }
    }
}

impl Pulse {
    fn beats(&self) -> MutexGuard<'_, Beats> {
        self.beats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn beat(&self) {
        let mut beats = self.beats();
        let now = self.origin.elapsed();
        let gap = now.saturating_sub(beats.last);
        let lag = gap.saturating_sub(INTERVAL);
        beats.longest_lag = beats.longest_lag.max(lag);
        if gap > STALL {
            beats.last_stall = gap;
            beats.stalled += lag;
        }
        beats.last = now;
    }

    /// The sum of the stalls that had ended by then, and how long the present one lasted.
    fn stalls_by(&self, then: Instant) -> (Duration, Duration) {
        let beats = *self.beats();
        let gap = then.saturating_duration_since(self.origin).saturating_sub(beats.last);
        (beats.stalled, if gap > STALL { gap.saturating_sub(INTERVAL) } else { Duration::ZERO })
    }

    /// How long the last stall was that has ended.
    pub fn last_stall(&self) -> Duration {
        self.beats().last_stall
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
        self.beats().longest_lag
    }
}

impl Lane for Pulse {
    fn stalled_by(&self, then: Instant) -> Duration {
        let (ended, present) = self.stalls_by(then);
        ended + present
    }

    fn stalled_now(&self) -> Duration {
        self.stalls_by(Instant::now()).1
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
        pulse.beats().last = pulse.origin.elapsed();
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
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn a_gap_over_a_quarter_second_is_a_stall_and_a_shorter_one_is_not() {
        let pulse = Pulse::default();
        std::thread::sleep(Duration::from_millis(100));
        pulse.beat();
        assert_eq!(pulse.stalled_by(Instant::now()), Duration::ZERO);
        std::thread::sleep(Duration::from_millis(300));
        assert!(pulse.stalled_now() >= Duration::from_millis(250));
        pulse.beat();
        assert_eq!(pulse.stalled_now(), Duration::ZERO);
        assert!(pulse.stalled_by(Instant::now()) >= Duration::from_millis(250));
    }

    #[test]
    fn a_stall_is_never_counted_twice_by_whoever_reads_while_the_beat_ends_it() {
        let hour = Duration::from_secs(3600);
        let origin = Instant::now().checked_sub(hour).unwrap();
        let pulses: Vec<_> = (0..2000).map(|_| Pulse { origin, ..Pulse::default() }).collect();
        let watched = AtomicUsize::new(usize::MAX);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut most = Duration::ZERO;
                for (at, pulse) in pulses.iter().enumerate() {
                    watched.store(at, Ordering::Release);
                    while pulse.last_stall().is_zero() {
                        most = most.max(pulse.stalled_by(Instant::now()));
                    }
                }
                most
            });
            for (at, pulse) in pulses.iter().enumerate() {
                while watched.load(Ordering::Acquire) != at {
                    std::thread::yield_now();
                }
                pulse.beat();
            }
            assert!(reader.join().unwrap() < 2 * hour);
        });
    }
}
