//! One value of the answers file, independent of the format.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::outcome::Outcome;
use crate::row::Value;

/// A value, borrowed from the record of the input or from the outcome.
#[derive(Debug, Clone)]
pub(super) enum Cell<'a> {
    /// The row has no such value.
    Absent,
    /// The row has the value, and it is null.
    Null,
    /// A string.
    Text(Cow<'a, str>),
    /// JSON as it was written.
    Json(&'a RawValue),
    /// A number written by this program.
    Number(String),
}

impl Cell<'_> {
    /// The value as CSV holds it: null is empty, nested values are JSON.
    pub(super) fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Absent | Self::Null => Cow::Borrowed(""),
            Self::Text(text) => Cow::Borrowed(text),
            Self::Number(number) => Cow::Borrowed(number),
            Self::Json(raw) => match raw.get() {
                "null" => Cow::Borrowed(""),
                // A string that escapes half a surrogate pair is not valid text, and is kept as written.
                json if json.starts_with('"') => {
                    serde_json::from_str(json).map_or(Cow::Borrowed(json), Cow::Owned)
                }
                json => Cow::Borrowed(json),
            },
        }
    }
}

/// What `--fields` may name besides the fields of the predictor, which take precedence.
pub(crate) const TOLD: [&str; 3] = ["finish_reason", "input_tokens", "output_tokens"];

fn told<'a>(outcome: &'a Outcome, field: &str) -> Cell<'a> {
    let tokens = |count: u64| Cell::Number(count.to_string());
    let told = match field {
        "finish_reason" => outcome
            .result
            .as_ref()
            .ok()
            .and_then(|answer| Some(Cell::Text(Cow::Borrowed(answer.finish_reason.as_deref()?)))),
        "input_tokens" => outcome.usage().map(|usage| tokens(usage.input)),
        "output_tokens" => outcome.usage().map(|usage| tokens(usage.output)),
        _ => None,
    };
    told.unwrap_or(Cell::Absent)
}

impl<'a> From<&'a Value> for Cell<'a> {
    fn from(value: &'a Value) -> Self {
        match value {
            Value::Text(text) => Self::Text(Cow::Borrowed(text)),
            Value::Json(raw) => Self::Json(raw),
        }
    }
}

/// Appends the values that the outcome of a row adds: one for each of `fields`, then status, error, attempts and
/// latency.
pub(super) fn added<'a>(outcome: Option<&'a Outcome>, fields: &[String], cells: &mut Vec<Cell<'a>>) {
    cells.reserve(fields.len() + 4);
    let Some(outcome) = outcome else {
        cells.extend(fields.iter().map(|_| Cell::Absent));
        cells.extend([Cell::Text("unfinished".into()), Cell::Null, Cell::Number("0".to_owned()), Cell::Null]);
        return;
    };
    match &outcome.result {
        Ok(answer) => {
            cells.extend(fields.iter().map(|field| {
                let value = answer.fields.iter().rev().find(|(name, _)| **name == **field);
                value.map_or_else(|| told(outcome, field), |(_, value)| value.into())
            }));
            cells.extend([Cell::Text("ok".into()), Cell::Null]);
        }
        Err(failure) => {
            let (class, message) = (&failure.class, &failure.message);
            let error = if message.is_empty() { class.to_string() } else { format!("{class}: {message}") };
            cells.extend(fields.iter().map(|field| told(outcome, field)));
            cells.extend([Cell::Text("failed".into()), Cell::Text(error.into())]);
        }
    }
    cells.push(Cell::Number(outcome.attempts.to_string()));
    cells.push(match outcome.attempts {
        0 => Cell::Null,
        _ => Cell::Number(format!("{:.3}", outcome.timing.latency.as_secs_f64() * 1e3)),
    });
}
