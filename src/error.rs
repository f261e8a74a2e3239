//! How an attempt can fail: typed while its row is being answered, and as plain data in its record.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use crate::usage::Usage;

/// Why an attempt gave no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CallError {
    /// The row must not be called, and never was.
    #[error("{0}")]
    Input(String),
    /// The attempt took longer than `--timeout` (or what was left of `--row-timeout`).
    #[error("no answer within {}", humantime::format_duration(*.0))]
    Timeout(Duration),
    /// The predictor raised.
    #[error("{0}")]
    Predictor(Box<Failure>),
    /// The predictor returned something that cannot be an answer. The text has its `repr`.
    #[error("{0}")]
    Output(String),
    /// The process that called it died each time this row was alone in flight, so it is not called any more.
    #[error("{0}")]
    Crash(String),
    /// The lane that ran the call died or does not turn any more, while the rest of the bridge goes on.
    #[error("{0}")]
    Lost(String),
    /// The bridge to the predictor is broken. The row is not at fault.
    #[error(transparent)]
    Bridge(#[from] BridgeError),
}

/// The class of a row that must not be called.
pub const INPUT: &str = "input";
/// The class of an attempt that timed out.
pub const TIMEOUT: &str = "timeout";
/// The class of a return value that cannot be an answer.
pub const OUTPUT: &str = "output";
/// The class of a row that the process did not survive.
pub const CRASH: &str = "crash";
/// The class of a call whose code kept its event loop from turning until the loop's process was ended.
pub const BLOCKED: &str = "blocked";
/// The class of a call whose lane died or does not turn any more.
pub const LOST: &str = "lost";
/// The class of a call whose bridge broke.
pub const BRIDGE: &str = "bridge";
/// The class of a call that was cancelled because the run was ending.
pub const CANCELLED: &str = "cancelled";

/// The class of a row that the run stopped before.
pub const UNFINISHED: &str = "unfinished";

/// The class of a reply that was cut off at the model's token limit.
pub const CUT_OFF: &str = "cut_off";

/// Whether a call that failed with this class may be billed although it cannot tell what it used. For a predictor's own
/// exceptions the class does not decide that: see [`CallError::is_untold`].
pub fn may_be_billed(class: &str) -> bool {
    matches!(class, TIMEOUT | OUTPUT | CRASH | BLOCKED | LOST | BRIDGE | CANCELLED)
}

/// What may help against failures of a class, if that is known.
pub fn hint_of(class: &str) -> Option<&'static str> {
    const BLOCKS: &str =
        "allow more time with `--timeout`, or make the predictor a plain `def`, which runs on threads";
    (class == BLOCKED).then_some(BLOCKS)
}

/// Characters of a message that [`Failure::brief`] keeps.
const MESSAGE: usize = 400;

/// A failed attempt's error as plain data: an exception that left the predictor, or another [`CallError`].
#[derive(Debug, Clone, PartialEq, thiserror::Error, Serialize, Deserialize)]
#[error("{}{}{message}", self.prefix(), if self.prefix().is_empty() || .message.is_empty() { "" } else { ": " })]
pub struct Failure {
    /// The class that failures are counted by: `input`, `timeout`, `output`, `crash`, `blocked`, `lost`, `bridge`,
    /// `cancelled`, or the name of the exception's class, without its module.
    pub class: Arc<str>,
    /// What kind of failure it is, which decides on the retry.
    #[serde(default)]
    pub kind: FailureKind,
    /// The error without its class: `str(exception)`, secrets masked.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The server's HTTP status, if one answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The server's id of the request, if the server gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<Arc<str>>,
    /// How long the server asked to wait.
    #[serde(skip)]
    pub retry_after: Option<Duration>,
    /// Tokens the attempt used, if the predictor tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Whether a request went out whose reply never came.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "unanswered")]
    pub unanswered: Option<Unanswered>,
    /// Where it was raised. The first line is the innermost line of the user's own code (`file:line in function:
    /// source`); Python's traceback follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceback: Option<String>,
}

impl Failure {
    /// A failure of which nothing else is known.
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

    /// A call that was cancelled because the run was ending.
    pub fn cancelled() -> Self {
        Self::new(CANCELLED, FailureKind::Transient, "")
    }

    /// A row that the run stopped before.
    pub fn unfinished() -> Self {
        Self::new(UNFINISHED, FailureKind::Transient, "the run stopped before the row was answered")
    }

    /// A call whose code kept its event loop from turning for that long, until the loop's process was ended. `stack` is
    /// where the code was: see [`Self::traceback`].
    pub fn blocked(lasted: Duration, stack: impl Into<String>) -> Self {
        let lasted = humantime::format_duration(Duration::from_secs(lasted.as_secs()));
        let text =
            format!("the call kept its event loop from turning for {lasted}, and its worker was ended");
        Self { traceback: Some(stack.into()), ..Self::new(BLOCKED, FailureKind::Permanent, text) }
    }

    /// Whether the attempt may be billed for more than it told.
    pub fn is_untold(&self) -> bool {
        self.unanswered.is_some() || self.usage.is_none() && may_be_billed(&self.class)
    }

    /// What is kept of one attempt among many: the beginning of the message and no traceback.
    #[must_use]
    pub fn brief(&self) -> Self {
        let message = self.message.chars().take(MESSAGE).collect();
        Self { message, traceback: None, ..self.clone() }
    }

    /// The line of the user's code that raised it.
    pub fn raised_at(&self) -> Option<&str> {
        self.traceback.as_deref()?.lines().next().filter(|at| !at.is_empty())
    }

    /// Python's traceback without that line, or the one line that is known.
    pub fn trace(&self) -> &str {
        let traceback = self.traceback.as_deref().unwrap_or_default();
        traceback.split_once('\n').map_or(traceback, |(_, whole)| whole)
    }

    /// The class, if it is one of this program's. All others are of exceptions that the predictor raised.
    pub fn own_class(&self) -> Option<&'static str> {
        let own = [INPUT, TIMEOUT, OUTPUT, CRASH, BLOCKED, LOST, BRIDGE, UNFINISHED];
        own.into_iter().find(|class| *class == &*self.class)
    }

    /// The class, unless it is one of this program's, which say no more than the message.
    fn prefix(&self) -> &str {
        if self.own_class().is_some() { "" } else { &self.class }
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

/// Version 1 of the journal has a count here.
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
    /// May succeed, but will probably fail the same way (a refusal, an empty reply): retried once.
    Doubtful,
    /// The server is down or fails (5xx, refused, dropped): retried as transient. Many in a row are an outage.
    Unavailable,
    /// Asked to slow down (429, or 503 with Retry-After): retried, without using up `--retries`.
    Throttled,
    /// A 403, which is about this row (a moderated prompt) or about every row (a key without access to the model). The
    /// dispatcher decides by what the other rows get.
    Forbidden,
    /// Will fail for every row (401, 402, exhausted quota): stops the run.
    Fatal,
}

/// How a request ended without its reply. The server may have processed and billed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unanswered {
    /// The client's own timeout passed.
    TimedOut,
    /// The connection was closed.
    CutOff,
}

/// What broke between Tokio and asyncio.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum BridgeError {
    /// The interpreter is finalizing or was never started.
    #[error("the Python interpreter is gone")]
    InterpreterGone,
    /// Something in the process stopped the event loop.
    #[error("the event loop has stopped")]
    LoopStopped,
    /// The event loop has not taken calls for so long that it must be stuck.
    #[error("the event loop does not take calls any more")]
    HandoverStuck,
    /// There is no worker process, and none could be started for long.
    #[error("no worker process could be started any more")]
    NoWorkers,
    /// The cluster that makes the calls is gone.
    #[error("the cluster is lost")]
    ClusterLost,
}

impl CallError {
    /// The class that failures are counted by: `input`, `timeout`, `output`, `crash`, `blocked`, `lost`, `bridge`, or the
    /// name of the exception's class.
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

    /// Tokens the attempt used, if the predictor tells.
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

    /// Whether this program's timeout or that of the predictor's client passed.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout(_)) || self.unanswered() == Some(Unanswered::TimedOut)
    }

    /// Whether it may be billed for more than it told.
    pub fn is_untold(&self) -> bool {
        self.unanswered().is_some() || self.usage().is_none() && may_be_billed(&self.class())
    }

    /// Whether it tells of what ran the call, and nothing of the server.
    pub fn is_of_lane(&self) -> bool {
        match self {
            Self::Lost(_) | Self::Crash(_) => true,
            Self::Predictor(failure) => *failure.class == *BLOCKED,
            _ => false,
        }
    }

    /// The server's HTTP status, if one answered.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Predictor(error) => error.status,
            _ => None,
        }
    }

    /// How long the server asked to wait.
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
