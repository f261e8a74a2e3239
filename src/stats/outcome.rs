//! What one outcome adds to the figures. Not the figures.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use super::Tried;
use crate::call::CallError;
use crate::row::{Answer, Outcome, Timing, Usage};

/// What one recorded outcome adds to the figures, whether it is live or read back from a journal.
#[derive(Debug, Clone, Default)]
pub struct OutcomeView<'a> {
    /// The class of the failure, or none for an answer.
    pub failure: Option<Arc<str>>,
    /// The failure without its class.
    pub message: Cow<'a, str>,
    /// The HTTP status that the server answered the last attempt with.
    pub status: Option<u16>,
    /// Calls handed to the bridge.
    pub attempts: u32,
    /// The classes of the attempts that failed.
    pub errors: Cow<'a, [Arc<str>]>,
    /// Calls that ignored cancellation.
    pub abandoned: u32,
    /// Failed attempts with a request whose reply never came.
    pub unanswered: u32,
    /// Tokens of all attempts.
    pub usage: Option<Usage>,
    /// Where the time went.
    pub timing: Timing,
    /// From the call's start to its first chunk.
    pub first_chunk: Option<Duration>,
    /// Whether the answer was cut off at the model's token limit.
    pub cut_off: bool,
    /// The class of the row's failure in an earlier session, already counted, whose place this outcome takes.
    pub supersedes: Option<Arc<str>>,
    /// Those of its attempts that were counted when they failed.
    pub tried: Option<Box<Tried>>,
}

impl OutcomeView<'_> {
    /// What its attempts used beyond what was counted when they failed.
    pub(super) fn usage_left(&self) -> Option<Usage> {
        Some(self.tried.as_ref().map_or(self.usage?, |tried| self.usage.unwrap_or_default() - tried.usage))
    }

    /// The attempts that were counted when they failed.
    pub(super) fn counted(&self) -> u32 {
        self.tried.as_ref().map_or(0, |tried| tried.attempts)
    }
}

impl<'a> From<&'a Outcome> for OutcomeView<'a> {
    fn from(outcome: &'a Outcome) -> Self {
        Self {
            failure: outcome.result.as_ref().err().map(CallError::class),
            message: outcome.result.as_ref().err().map(CallError::message).unwrap_or_default(),
            status: outcome.result.as_ref().err().and_then(CallError::status),
            attempts: outcome.attempts,
            errors: Cow::Borrowed(&outcome.errors),
            abandoned: outcome.abandoned,
            unanswered: outcome.unanswered,
            usage: outcome.usage,
            timing: outcome.timing,
            first_chunk: outcome.result.as_ref().ok().and_then(|answer| answer.first_chunk),
            cut_off: outcome.result.as_ref().is_ok_and(Answer::is_cut_off),
            supersedes: None,
            tried: None,
        }
    }
}
