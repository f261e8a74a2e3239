//! A worker's event loop, as its pulses tell.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::call::Lane;

/// Pulses come every 50 ms. A worker that is silent for longer than this does not turn either: it was stopped, or the
/// machine is short of processors.
const SILENT: Duration = Duration::from_millis(250);

/// The event loop of another process.
#[derive(Debug)]
pub(super) struct RemoteLane(Mutex<Told>);

#[derive(Debug, Clone, Copy)]
struct Told {
    stalled: Duration,
    stalled_now: Duration,
    at: Instant,
}

impl Default for RemoteLane {
    fn default() -> Self {
        Self(Mutex::new(Told { stalled: Duration::ZERO, stalled_now: Duration::ZERO, at: Instant::now() }))
    }
}

impl RemoteLane {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A pulse has come.
    pub(super) fn tell(&self, stalled: Duration, stalled_now: Duration) {
        *self.told() = Told { stalled, stalled_now, at: Instant::now() };
    }

    /// How long ago the last pulse came.
    pub(super) fn silent_for(&self) -> Duration {
        self.told().at.elapsed()
    }

    /// Forgets for how long the worker was silent, because this process did not run itself.
    pub(super) fn excuse_silence(&self) {
        self.told().at = Instant::now();
    }
}

impl Lane for RemoteLane {
    fn stalled_by(&self, then: Instant) -> Duration {
        let told = *self.told();
        let since = then.saturating_duration_since(told.at);
        let goes_on = !told.stalled_now.is_zero() || since > SILENT;
        told.stalled + if goes_on { since } else { Duration::ZERO }
    }

    fn stalled_now(&self) -> Duration {
        let told = *self.told();
        let since = told.at.elapsed();
        match (told.stalled_now, since) {
            (Duration::ZERO, since) if since <= SILENT => Duration::ZERO,
            (before, since) => before + since,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_stalled_by_what_it_tells_and_by_its_silence() {
        let lane = RemoteLane::default();
        lane.tell(Duration::from_secs(3), Duration::ZERO);
        assert_eq!(
            (lane.stalled_by(Instant::now()), lane.stalled_now()),
            (Duration::from_secs(3), Duration::ZERO)
        );
        std::thread::sleep(Duration::from_millis(300));
        assert!(lane.stalled_now() >= Duration::from_millis(300));
        assert!(lane.stalled_by(Instant::now()) >= Duration::from_millis(3_300));
        lane.tell(Duration::from_secs(4), Duration::from_secs(1));
        std::thread::sleep(Duration::from_millis(20));
        assert!(lane.stalled_now() >= Duration::from_millis(1_020));
        assert!(lane.stalled_by(Instant::now()) >= Duration::from_millis(4_020));
    }
}
