//! What one row has come to so far in its session, until that is an outcome. Not what comes of it.

use std::time::Duration;

use crate::error::Failure;
use crate::outcome::{FailedAttempt, Timing};
use crate::usage::Usage;

/// A row that was left without an outcome because the run is stopping, and its last attempt unless that was told of.
pub(super) struct Unfinished(pub(super) Option<Box<FailedAttempt>>);

/// What one row has come to so far.
#[derive(Default)]
pub(super) struct Tally {
    /// Calls handed to the bridge.
    pub(super) attempts: u32,
    /// What those used that were told of.
    pub(super) earlier_usage: Option<Usage>,
    /// When the last one began and ended, from the session's first hand-over on.
    pub(super) last: (Duration, Duration),
    /// Whether the last one ignored its cancellation.
    pub(super) abandoned: bool,
    pub(super) timing: Timing,
}

impl Tally {
    /// The last attempt, which failed.
    pub(super) fn failed(&self, row: u64, failure: Failure) -> Box<FailedAttempt> {
        let (began, ended) = self.last;
        Box::new(FailedAttempt {
            row,
            number: self.attempts,
            began,
            ended,
            abandoned: self.abandoned,
            failure,
        })
    }
}
