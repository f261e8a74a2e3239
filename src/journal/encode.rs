//! The two records that every row has, written as serde would write [`Record`](super::Record), at a third of the cost. Not
//! the line around them.
//!
//! They are most of what the journal costs: serde looks at every byte of every name for something to escape.

use serde::Serialize;
use serde_json::Result;

use super::record::{Verdict, timing_ns};
use crate::row::{Outcome, RowHash};

/// `{"started":[[row,"hash"],…]}`
pub(super) fn started(rows: &[(u64, RowHash)], out: &mut Vec<u8>) {
    text(out, r#"{"started":["#);
    for (place, (row, row_hash)) in rows.iter().enumerate() {
        text(out, if place == 0 { "[" } else { ",[" });
        number(out, *row);
        text(out, ",");
        hash(out, *row_hash);
        text(out, "]");
    }
    text(out, "]}");
}

/// `{"outcome":{…}}`
pub(super) fn outcome(outcome: &Outcome, out: &mut Vec<u8>) -> Result<()> {
    text(out, r#"{"outcome":{"row":"#);
    number(out, outcome.row);
    text(out, r#","hash":"#);
    hash(out, outcome.hash);
    text(out, r#","result":"#);
    match &outcome.result {
        Ok(answer) => {
            text(out, r#"{"ok":{"fields":{"#);
            for (place, (name, value)) in answer.fields.iter().enumerate() {
                if place > 0 {
                    text(out, ",");
                }
                json(out, &**name)?;
                text(out, ":");
                json(out, value)?;
            }
            text(out, "}");
            if let Some(first_chunk) = answer.first_chunk {
                text(out, r#","first_chunk_ns":"#);
                number(out, first_chunk.as_nanos() as u64);
            }
            if let Some(reason) = &answer.finish_reason {
                text(out, r#","finish_reason":"#);
                json(out, &**reason)?;
            }
            text(out, "}}");
        }
        Err(error) => json(out, &Verdict::<()>::failed(error))?,
    }
    text(out, r#","attempts":"#);
    number(out, outcome.attempts.into());
    if !outcome.errors.is_empty() {
        text(out, r#","errors":"#);
        json(out, &outcome.errors)?;
    }
    if outcome.abandoned > 0 {
        text(out, r#","abandoned":"#);
        number(out, outcome.abandoned.into());
    }
    if outcome.unanswered > 0 {
        text(out, r#","unanswered":"#);
        number(out, outcome.unanswered.into());
    }
    if let Some(usage) = &outcome.usage {
        text(out, r#","usage":"#);
        json(out, usage)?;
    }
    text(out, r#","timing_ns":"#);
    for (place, part) in timing_ns(&outcome.timing).into_iter().enumerate() {
        text(out, if place == 0 { "[" } else { "," });
        number(out, part);
    }
    text(out, "]}}");
    Ok(())
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

fn number(out: &mut Vec<u8>, number: u64) {
    text(out, itoa::Buffer::new().format(number));
}

fn hash(out: &mut Vec<u8>, hash: RowHash) {
    text(out, "\"");
    out.extend_from_slice(&hash.hex());
    text(out, "\"");
}

fn json(out: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) -> Result<()> {
    serde_json::to_writer(out, value)
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::sync::Arc;
    use std::time::Duration;

    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;
    use crate::call::{CallError, FailureKind, PredictorError};
    use crate::journal::record::{AnswerFields, Record, Recorded};
    use crate::row::{Answer, Timing, Usage, Value};

    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            "[a-c\"\\\\\\n\u{1f600}\\x00]{0,9}".prop_map(Value::Text),
            prop_oneof![Just("null"), Just("1e20"), Just(r#"{"a": [1, "\ud800"]}"#)]
                .prop_map(|json| Value::Json(RawValue::from_string(json.to_owned()).unwrap())),
        ]
    }

    fn answer() -> impl Strategy<Value = Answer> {
        let fields = proptest::collection::vec(("[a\"é]{0,3}".prop_map(Arc::from), value()), 0..4);
        let told = (any::<Option<Duration>>(), proptest::option::of("[a\"]{0,3}".prop_map(Arc::from)));
        (fields, told).prop_map(|(fields, (first_chunk, finish_reason))| Answer {
            fields,
            usage: None,
            first_chunk,
            finish_reason,
        })
    }

    fn error() -> impl Strategy<Value = CallError> {
        let raised = ("[a-b\"]{0,3}", "[a\"\\n]{0,9}", proptest::option::of("[a\"]{0,3}"));
        prop_oneof![
            "[a\"]{0,5}".prop_map(CallError::Input),
            any::<u16>().prop_map(|seconds| CallError::Timeout(Duration::from_secs(seconds.into()))),
            raised.prop_map(|(class, message, traceback)| CallError::Predictor(Box::new(PredictorError {
                class: class.into(),
                message,
                kind: FailureKind::Throttled,
                status: None,
                retry_after: None,
                usage: None,
                unanswered: None,
                traceback,
            }))),
        ]
    }

    fn outcomes() -> impl Strategy<Value = Outcome> {
        let result = prop_oneof![answer().prop_map(Ok), error().prop_map(Err)];
        let usage = (any::<u32>(), proptest::option::of(0.0..1e3)).prop_map(|(tokens, cost_usd)| Usage {
            input: tokens.into(),
            output: 7,
            calls: 1,
            cost_usd,
        });
        let counts = (
            any::<u32>(),
            0..3_u32,
            0..3_u32,
            proptest::collection::vec("[a\"]{0,3}".prop_map(Arc::from), 0..3),
        );
        let times = proptest::array::uniform3(any::<u32>());
        (any::<u64>(), any::<u64>(), result, counts, proptest::option::of(usage), times).prop_map(
            |(row, hash, result, (attempts, abandoned, unanswered, errors), usage, times)| {
                let [starting, latency, recorded] = times.map(|time| Duration::from_micros(time.into()));
                let timing = Timing { starting, latency, recorded, ..Timing::default() };
                let hash = RowHash(hash);
                Outcome { row, hash, result, attempts, errors, abandoned, unanswered, usage, timing }
            },
        )
    }

    proptest! {
        #[test]
        fn an_outcome_is_written_as_serde_writes_it(made in outcomes()) {
            let mut out = Vec::new();
            outcome(&made, &mut out).unwrap();
            let expected = serde_json::to_string(&Record::Outcome(Recorded::of(&made))).unwrap();
            prop_assert_eq!(String::from_utf8(out).unwrap(), expected);
        }

        #[test]
        fn so_are_rows_that_are_started(rows in proptest::collection::vec(any::<(u64, u64)>(), 0..4)) {
            let rows: Vec<_> = rows.into_iter().map(|(row, hash)| (row, RowHash(hash))).collect();
            let mut out = Vec::new();
            started(&rows, &mut out);
            let record = Record::<AnswerFields<'_>>::Started(Cow::Borrowed(&rows));
            prop_assert_eq!(String::from_utf8(out).unwrap(), serde_json::to_string(&record).unwrap());
        }
    }
}
