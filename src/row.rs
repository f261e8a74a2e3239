//! The rows of the input and their values.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::error::CallError;

/// XXH3-64 of a record's bytes as read (UTF-8, without the line ending). It ties an outcome to its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowHash(pub u64);

impl RowHash {
    /// The hash of one record, given without its line ending.
    pub fn of(record: &[u8]) -> Self {
        Self(xxhash_rust::xxh3::xxh3_64(record))
    }

    /// Its 16 hexadecimal digits. `format!` would be a tenth of what recording a row costs: its hash is written twice.
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

/// One value of a row or an answer. CSV has text only; values of JSONL keep their JSON token for token.
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
        let raw = <&RawValue>::deserialize(deserializer)?;
        let text = match raw.get().strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
            // Most texts have no escape, and are copied at once instead of parsed a second time.
            Some(text) if !text.contains('\\') => Some(text.to_owned()),
            // A string that escapes half a surrogate pair is not valid text, and stays as written.
            Some(_) => serde_json::from_str(raw.get()).ok(),
            None => None,
        };
        Ok(text.map_or_else(|| Self::Json(raw.to_owned()), Self::Text))
    }
}

/// The keyword arguments of a call: parameter name and value, in the order in which they are passed.
pub type Arguments = Vec<(Arc<str>, Value)>;

/// One record of the input that is to be answered.
#[derive(Debug)]
pub struct Row {
    /// 0-based position among the data records of the input file.
    pub id: u64,
    /// 1-based line of the input file on which the record starts.
    pub line: u64,
    /// Hash of the record, which the row's outcome carries too.
    pub hash: RowHash,
    /// What the predictor is called with, or why it must not be called (class `input`).
    pub arguments: Result<Arc<Arguments>, CallError>,
}
