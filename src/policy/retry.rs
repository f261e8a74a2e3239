//! Decides whether a failed attempt is retried, and after how long.

use std::time::Duration;

use crate::error::{CallError, FailureKind};

/// Exponential backoff with full jitter: the wait before retry n, counted from 0, is uniform in
/// [0, min(cap, base · 2^n)].
///
/// See "Full Jitter" in Marc Brooker, *Exponential Backoff And Jitter*, AWS Architecture Blog, 2015.
#[derive(Debug, Clone, Copy)]
pub struct RetryPolicy {
    /// Retries that a row may use up. A throttled attempt uses up none.
    pub retries: u32,
    /// Upper bound of the first wait.
    pub base: Duration,
    /// Upper bound of every wait, including a Retry-After of the server.
    pub cap: Duration,
}

/// How many failures of a row are put down to an outage or to the lane that was lost. Those beyond use up retries, since
/// it may be the row that breaks the server or the lane.
const MOST_EXCUSED: u32 = 20;

/// The retries of one row.
#[derive(Debug)]
pub struct Schedule {
    /// Retries left.
    left: u32,
    /// Failures that were put down to an outage or to a lost lane.
    excused: u32,
    /// Whether a doubtful failure has been retried.
    doubted: bool,
    /// Upper bound of the next wait.
    ceiling: Duration,
    cap: Duration,
    rng: fastrand::Rng,
}

impl RetryPolicy {
    /// The schedule of a row without failures, whose random waits come from `rng`.
    pub fn schedule(&self, rng: fastrand::Rng) -> Schedule {
        let (left, ceiling, cap) = (self.retries, self.base.min(self.cap), self.cap);
        Schedule { left, excused: 0, doubted: false, ceiling, cap, rng }
    }
}

impl Schedule {
    /// How long to wait before the next attempt; `None` if there must be none. During an outage, and where the call's
    /// lane was lost, the failure is not put down to the row, which only waits for its turn.
    pub fn after(&mut self, error: &CallError, outage: bool) -> Option<Duration> {
        let is_lost = matches!(error, CallError::Lost(_));
        match (error.kind(), error.retry_after()) {
            (FailureKind::Permanent | FailureKind::Forbidden | FailureKind::Fatal, _) => return None,
            (FailureKind::Doubtful, _) if std::mem::replace(&mut self.doubted, true) => return None,
            // No jitter is needed: after a storm, rows come back one by one (see `policy::pace`).
            (FailureKind::Throttled, Some(asked)) => return Some(asked.min(self.cap)),
            (FailureKind::Throttled, None) => {}
            // An outage of timeouts alone is given up in the end (see `policy::breaker`), and rows that were never
            // called go first meanwhile.
            (FailureKind::Transient, _) if outage && error.is_timeout() => {}
            (kind, _)
                if (is_lost || outage && kind == FailureKind::Unavailable) && self.excused < MOST_EXCUSED =>
            {
                self.excused += 1;
                return Some(Duration::ZERO);
            }
            (FailureKind::Transient | FailureKind::Doubtful | FailureKind::Unavailable, _) => {
                self.left = self.left.checked_sub(1)?;
            }
        }
        let jittered = self.ceiling.mul_f64(self.rng.f64());
        self.ceiling = self.ceiling.saturating_mul(2).min(self.cap);
        // The jitter is added to Retry-After, so that the rows do not all come back at once.
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
    fn a_lost_call_is_made_again_at_once_and_excused_but_not_without_end() {
        let mut schedule = policy().schedule(fastrand::Rng::with_seed(1));
        let lost = CallError::Lost(String::new());
        assert!((0..20).all(|_| schedule.after(&lost, false) == Some(Duration::ZERO)));
        assert_eq!(std::iter::from_fn(|| schedule.after(&lost, false)).count(), 3);
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
