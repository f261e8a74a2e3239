//! What one row has used so far in its session, and its last attempt. Not what comes of them.

use std::sync::Arc;

use tokio::time::Instant;

use crate::call::{CANCELLED, CallError};
use crate::row::{FailedAttempt, Timing, Usage};

/// A row that was left without an outcome because the run is stopping, and its call if that was cut off.
pub(super) struct Unfinished(pub(super) Option<Box<FailedAttempt>>);

/// What one row has used so far.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) attempts: u32,
    pub(super) abandoned: u32,
    pub(super) unanswered: u32,
    pub(super) errors: Vec<Arc<str>>,
    pub(super) usage: Option<Usage>,
    pub(super) timing: Timing,
    pub(super) last: Option<Last>,
}

/// The last attempt.
#[derive(Clone, Copy)]
pub(super) struct Last {
    pub(super) began: Instant,
    pub(super) ended: Instant,
    pub(super) abandoned: bool,
    pub(super) unanswered: bool,
}

impl Tally {
    /// The last attempt of that row, which failed; without an error, it was cut off.
    pub(super) fn failed(&self, row: u64, error: Option<&CallError>) -> Option<Box<FailedAttempt>> {
        let Last { began, ended, abandoned, unanswered } = self.last?;
        let (began, ended) = (began.into_std(), ended.into_std());
        Some(Box::new(FailedAttempt {
            row,
            number: self.attempts,
            class: error.map_or_else(|| CANCELLED.into(), CallError::class),
            error: error.cloned(),
            began,
            ended,
            abandoned,
            unanswered,
            usage: error.and_then(CallError::usage).copied(),
        }))
    }

    pub(super) fn add_usage(&mut self, usage: Option<Usage>) {
        if let Some(usage) = usage {
            *self.usage.get_or_insert_default() += usage;
        }
    }
}
