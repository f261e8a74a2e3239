//! What a row has come to so far in this session, until it has an outcome.

use std::time::Duration;

use crate::error::Failure;
use crate::outcome::{FailedAttempt, Timing};
use crate::usage::Usage;

/// A row that is left without an outcome because the run is stopping, with its last attempt unless that was reported
/// before.
pub(super) struct Unfinished(pub(super) Option<Box<FailedAttempt>>);

/// What a row has come to so far.
#[derive(Default)]
pub(super) struct Tally {
    /// Calls handed over to the bridge.
    pub(super) attempts: u32,
    /// What the attempts before the last one used, as far as they reported it.
    pub(super) earlier_usage: Option<Usage>,
    /// When the last attempt began and ended, counted from the session's first hand-over.
    pub(super) last: (Duration, Duration),
    /// Whether the last attempt ignored its cancellation.
    pub(super) abandoned: bool,
    pub(super) timing: Timing,
}

impl Tally {
    /// The record of the last attempt, which failed.
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
