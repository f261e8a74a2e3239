//! Writes the records that every row has. They come out as serde writes them, at half the cost: serde searches every
//! name for characters to escape.

use std::borrow::Cow;

use super::format::Record;
use crate::outcome::{Answer, Outcome};
use crate::row::RowHash;

/// Appends `{"started":[[row,"hash"],…]}`.
pub(super) fn started(rows: &[(u64, RowHash)], out: &mut Vec<u8>) {
    text(out, r#"{"started":"#);
    let mut before = "[[";
    for (row, row_hash) in rows {
        text(out, before);
        number(out, *row);
        text(out, ",");
        hash(out, *row_hash);
        before = "],[";
    }
    text(out, if rows.is_empty() { "[]}" } else { "]]}" });
}

/// Appends `{"outcome":{…}}`.
pub(super) fn outcome(outcome: &Outcome, out: &mut Vec<u8>) -> serde_json::Result<()> {
    // A failure, and an answer that tells more than its fields, costs far more to get than to write.
    let Outcome {
        row,
        hash: row_hash,
        result: Ok(Answer { fields, usage: None, first_chunk: None, finish_reason: None, request_id: None }),
        attempts,
        abandoned: false,
        told_before: false,
        set_aside: false,
        earlier_usage: None,
        timing,
    } = outcome
    else {
        return serde_json::to_writer(out, &Record::Outcome(Cow::Borrowed(outcome)));
    };
    text(out, r#"{"outcome":{"row":"#);
    number(out, *row);
    text(out, r#","hash":"#);
    hash(out, *row_hash);
    text(out, r#","result":{"ok":{"fields":{"#);
    for (place, (name, value)) in fields.iter().enumerate() {
        if place > 0 {
            text(out, ",");
        }
        serde_json::to_writer(&mut *out, name)?;
        text(out, ":");
        serde_json::to_writer(&mut *out, value)?;
    }
    text(out, r#"}}},"attempts":"#);
    number(out, u64::from(*attempts));
    text(out, r#","timing_ns":"#);
    let mut before = "[";
    for part in timing.nanos() {
        text(out, before);
        number(out, part);
        before = ",";
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
