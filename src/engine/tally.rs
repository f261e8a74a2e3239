//! What a row has come to so far in this session, until it has an outcome.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::Failure;
use crate::outcome::{FailedAttempt, Timing};
use crate::usage::Usage;

/// A row that is left without an outcome because the run is stopping, with its last attempt unless that was reported
/// before.
pub(super) struct Unfinished(pub(super) Option<Box<FailedAttempt>>);

/// What a row has come to so far.
pub(super) struct Tally {
    /// Calls handed over to the bridge.
    pub(super) attempts: u32,
    /// What the attempts before the last one used, as far as they reported it.
    pub(super) earlier_usage: Option<Usage>,
    /// When the last attempt was handed over, and how long after that it began and ended.
    pub(super) last: (Instant, Duration, Duration),
    /// When the session handed over its first call.
    first_call: Instant,
    /// Whether the last attempt ignored its cancellation, or its end was not seen.
    pub(super) abandoned: bool,
    pub(super) timing: Timing,
}

impl Tally {
    pub(super) fn new(first_call: Instant) -> Self {
        let (attempts, earlier_usage, abandoned, timing) = Default::default();
        let last = (first_call, Duration::ZERO, Duration::ZERO);
        Self { attempts, earlier_usage, last, first_call, abandoned, timing }
    }

    /// The record of the last attempt, which failed.
    pub(super) fn failed(&self, row: u64, failure: Failure) -> Box<FailedAttempt> {
        let (handed_over, began, ended) = self.last;
        let handed_over = handed_over - self.first_call;
        Box::new(FailedAttempt {
            row,
            number: self.attempts,
            began: handed_over + began,
            ended: handed_over + ended,
            abandoned: self.abandoned,
            failure,
        })
    }
}
