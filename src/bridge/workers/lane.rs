//! The lanes of calls, as the engine sees them.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::call::Lane;

/// The event loop of a worker. The pool ends a worker whose loop has not turned for long enough, and its calls with it,
/// so the engine is told of no longer stall: it would give up a call that is still running.
#[derive(Debug)]
pub(super) struct WorkerLane {
    pub(super) lane: Arc<dyn Lane>,
    /// After this long, the worker is killed.
    pub(super) kill_after: Duration,
}

impl Lane for WorkerLane {
    fn stalled_by(&self, then: Instant) -> Duration {
        self.lane.stalled_by(then)
    }

    fn stalled_now(&self) -> Duration {
        self.lane.stalled_now().min(self.kill_after)
    }
}

/// What a call waits in until a worker can take it, and then that worker's lane. The wait is excused, but is no sign
/// that anything is stuck.
#[derive(Debug)]
pub(super) struct WaitingLane {
    since: Instant,
    then: OnceLock<Then>,
}

/// When a worker took the call, and for how long in all the worker's loop had not turned by then.
#[derive(Debug)]
struct Then {
    at: Instant,
    lane: Arc<dyn Lane>,
    before: Duration,
}

impl WaitingLane {
    /// The lane of a call that begins to wait now.
    pub(super) fn new() -> Self {
        Self { since: Instant::now(), then: OnceLock::new() }
    }

    /// Notes that a worker takes the call.
    pub(super) fn goes_on_in(&self, lane: Arc<dyn Lane>) {
        let at = Instant::now();
        let before = lane.stalled_by(at);
        let _ = self.then.set(Then { at, lane, before });
    }
}

impl Lane for WaitingLane {
    fn stalled_by(&self, then: Instant) -> Duration {
        let taken = self.then.get().filter(|taken| taken.at <= then);
        let waited = taken.map_or(then, |taken| taken.at).saturating_duration_since(self.since);
        waited
            + taken.map_or(Duration::ZERO, |Then { lane, before, .. }| {
                lane.stalled_by(then).saturating_sub(*before)
            })
    }

    fn stalled_now(&self) -> Duration {
        self.then.get().map_or(Duration::ZERO, |Then { lane, .. }| lane.stalled_now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A lane that has not turned for so long in all, and for so long until now.
    #[derive(Debug)]
    struct Fixed(Duration, Duration);

    impl Lane for Fixed {
        fn stalled_by(&self, _: Instant) -> Duration {
            self.0
        }

        fn stalled_now(&self) -> Duration {
            self.1
        }
    }

    const LONG: Duration = Duration::from_secs(100);

    #[test]
    fn the_engine_is_told_of_no_stall_for_which_the_pool_ends_the_worker() {
        let lane = WorkerLane { lane: Arc::new(Fixed(LONG, LONG)), kill_after: Duration::from_secs(65) };
        assert_eq!((lane.stalled_by(Instant::now()), lane.stalled_now()), (LONG, Duration::from_secs(65)));
    }

    #[test]
    fn the_wait_for_a_worker_is_excused_and_is_no_stall() {
        let lane = WaitingLane::new();
        std::thread::sleep(Duration::from_millis(30));
        assert!(lane.stalled_by(Instant::now()) >= Duration::from_millis(30));
        assert_eq!(lane.stalled_now(), Duration::ZERO);
        lane.goes_on_in(Arc::new(Fixed(LONG, Duration::from_secs(1))));
        let waited = lane.stalled_by(Instant::now());
        std::thread::sleep(Duration::from_millis(30));
        assert_eq!(lane.stalled_by(Instant::now()), waited, "the worker turns");
        assert!(waited < LONG, "what the worker did before is not the call's");
        assert_eq!(lane.stalled_now(), Duration::from_secs(1));
    }
}
