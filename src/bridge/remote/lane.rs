//! A worker's event loop, as its pulses tell.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::call::Lane;

/// Pulses come every 50 ms. A worker that is silent for longer than this does not turn either: it was stopped, or the
/// machine is short of processors.
const SILENT: Duration = Duration::from_millis(250);

/// A silence that has ended may be in what the worker tells itself, but not in a pulse that was on its way before. After
/// this long it is.
const SETTLED: Duration = Duration::from_secs(1);

/// The event loop of another process.
#[derive(Debug)]
pub(super) struct RemoteLane(Mutex<Told>);

#[derive(Debug, Clone, Copy)]
struct Told {
    stalled: Duration,
    stalled_now: Duration,
    at: Instant,
    /// Silence that the worker did not tell of: this process did not run, or the worker has yet to tell.
    untold: Duration,
    /// When the last silence ended.
    heard: Option<Instant>,
}

impl Told {
    /// For how long in all the loop had not turned at `then`.
    fn stalled_by(&self, then: Instant) -> Duration {
        let since = then.saturating_duration_since(self.at);
        let goes_on = !self.stalled_now.is_zero() || since > SILENT;
        self.stalled + self.untold + if goes_on { since } else { Duration::ZERO }
    }

    /// Takes in what is told now. A silence that ends counts, once.
    fn renew(&mut self, stalled: Duration, stalled_now: Duration) {
        let now = Instant::now();
        let before = self.stalled_by(now);
        if now.duration_since(self.at) > SILENT {
            self.heard = Some(now);
        }
        if self.heard.is_some_and(|heard| now.duration_since(heard) < SETTLED) {
            self.untold = before.saturating_sub(stalled);
        }
        *self = Self { stalled, stalled_now, at: now, ..*self };
    }
}

impl Default for RemoteLane {
    fn default() -> Self {
        let (stalled, stalled_now, untold) = Default::default();
        Self(Mutex::new(Told { stalled, stalled_now, at: Instant::now(), untold, heard: None }))
    }
}

impl RemoteLane {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A pulse has come.
    pub(super) fn tell(&self, stalled: Duration, stalled_now: Duration) {
        self.told().renew(stalled, stalled_now);
    }

    /// How long ago the last pulse came.
    pub(super) fn silent_for(&self) -> Duration {
        self.told().at.elapsed()
    }

    /// Ends a silence, because this process did not run itself. It is charged to no call.
    pub(super) fn excuse_silence(&self) {
        let mut told = self.told();
        let (stalled, stalled_now) = (told.stalled, told.stalled_now);
        told.renew(stalled, stalled_now);
    }
}

impl Lane for RemoteLane {
    fn stalled_by(&self, then: Instant) -> Duration {
        self.told().stalled_by(then)
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

    #[test]
    fn a_silence_that_ended_counts_once_whether_or_not_the_worker_tells_of_it() {
        let lane = RemoteLane::default();
        std::thread::sleep(Duration::from_millis(300));
        // A pulse that was on its way before.
        lane.tell(Duration::ZERO, Duration::ZERO);
        let silent = lane.stalled_by(Instant::now());
        assert!(silent >= Duration::from_millis(300));
        lane.tell(Duration::from_millis(290), Duration::ZERO);
        assert_eq!(lane.stalled_by(Instant::now()), silent);
        std::thread::sleep(Duration::from_millis(300));
        lane.excuse_silence();
        assert!(lane.silent_for() < Duration::from_millis(250));
        assert!(lane.stalled_by(Instant::now()) >= silent + Duration::from_millis(300));
    }
}
