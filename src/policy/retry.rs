//! Which failed attempt is tried again, and after how long. Not the waiting itself.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

use crate::error::{CallError, FailureKind};

/// Exponential backoff with full jitter: the wait before retry n is uniform in [0, min(cap, base * 2^n)].
///
/// The formula is "Full Jitter" of Marc Brooker, *Exponential Backoff And Jitter*, AWS Architecture Blog, 2015.
#[derive(Debug, Clone, Copy)]
pub struct RetryPolicy {
    /// Retries a row may use up; throttled attempts do not count.
    pub retries: u32,
    /// The first wait's upper bound.
    pub base: Duration,
    /// Every wait's upper bound, a server's Retry-After included.
    pub cap: Duration,
}

/// After so many failures that were put down to an outage a row answers for itself: it may be what breaks the server.
const MOST_EXCUSED: u32 = 20;

/// One row's retries.
#[derive(Debug)]
pub struct Schedule {
    left: u32,
    excused: u32,
    /// One doubtful failure was tried again.
    doubted: bool,
    cap: Duration,
    ceilings: ExponentialBackoff,
    rng: fastrand::Rng,
}

impl RetryPolicy {
    /// A fresh schedule; waits are random, from the given generator.
    pub fn schedule(&self, rng: fastrand::Rng) -> Schedule {
        let ceilings = ExponentialBuilder::new()
            .with_min_delay(self.base)
            .with_max_delay(self.cap)
            .with_factor(2.0)
            .without_max_times()
            .build();
        Schedule { left: self.retries, excused: 0, doubted: false, cap: self.cap, ceilings, rng }
    }
}

impl Schedule {
    /// How long to wait before the next attempt; `None` where there must be none. In an outage the row is not at fault
    /// and only waits its turn.
    pub fn after(&mut self, error: &CallError, outage: bool) -> Option<Duration> {
        match (error.kind(), error.retry_after()) {
            (FailureKind::Permanent | FailureKind::Forbidden | FailureKind::Fatal, _) => return None,
            (FailureKind::Doubtful, _) if std::mem::replace(&mut self.doubted, true) => return None,
            // After a storm they come back one by one (see `policy::pace`): no jitter is needed.
            (FailureKind::Throttled, Some(asked)) => return Some(asked.min(self.cap)),
            (FailureKind::Throttled, None) => {}
            // The outage itself has an end, where nothing but timeouts tells of it (see `policy::breaker`); rows that have
            // not been asked go first meanwhile.
            (FailureKind::Transient, _) if outage && error.is_timeout() => {}
            (FailureKind::Unavailable, _) if outage && self.excused < MOST_EXCUSED => {
                self.excused += 1;
                return Some(Duration::ZERO);
            }
            (FailureKind::Transient | FailureKind::Doubtful | FailureKind::Unavailable, _) => {
                self.left = self.left.checked_sub(1)?;
            }
        }
        let ceiling = self.ceilings.next().unwrap_or(self.cap).min(self.cap);
        let jittered = ceiling.mul_f64(self.rng.f64());
        // Retry-After is a floor; the jitter on top keeps the rows from coming back all at once.
        Some(error.retry_after().map_or(jittered, |asked| (asked + jittered).min(self.cap)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Failure;

    fn predictor(kind: FailureKind, retry_after: Option<Duration>) -> CallError {
        CallError::Predictor(Box::new(Failure { retry_after, ..Failure::new("Boom", kind, "") }))
    }

    fn policy() -> RetryPolicy {
        RetryPolicy { retries: 3, base: Duration::from_secs(1), cap: Duration::from_secs(60) }
    }

    #[test]
    fn a_transient_failure_is_retried_as_often_as_allowed() {
        let mut schedule = policy().schedule(fastrand::Rng::with_seed(1));
        let error = predictor(FailureKind::Transient, None);
        let waits: Vec<_> = std::iter::from_fn(|| schedule.after(&error, false)).collect();
        assert_eq!(waits.len(), 3);
        assert!(
            waits[0] <= Duration::from_secs(1)
                && waits[1] <= Duration::from_secs(2)
                && waits[2] <= Duration::from_secs(4)
        );
    }

    #[test]
    fn permanent_and_fatal_failures_and_wrong_returns_are_not_retried() {
        let mut schedule = policy().schedule(fastrand::Rng::with_seed(1));
        assert_eq!(schedule.after(&predictor(FailureKind::Permanent, None), false), None);
        assert_eq!(schedule.after(&predictor(FailureKind::Fatal, None), false), None);
        assert_eq!(schedule.after(&predictor(FailureKind::Forbidden, None), false), None);
        assert_eq!(schedule.after(&CallError::Output(String::new()), false), None);
    }

    #[test]
    fn a_doubtful_failure_is_retried_once_whatever_comes_in_between() {
        let mut schedule = policy().schedule(fastrand::Rng::with_seed(1));
        let doubtful = predictor(FailureKind::Doubtful, None);
        assert!(schedule.after(&doubtful, false).is_some());
        assert!(schedule.after(&predictor(FailureKind::Transient, None), false).is_some());
        assert_eq!(schedule.after(&doubtful, false), None);
        let none = RetryPolicy { retries: 0, ..policy() };
        assert_eq!(none.schedule(fastrand::Rng::with_seed(1)).after(&doubtful, false), None);
    }

    #[test]
    fn throttling_uses_up_no_retries_and_its_wait_is_a_floor() {
        let mut schedule = policy().schedule(fastrand::Rng::with_seed(1));
        for _ in 0..50 {
            let wait = schedule
                .after(&predictor(FailureKind::Throttled, Some(Duration::from_secs(7))), false)
                .unwrap();
            assert!(wait >= Duration::from_secs(7) && wait <= Duration::from_secs(60), "{wait:?}");
        }
        assert!(schedule.after(&predictor(FailureKind::Transient, None), false).is_some());
    }

    #[test]
    fn a_failure_in_an_outage_is_waited_for_in_turn_and_excused_but_not_without_end() {
        let mut schedule = policy().schedule(fastrand::Rng::with_seed(1));
        let error = predictor(FailureKind::Unavailable, None);
        let waits: Vec<_> = std::iter::from_fn(|| schedule.after(&error, true)).collect();
        assert_eq!(waits.len(), 20 + 3);
        assert!(waits[..20].iter().all(Duration::is_zero));
        let mut schedule = policy().schedule(fastrand::Rng::with_seed(1));
        assert_eq!(std::iter::from_fn(|| schedule.after(&error, false)).count(), 3);
    }

    #[test]
    fn a_timeout_in_an_outage_uses_up_no_retries() {
        let mut schedule = policy().schedule(fastrand::Rng::with_seed(1));
        let error = CallError::Timeout(Duration::from_secs(60));
        assert!((0..100).all(|_| schedule.after(&error, true).is_some()));
        assert_eq!(std::iter::from_fn(|| schedule.after(&error, false)).count(), 3);
    }

    #[test]
    fn jitter_covers_the_whole_range() {
        let error = predictor(FailureKind::Transient, None);
        let first = |seed| policy().schedule(fastrand::Rng::with_seed(seed)).after(&error, false).unwrap();
        let waits: Vec<_> = (0..200).map(first).collect();
        assert!(waits.iter().any(|wait| *wait < Duration::from_millis(100)));
        assert!(waits.iter().any(|wait| *wait > Duration::from_millis(900)));
    }
}
