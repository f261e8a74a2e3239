//! What is asked and what is answered: rows, their values, answers and outcomes. Not how a call is made.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::call::CallError;

/// XXH3-64 of a record's bytes as read (UTF-8, without its line ending): what ties an outcome to its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowHash(pub u64);

impl RowHash {
    /// The hash of one record, given without its line ending.
    pub fn of(record: &[u8]) -> Self {
        Self(xxhash_rust::xxh3::xxh3_64(record))
    }

    /// Its 16 hexadecimal digits. Each row's hash is written twice; the formatter would be a tenth of what a row's record
    /// costs.
    pub fn hex(self) -> [u8; 16] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        std::array::from_fn(|digit| DIGITS[(self.0 >> (60 - 4 * digit)) as usize & 0xf])
    }
}

impl std::fmt::Display for RowHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Serialize for RowHash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(std::str::from_utf8(&self.hex()).unwrap_or_default())
    }
}

impl<'de> Deserialize<'de> for RowHash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        u64::from_str_radix(&text, 16).map(Self).map_err(serde::de::Error::custom)
    }
}

/// One value of a row or an answer: CSV gives text, JSONL keeps its JSON, token for token.
#[derive(Debug, Clone)]
pub enum Value {
    /// A string.
    Text(String),
    /// Any other JSON value, as written (`100000000000000000000` stays itself).
    Json(Box<RawValue>),
}

impl Value {
    /// The value as JSON text.
    pub fn to_json(&self) -> String {
        match self {
            Self::Text(text) => serde_json::Value::from(text.as_str()).to_string(),
            Self::Json(raw) => raw.get().to_owned(),
        }
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Text(a), Self::Text(b)) => a == b,
            (Self::Json(a), Self::Json(b)) => a.get() == b.get(),
            _ => false,
        }
    }
}

impl Serialize for Value {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Json(raw) => raw.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Ok(if raw.get().starts_with('"') {
            Self::Text(serde_json::from_str(raw.get()).map_err(serde::de::Error::custom)?)
        } else {
            Self::Json(raw)
        })
    }
}

/// The keyword arguments of a call: parameter name and value, in the order they are passed.
pub type Arguments = Vec<(Arc<str>, Value)>;

/// One record of the input that is to be answered.
#[derive(Debug)]
pub struct Row {
    /// 0-based position among the data records of the input file.
    pub id: u64,
    /// 1-based line of the input file on which the record starts.
    pub line: u64,
    /// Ties the outcome to the record.
    pub hash: RowHash,
    /// What the predictor is called with, or why it must not be called (class `input`).
    pub arguments: Result<Arc<Arguments>, CallError>,
}

/// Tokens and requests a call used, as the predictor reported them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Prompt tokens.
    pub input: u64,
    /// Completion tokens.
    pub output: u64,
    /// Requests to the model.
    pub calls: u64,
    /// US dollars, where a price is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
}

impl Usage {
    /// Tokens in and out.
    pub fn tokens(&self) -> u64 {
        self.input.saturating_add(self.output)
    }
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.input = self.input.saturating_add(other.input);
        self.output = self.output.saturating_add(other.output);
        self.calls = self.calls.saturating_add(other.calls);
        self.cost_usd = match (self.cost_usd, other.cost_usd) {
            (Some(a), Some(b)) => Some(a + b),
            (one, None) | (None, one) => one,
        };
    }
}

impl std::ops::Sub for Usage {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            input: self.input.saturating_sub(other.input),
            output: self.output.saturating_sub(other.output),
            calls: self.calls.saturating_sub(other.calls),
            cost_usd: self.cost_usd.map(|cost| (cost - other.cost_usd.unwrap_or_default()).max(0.0)),
        }
    }
}

/// The finish reason of a reply that reached `max_tokens`.
pub const CUT_OFF: &str = "length";

/// What a predictor returned, one entry a column.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Field name and value, in the predictor's order; a returned `str` is the one field `answer`.
    pub fields: Vec<(Arc<str>, Value)>,
    /// Tokens used, where the predictor tells.
    pub usage: Option<Usage>,
    /// From the call's start to its first chunk (async generators only).
    pub first_chunk: Option<Duration>,
    /// Why the model ended its last reply (`stop`, `length`, …), where the predictor tells.
    pub finish_reason: Option<Arc<str>>,
}

impl Answer {
    /// Whether the model was cut off at its token limit.
    pub fn is_cut_off(&self) -> bool {
        self.finish_reason.as_deref() == Some(CUT_OFF)
    }
}

/// Where a row's time went. Each part is measured between its own two timestamps; together they are `row`, but for the
/// moments between the parts.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Timing {
    /// From being read to being taken up by the engine: its start is recorded. The dispatcher fills it in.
    pub starting: Duration,
    /// Held back by a limit (the server's refusals, an outage, `--rpm`, `--tpm`), summed over attempts.
    pub paced: Duration,
    /// Waiting for a permit, summed over attempts.
    pub queued: Duration,
    /// The predictor running, as seen on the event loop's thread, summed over attempts.
    pub running: Duration,
    /// Waiting to retry.
    pub backoff: Duration,
    /// Hand-over to the loop and back, summed over attempts.
    pub bridge: Duration,
    /// The last attempt alone, as seen on the event loop's thread (a timeout counts as long as it was waited for).
    pub latency: Duration,
    /// From the outcome to its being recorded; the dispatcher fills it in.
    pub recording: Duration,
    /// From the row's being read to its outcome's being recorded; the dispatcher fills it in.
    pub row: Duration,
    /// From the session's first hand-over to this outcome's being recorded; the dispatcher fills it in.
    pub recorded: Duration,
    /// When the engine took the row up and when it had its outcome; for the dispatcher, not recorded.
    pub taken_up: Option<(Instant, Instant)>,
}

impl Timing {
    /// Waiting from the beginning on for what was not the row's own doing.
    pub fn waited(&self) -> Duration {
        self.starting + self.paced + self.queued
    }
}

/// An attempt that failed, or was cut off, while its row has no outcome.
#[derive(Debug)]
pub struct FailedAttempt {
    /// The row.
    pub row: u64,
    /// From 1 in each session.
    pub number: u32,
    /// Its error's class.
    pub class: Arc<str>,
    /// Its error; none of an attempt that was cut off.
    pub error: Option<CallError>,
    /// When the predictor began; where it never did, when the call was handed over.
    pub began: Instant,
    /// When it had failed, or was waited for no longer.
    pub ended: Instant,
    /// Whether it ignored its cancellation.
    pub abandoned: bool,
    /// Whether a request of it went out whose reply never came, as its exception tells.
    pub unanswered: bool,
    /// Tokens it told of.
    pub usage: Option<Usage>,
}

impl FailedAttempt {
    /// The last attempt of a row whose outcome, this error, is none.
    pub fn last_of(outcome: &Outcome, error: &CallError) -> Option<Self> {
        let (_, ended) = outcome.timing.taken_up?;
        (outcome.attempts > 0).then(|| Self {
            row: outcome.row,
            number: outcome.attempts,
            class: error.class(),
            error: Some(error.clone()),
            began: ended.checked_sub(outcome.timing.latency).unwrap_or(ended),
            ended,
            abandoned: false,
            unanswered: error.unanswered().is_some(),
            usage: error.usage().copied(),
        })
    }
}

/// A row's final result in this session. A cancelled or unfinished row has none.
#[derive(Debug)]
pub struct Outcome {
    /// The row.
    pub row: u64,
    /// The row's hash.
    pub hash: RowHash,
    /// The answer, or the last attempt's error.
    pub result: Result<Answer, CallError>,
    /// Calls handed to the bridge in this session (0 for a row that must not be called).
    pub attempts: u32,
    /// The classes of the attempts that failed, in order; the last is the outcome's own if it failed.
    pub errors: Vec<Arc<str>>,
    /// Calls of this row that ignored cancellation.
    pub abandoned: u32,
    /// Failed attempts with a request whose reply never came, as their exceptions tell.
    pub unanswered: u32,
    /// Tokens of all attempts, failed ones too.
    pub usage: Option<Usage>,
    /// Where the time went.
    pub timing: Timing,
}
