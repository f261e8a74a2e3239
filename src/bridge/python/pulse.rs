//! The event loop's heartbeat, which tells for how long the loop did not turn, and how busy its thread is.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use rustix::time::{ClockId, clock_gettime};

use crate::call::Lane;

/// How often the loop is asked to show that it turns.
const INTERVAL: Duration = Duration::from_millis(50);
/// A longer gap between two beats is a stall. A shorter one is ordinary work, and charged to the calls.
const STALL: Duration = Duration::from_millis(250);
/// How busy the thread is, is judged over about this long at a time.
const WINDOW: Duration = Duration::from_secs(1);
/// A thread that uses more than this share of a processor is saturated.
const SATURATED: f64 = 0.9;

/// The beats of one event loop, readable on any thread. All times count from `origin`.
#[derive(Debug)]
pub struct Pulse {
    origin: Instant,
    beats: Mutex<Beats>,
    stepped: Stepped,
}

/// The row whose call is being stepped plus one, or 0. The loop's thread writes it twice for each call, so it shares no
/// cache line with what Tokio's thread uses for each call.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Stepped(AtomicU64);

/// Read and written together: whoever saw the sum of the stalls without the beat that ended the last one would count
/// that stall twice.
#[derive(Debug, Default, Clone, Copy)]
struct Beats {
    last: Duration,
    stalled: Duration,
    longest_lag: Duration,
    last_stall: Duration,
    busy: Busy,
}

/// The processor time of the loop's thread.
#[derive(Debug, Default, Clone, Copy)]
struct Busy {
    /// On the thread's clock, when it began to be counted.
    from: Duration,
    /// So far.
    time: Duration,
    /// When the present window began, and how much there was by then.
    window: (Duration, Duration),
    /// How long the windows were in which the thread was saturated.
    saturated: Duration,
}

impl Busy {
    /// Begins to count at `now`, when the thread's clock showed `clock`.
    fn since(now: Duration, clock: Duration) -> Self {
        Self { from: clock, window: (now, Duration::ZERO), ..Self::default() }
    }

    /// Takes in what the thread's clock shows now.
    fn read(&mut self, now: Duration, clock: Duration) {
        self.time = clock.saturating_sub(self.from);
        let (began, before) = self.window;
        let lasted = now.saturating_sub(began);
        if lasted >= WINDOW {
            if self.time.saturating_sub(before) > lasted.mul_f64(SATURATED) {
                self.saturated += lasted;
            }
            self.window = (now, self.time);
        }
    }
}

/// The processor time that this thread has used.
fn thread_clock() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap_or_default()
}

impl Default for Pulse {
    fn default() -> Self {
        Self { origin: Instant::now(), beats: Mutex::default(), stepped: Stepped::default() }
    }
}

impl Pulse {
    fn beats(&self) -> MutexGuard<'_, Beats> {
        self.beats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to watch. What loading the predictor took is not counted. Called on the loop's thread.
    fn start(&self) {
        let mut beats = self.beats();
        beats.last = self.origin.elapsed();
        beats.busy = Busy::since(beats.last, thread_clock());
    }

    /// Called on the loop's thread.
    fn beat(&self) {
        let mut beats = self.beats();
        let now = self.origin.elapsed();
        beats.busy.read(now, thread_clock());
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
        self.stepped.0.store(row.map_or(0, |row| row + 1), Ordering::Relaxed);
    }

    /// The row whose call is being stepped, if any.
    pub(super) fn stepped(&self) -> Option<u64> {
        self.stepped.0.load(Ordering::Relaxed).checked_sub(1)
    }

    /// The longest delay of a beat.
    pub fn longest_lag(&self) -> Duration {
        self.beats().longest_lag
    }

    /// The processor time of the loop's thread up to the last beat, and for how long the thread used more than 90 % of
    /// a processor.
    pub fn busy(&self) -> (Duration, Duration) {
        let busy = self.beats().busy;
        (busy.time, busy.saturated)
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
        pulse.start();
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
    fn a_thread_is_saturated_in_seconds_of_which_it_works_more_than_nine_tenths() {
        let mut busy = Busy::since(Duration::from_secs(5), Duration::from_secs(2));
        // How much of each tenth of a second the thread worked, for a second each.
        let (mut now, mut clock) = (Duration::from_secs(5), Duration::from_secs(2));
        for worked in [100, 95, 50, 89, 91] {
            for _ in 0..10 {
                now += Duration::from_millis(100);
                clock += Duration::from_millis(worked);
                busy.read(now, clock);
            }
        }
        // A turn of three seconds is one window.
        busy.read(now + Duration::from_secs(3), clock + Duration::from_secs(3));
        assert_eq!((busy.time.as_millis(), busy.saturated), (7_250, Duration::from_secs(6)));
    }

    #[test]
    fn a_beat_reads_the_clock_of_its_thread() {
        let pulse = Pulse::default();
        pulse.start();
        let until = Instant::now() + Duration::from_millis(30);
        while Instant::now() < until {}
        std::thread::sleep(Duration::from_millis(60));
        pulse.beat();
        let (busy, saturated) = pulse.busy();
        assert!(busy > Duration::ZERO && busy < Duration::from_millis(60), "{busy:?}");
        assert_eq!(saturated, Duration::ZERO);
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
