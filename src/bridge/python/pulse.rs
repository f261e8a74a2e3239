//! The event loop's heartbeat, which tells for how long the loop did not turn.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pyo3::prelude::*;

use crate::call::Lane;

/// How often the loop is asked to show that it turns.
const INTERVAL: Duration = Duration::from_millis(50);
/// A longer gap between two beats is a stall. A shorter one is ordinary work, and charged to the calls.
const STALL: Duration = Duration::from_millis(250);

/// The beats of one event loop, readable on any thread. All times count from `origin`.
#[derive(Debug)]
pub struct Pulse {
    origin: Instant,
    beats: Mutex<Beats>,
    /// The row whose call is being stepped plus one, or 0.
    stepped: AtomicU64,
}

/// Read and written together: whoever saw the sum of the stalls without the beat that ended the last one would count
/// that stall twice.
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

    /// The sum of the stalls that had ended by then, and how long the stall at that time had lasted.
    fn stalls_by(&self, then: Instant) -> (Duration, Duration) {
        let beats = *self.beats();
        let gap = then.saturating_duration_since(self.origin).saturating_sub(beats.last);
        (beats.stalled, if gap > STALL { gap.saturating_sub(INTERVAL) } else { Duration::ZERO })
    }

    /// The length of the last stall that has ended.
    pub fn last_stall(&self) -> Duration {
        self.beats().last_stall
    }

    /// Notes the row whose call is being stepped.
    pub(super) fn steps(&self, row: Option<u64>) {
        self.stepped.store(row.map_or(0, |row| row + 1), Ordering::Relaxed);
    }

    /// The row whose call is being stepped, if any.
    pub(super) fn stepped(&self) -> Option<u64> {
        self.stepped.load(Ordering::Relaxed).checked_sub(1)
    }

    /// The longest delay of a beat.
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

/// The callback that beats and schedules itself again.
#[pyclass(frozen)]
pub(super) struct Ticker {
    pulse: Arc<Pulse>,
    event_loop: Py<PyAny>,
}

impl Ticker {
    pub(super) fn start(event_loop: &Bound<'_, PyAny>, pulse: &Arc<Pulse>) -> PyResult<()> {
        // Do not count the time that loading the predictor took.
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
        let pulses: Vec<_> = (0..500).map(|_| Pulse { origin, ..Pulse::default() }).collect();
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
