//! How an attempt can fail: typed while its row is under way, and as recorded. Not what is done about it.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use crate::usage::Usage;

/// Why an attempt gave no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CallError {
    /// The row cannot be asked; it was never called.
    #[error("{0}")]
    Input(String),
    /// The attempt took longer than `--timeout` (or what was left of `--row-timeout`).
    #[error("no answer within {}", humantime::format_duration(*.0))]
    Timeout(Duration),
    /// The predictor raised.
    #[error("{0}")]
    Predictor(Box<Failure>),
    /// The predictor returned something that is no answer; the text keeps its `repr`.
    #[error("{0}")]
    Output(String),
    /// The run crashed each time this was the one row in flight; it is not called any more.
    #[error("{0}")]
    Crash(String),
    /// What ran the call died, or does not turn any more, while the rest of the bridge goes on. Only the rows of such
    /// calls have failed an attempt.
    #[error("{0}")]
    Lost(String),
    /// The way to the predictor is broken; no fault of the row.
    #[error(transparent)]
    Bridge(#[from] BridgeError),
}

/// The class of a row that cannot be asked.
pub const INPUT: &str = "input";
/// The class of an attempt that took longer than it was allowed.
pub const TIMEOUT: &str = "timeout";
/// The class of a return value that is no answer.
pub const OUTPUT: &str = "output";
/// The class of a row that the process did not survive.
pub const CRASH: &str = "crash";
/// The class of a call whose runner died, or does not turn any more.
pub const LOST: &str = "lost";
/// The class of a call whose bridge broke.
pub const BRIDGE: &str = "bridge";
/// The class of a call that was cut off because the run was ending.
pub const CANCELLED: &str = "cancelled";

/// The class of a reply that was cut off at the model's token limit.
pub const CUT_OFF: &str = "cut_off";

/// Whether a call that failed with this class may be billed although it cannot tell what it used. A predictor's own
/// exceptions do not tell it by their class: see [`CallError::is_untold`].
pub fn may_be_billed(class: &str) -> bool {
    matches!(class, TIMEOUT | OUTPUT | LOST | BRIDGE | CANCELLED)
}

/// Characters of a message that [`Failure::brief`] keeps.
const MESSAGE: usize = 400;

/// A failed attempt's error as plain data: an exception that left the predictor, or what [`CallError`] says.
#[derive(Debug, Clone, PartialEq, thiserror::Error, Serialize, Deserialize)]
#[error("{}{}{message}", self.prefix(), if self.prefix().is_empty() || .message.is_empty() { "" } else { ": " })]
pub struct Failure {
    /// The class failures are counted by: `input`, `timeout`, `output`, `crash`, `lost`, `bridge`, `cancelled`, or the name of the
    /// exception's class, without its module.
    pub class: Arc<str>,
    /// What kind of failure it is, which decides on the retry.
    #[serde(default)]
    pub kind: FailureKind,
    /// The error without its class: `str(exception)`, secrets masked.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The HTTP status a server answered with, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The server's own name of the request, where it told one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<Arc<str>>,
    /// How long the server asked to be left alone.
    #[serde(skip)]
    pub retry_after: Option<Duration>,
    /// Tokens the failed attempt used, as far as it was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Whether a request went out whose reply never came.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "unanswered")]
    pub unanswered: Option<Unanswered>,
    /// Where it was raised: on the first line the innermost one of the user's own code (`file:line in function: source`),
    /// below it Python's traceback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceback: Option<String>,
}

impl Failure {
    /// One of which nothing else is known.
    pub fn new(class: impl Into<Arc<str>>, kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            class: class.into(),
            kind,
            message: message.into(),
            status: None,
            request_id: None,
            retry_after: None,
            usage: None,
            unanswered: None,
            traceback: None,
        }
    }

    /// A call that was cut off because the run was ending.
    pub fn cancelled() -> Self {
        Self::new(CANCELLED, FailureKind::Transient, "")
    }

    /// Whether the attempt may be billed for more than it told of.
    pub fn is_untold(&self) -> bool {
        self.unanswered.is_some() || self.usage.is_none() && may_be_billed(&self.class)
    }

    /// As much of it as is kept of one attempt among many: the beginning of its text, and no traceback.
    #[must_use]
    pub fn brief(&self) -> Self {
        let message = self.message.chars().take(MESSAGE).collect();
        Self { message, traceback: None, ..self.clone() }
    }

    /// The line of the user's code that raised it.
    pub fn raised_at(&self) -> Option<&str> {
        self.traceback.as_deref()?.lines().next().filter(|at| !at.is_empty())
    }

    /// Python's traceback without that line, or the one line that is known of it.
    pub fn trace(&self) -> &str {
        let traceback = self.traceback.as_deref().unwrap_or_default();
        traceback.split_once('\n').map_or(traceback, |(_, whole)| whole)
    }

    /// The classes of ours say nothing that the message does not.
    fn prefix(&self) -> &str {
        if [INPUT, TIMEOUT, OUTPUT, CRASH, LOST, BRIDGE].contains(&&*self.class) { "" } else { &self.class }
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Predictor(failure) => *failure,
            _ => Self::new(error.class(), error.kind(), error.to_string()),
        }
    }
}

/// Version 1 of the journal has a 1 here.
fn unanswered<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Unanswered>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Told {
        How(Unanswered),
        Count(u32),
    }
    Ok(match Told::deserialize(deserializer)? {
        Told::How(how) => Some(how),
        Told::Count(count) => (count > 0).then_some(Unanswered::CutOff),
    })
}

/// Kinds of predictor failure (`docs/contract.md`, "What is retried").
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// Will fail again: not retried.
    Permanent,
    /// May succeed: retried with backoff.
    #[default]
    Transient,
    /// May succeed, though the same is likely to come again (a refusal, an empty reply): retried once.
    Doubtful,
    /// No server, or one that fails (5xx, refused, dropped): as transient; many in a row are an outage.
    Unavailable,
    /// Asked to slow down (429, or 503 with Retry-After): retried, without using up `--retries`.
    Throttled,
    /// Is either the row's own (a moderated prompt) or everybody's (a key without the right to the model): a 403. The
    /// dispatcher decides, by what the other rows get.
    Forbidden,
    /// Will fail for every row (401, 402, exhausted quota): stops the run.
    Fatal,
}

/// How a request stayed without its reply, while the server may have made and billed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unanswered {
    /// The client had waited for as long as it was set to.
    TimedOut,
    /// The connection ended first.
    CutOff,
}

/// What broke between Tokio and asyncio.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BridgeError {
    /// The interpreter is finalizing or was never started.
    #[error("the Python interpreter is gone")]
    InterpreterGone,
    /// The event loop ended; something in the process stopped it.
    #[error("the event loop has stopped")]
    LoopStopped,
    /// The loop has not taken the call for so long that it must be stuck.
    #[error("the event loop does not take calls any more")]
    HandoverStuck,
}

impl CallError {
    /// The class failures are counted by: `input`, `timeout`, `output`, `crash`, `lost`, `bridge`, or the exception's class name.
    pub fn class(&self) -> Arc<str> {
        match self {
            Self::Input(_) => INPUT.into(),
            Self::Timeout(_) => TIMEOUT.into(),
            Self::Predictor(error) => Arc::clone(&error.class),
            Self::Output(_) => OUTPUT.into(),
            Self::Crash(_) => CRASH.into(),
            Self::Lost(_) => LOST.into(),
            Self::Bridge(_) => BRIDGE.into(),
        }
    }

    /// What the attempt told that it used.
    pub fn usage(&self) -> Option<&Usage> {
        match self {
            Self::Predictor(error) => error.usage.as_ref(),
            _ => None,
        }
    }

    /// Whether a request of the attempt went out whose reply never came, as far as the predictor's exception tells.
    pub fn unanswered(&self) -> Option<Unanswered> {
        match self {
            Self::Predictor(error) => error.unanswered,
            _ => None,
        }
    }

    /// Whether it was waited for in vain, by us or by the predictor's client.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout(_)) || self.unanswered() == Some(Unanswered::TimedOut)
    }

    /// Whether it may be billed for more than it told of.
    pub fn is_untold(&self) -> bool {
        self.unanswered().is_some() || self.usage().is_none() && may_be_billed(&self.class())
    }

    /// The HTTP status a server answered with, where one did.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Predictor(error) => error.status,
            _ => None,
        }
    }

    /// How long the server asked to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Predictor(error) => error.retry_after,
            _ => None,
        }
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::Input(_) | Self::Output(_) | Self::Crash(_) => FailureKind::Permanent,
            Self::Timeout(_) | Self::Lost(_) => FailureKind::Transient,
            Self::Predictor(error) => error.kind,
            Self::Bridge(_) => FailureKind::Fatal,
        }
    }
}
