//! One attempt at a row: what the bridge is given, what it tells while the call runs, how it can fail.

use std::borrow::Cow;
use std::fmt::Debug;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::row::{Arguments, Usage};

/// One call to the predictor.
#[derive(Debug)]
pub struct Attempt {
    /// 0-based id of the row.
    pub row: u64,
    /// 1-based number of the attempt within this session.
    pub number: u32,
    /// The keyword arguments.
    pub arguments: Arc<Arguments>,
    /// The bridge's end of the clock; it holds this for as long as anything of the call is left running.
    pub clock: CallClock,
}

/// What runs calls one beside the other, such as an event loop: while it does not turn, its calls cannot go on.
pub trait Lane: Debug + Send + Sync {
    /// For how long in all it has not turned since it was made (gaps over 250 ms, the running one included).
    fn stalled(&self) -> Duration;

    /// For how long it has not turned at this moment: zero, or over 250 ms.
    fn stalled_now(&self) -> Duration;
}

/// A time after the hand-over that one thread sets and another reads, in nanoseconds and plus one; 0 stands for none.
#[derive(Debug, Default)]
struct Mark(AtomicU64);

impl Mark {
    /// The first time counts.
    fn set_now(&self, handed_over: Instant) {
        if self.0.load(Ordering::Relaxed) == 0 {
            self.0.store(handed_over.elapsed().as_nanos() as u64 + 1, Ordering::Release);
        }
    }

    fn get(&self) -> Option<Duration> {
        self.0.load(Ordering::Acquire).checked_sub(1).map(Duration::from_nanos)
    }
}

#[derive(Debug)]
struct Shared {
    handed_over: Instant,
    begun: Mark,
    ended: Mark,
    /// The lane, and for how long in all it had not turned before it was given the call.
    lane: OnceLock<(Arc<dyn Lane>, Duration)>,
    /// [`RUNNING`], [`AWAITED`] or [`OVER`]: most calls end with nobody waiting for it, and then nobody is woken.
    state: AtomicU8,
    over: Notify,
}

const RUNNING: u8 = 0;
const AWAITED: u8 = 1;
const OVER: u8 = 2;

/// The bridge's end: tells the call's lane and marks when the call began and ended; dropping it says that nothing of the
/// call is left running.
#[derive(Debug)]
pub struct CallClock(Arc<Shared>);

/// The engine's end: reads the marks, waits for the end.
#[derive(Debug)]
pub struct CallWatch(Arc<Shared>);

/// A clock for one call: the end that marks and the end that watches. What it tells is counted from `handed_over`.
pub fn call_clock(handed_over: Instant) -> (CallClock, CallWatch) {
    let shared = Arc::new(Shared {
        handed_over,
        begun: Mark::default(),
        ended: Mark::default(),
        lane: OnceLock::new(),
        state: AtomicU8::new(RUNNING),
        over: Notify::new(),
    });
    (CallClock(Arc::clone(&shared)), CallWatch(shared))
}

impl CallClock {
    /// The lane has been given the call: from now on, time in which it does not turn is excused. The first lane counts.
    pub fn runs_on(&self, lane: Arc<dyn Lane>) {
        let stalled = lane.stalled();
        let _ = self.0.lane.set((lane, stalled));
    }

    /// The predictor starts to run, seen on the thread that runs it.
    pub fn begin(&self) {
        self.0.begun.set_now(self.0.handed_over);
    }

    /// The predictor has returned or raised, seen on the thread that runs it.
    pub fn end(&self) {
        self.0.ended.set_now(self.0.handed_over);
    }
}

impl Drop for CallClock {
    fn drop(&mut self) {
        if self.0.state.swap(OVER, Ordering::AcqRel) == AWAITED {
            self.0.over.notify_one();
        }
    }
}

impl CallWatch {
    /// How long after the hand-over the predictor started to run.
    pub fn begun(&self) -> Option<Duration> {
        self.0.begun.get()
    }

    /// How long after the hand-over the predictor returned or raised.
    pub fn ended(&self) -> Option<Duration> {
        self.0.ended.get()
    }

    /// For how long the call's lane has not turned since it was given the call: no timeout is charged with that.
    pub fn excused(&self) -> Duration {
        self.0.lane.get().map_or(Duration::ZERO, |(lane, before)| lane.stalled().saturating_sub(*before))
    }

    /// For how long the call's lane has not turned at this moment: zero, or over 250 ms.
    pub fn stalled_now(&self) -> Duration {
        self.0.lane.get().map_or(Duration::ZERO, |(lane, _)| lane.stalled_now())
    }

    /// Resolves once nothing of the call is left running. For one waiter; cancel-safe.
    pub async fn over(&self) {
        let seen = self.0.state.compare_exchange(RUNNING, AWAITED, Ordering::AcqRel, Ordering::Acquire);
        if seen != Err(OVER) {
            self.0.over.notified().await;
        }
    }
}

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
    Predictor(Box<PredictorError>),
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

/// The class of a call that was cut off because the run was ending.
pub const CANCELLED: &str = "cancelled";

/// The class of a reply that was cut off at the model's token limit.
pub const CUT_OFF: &str = "cut_off";

/// Whether a call that failed with this class may be billed although it cannot tell what it used. A predictor's own
/// exceptions do not tell it by their class: see [`CallError::is_untold`].
pub fn may_be_billed(class: &str) -> bool {
    matches!(class, "timeout" | "output" | "lost" | "bridge" | CANCELLED)
}

/// An exception that left the predictor.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{class}{}{message}", if .message.is_empty() { "" } else { ": " })]
pub struct PredictorError {
    /// Name of the exception's class, without its module.
    pub class: Arc<str>,
    /// `str(exception)`, secrets masked.
    pub message: String,
    /// What kind of failure it is, which decides on the retry.
    pub kind: FailureKind,
    /// The HTTP status a server answered with, where one did.
    pub status: Option<u16>,
    /// How long the server asked to be left alone.
    pub retry_after: Option<Duration>,
    /// Tokens the failed attempt used, as far as it was told.
    pub usage: Option<Usage>,
    /// Whether a request went out whose reply never came.
    pub unanswered: Option<Unanswered>,
    /// Where it was raised: on the first line the innermost one of the user's own code (`file:line in function: source`),
    /// below it Python's traceback.
    pub traceback: Option<String>,
}

/// Kinds of predictor failure (`docs/contract.md`, "What is retried").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// Will fail again: not retried.
    Permanent,
    /// May succeed: retried with backoff.
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

impl FailureKind {
    /// As it is recorded of a row: what another session does with it is the same, and other versions know it.
    #[must_use]
    pub fn recorded(self) -> Self {
        match self {
            Self::Doubtful => Self::Transient,
            Self::Forbidden => Self::Permanent,
            kind => kind,
        }
    }
}

/// How a request stayed without its reply, while the server may have made and billed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
            Self::Input(_) => "input".into(),
            Self::Timeout(_) => "timeout".into(),
            Self::Predictor(error) => Arc::clone(&error.class),
            Self::Output(_) => "output".into(),
            Self::Crash(_) => "crash".into(),
            Self::Lost(_) => "lost".into(),
            Self::Bridge(_) => "bridge".into(),
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

    /// The error without its class.
    pub fn message(&self) -> Cow<'_, str> {
        match self {
            Self::Predictor(error) => Cow::Borrowed(&error.message),
            _ => Cow::Owned(self.to_string()),
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
