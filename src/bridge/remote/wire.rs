//! Values, answers and errors as they cross. The types of the rest of the program are written for JSON: `RawValue`
//! needs its parser, and some of their fields are left out.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::bridge::Reply;
use crate::error::{BridgeError, CallError, Failure};
use crate::outcome::Answer;
use crate::row::Value;
use crate::usage::Usage;

/// The most names that are kept. Predictors have a few; rows of a file may bring some of their own.
const NAMES: usize = 256;

/// The names of parameters or fields, each allocated once for a connection.
#[derive(Debug, Default)]
pub(super) struct Names(Vec<Arc<str>>);

impl Names {
    fn get(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.0.iter().find(|known| &***known == name) {
            return Arc::clone(known);
        }
        let new = Arc::<str>::from(name);
        if self.0.len() < NAMES {
            self.0.push(Arc::clone(&new));
        }
        new
    }
}

/// Bytes, which serde takes for a sequence of numbers by itself.
#[derive(Debug, PartialEq)]
pub(super) struct Bytes<'a>(pub(super) Cow<'a, [u8]>);

/// A value: a string, or other JSON as bytes.
#[derive(Debug, PartialEq)]
pub(super) enum WireValue<'a> {
    Text(Cow<'a, str>),
    Json(Bytes<'a>),
}

/// Names and values.
pub(super) type WireFields<'a> = Vec<(Cow<'a, str>, WireValue<'a>)>;

/// The fields, to be sent.
pub(super) fn fields(fields: &[(Arc<str>, Value)]) -> WireFields<'_> {
    fields.iter().map(|(name, value)| (Cow::Borrowed(&**name), WireValue::of(value))).collect()
}

/// The fields that came.
pub(super) fn received(fields: WireFields<'_>, names: &mut Names) -> Vec<(Arc<str>, Value)> {
    fields.into_iter().map(|(name, value)| (names.get(&name), value.into_value())).collect()
}

impl<'a> WireValue<'a> {
    pub(super) fn of(value: &'a Value) -> Self {
        match value {
            Value::Text(text) => Self::Text(Cow::Borrowed(text)),
            Value::Json(raw) => Self::Json(Bytes(Cow::Borrowed(raw.get().as_bytes()))),
        }
    }

    pub(super) fn into_value(self) -> Value {
        match self {
            Self::Text(text) => Value::Text(text.into_owned()),
            Self::Json(Bytes(bytes)) => {
                // It was JSON when it was sent, and a frame that is damaged is not read at all.
                let text = String::from_utf8_lossy(&bytes).into_owned();
                RawValue::from_string(text).map_or_else(|_| Value::Text(String::new()), Value::Json)
            }
        }
    }
}

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Bytes<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match WireValue::deserialize(deserializer)? {
            WireValue::Json(bytes) => Ok(bytes),
            WireValue::Text(_) => Err(serde::de::Error::custom("a text instead of bytes")),
        }
    }
}

impl Serialize for WireValue<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Json(bytes) => bytes.serialize(serializer),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for WireValue<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// What comes is borrowed from the frame.
        struct TextOrBytes;

        impl<'de> Visitor<'de> for TextOrBytes {
            type Value = WireValue<'de>;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("a text or bytes")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(WireValue::Text(Cow::Borrowed(text)))
            }

            fn visit_borrowed_bytes<E>(self, bytes: &'de [u8]) -> Result<Self::Value, E> {
                Ok(WireValue::Json(Bytes(Cow::Borrowed(bytes))))
            }
        }

        deserializer.deserialize_any(TextOrBytes)
    }
}

/// A reply: an answer or an error.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum WireReply<'a> {
    /// The fields of an answer that has nothing else, as most have where no model is asked.
    #[serde(rename = "f", borrow)]
    Fields(WireFields<'a>),
    #[serde(rename = "a", borrow)]
    Answer(WireAnswer<'a>),
    #[serde(rename = "e")]
    Error(WireError),
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WireAnswer<'a> {
    #[serde(borrow)]
    fields: WireFields<'a>,
    usage: Option<Usage>,
    first_chunk: Option<Duration>,
    finish_reason: Option<Arc<str>>,
    request_id: Option<Arc<str>>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum WireError {
    Input(String),
    Timeout(Duration),
    /// The failure, and how long the server asked to wait, which no record of a failure has.
    Predictor(Box<Failure>, Option<Duration>),
    Output(String),
    Crash(String),
    Lost(String),
    Bridge(BridgeError),
}

impl<'a> WireReply<'a> {
    pub(super) fn of(reply: &'a Reply) -> Self {
        match reply {
            Ok(Answer {
                fields: found,
                usage: None,
                first_chunk: None,
                finish_reason: None,
                request_id: None,
            }) => Self::Fields(fields(found)),
            Ok(answer) => Self::Answer(WireAnswer {
                fields: fields(&answer.fields),
                usage: answer.usage,
                first_chunk: answer.first_chunk,
                finish_reason: answer.finish_reason.clone(),
                request_id: answer.request_id.clone(),
            }),
            Err(error) => Self::Error(WireError::of(error.clone())),
        }
    }

    pub(super) fn into_reply(self, names: &mut Names) -> Reply {
        match self {
            Self::Fields(fields) => Ok(Answer { fields: received(fields, names), ..Answer::default() }),
            Self::Answer(WireAnswer { fields, usage, first_chunk, finish_reason, request_id }) => {
                Ok(Answer { fields: received(fields, names), usage, first_chunk, finish_reason, request_id })
            }
            Self::Error(error) => Err(error.into_error()),
        }
    }
}

impl WireError {
    fn of(error: CallError) -> Self {
        match error {
            CallError::Input(text) => Self::Input(text),
            CallError::Timeout(limit) => Self::Timeout(limit),
            CallError::Predictor(failure) => {
                let retry_after = failure.retry_after;
                Self::Predictor(failure, retry_after)
            }
            CallError::Output(text) => Self::Output(text),
            CallError::Crash(text) => Self::Crash(text),
            CallError::Lost(text) => Self::Lost(text),
            CallError::Bridge(error) => Self::Bridge(error),
        }
    }

    fn into_error(self) -> CallError {
        match self {
            Self::Input(text) => CallError::Input(text),
            Self::Timeout(limit) => CallError::Timeout(limit),
            Self::Predictor(failure, retry_after) => {
                CallError::Predictor(Box::new(Failure { retry_after, ..*failure }))
            }
            Self::Output(text) => CallError::Output(text),
            Self::Crash(text) => CallError::Crash(text),
            Self::Lost(text) => CallError::Lost(text),
            Self::Bridge(error) => CallError::Bridge(error),
        }
    }
}
