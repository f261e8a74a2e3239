//! Headers and outcomes for the tests of the layers that record or read them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Header, InputIdentity, VERSION};
use crate::error::{CallError, Failure};
use crate::outcome::{Answer, Outcome, Timing};
use crate::row::{RowHash, Value};
use crate::selection::Rows;
use crate::usage::Usage;

/// The header of a session whose process id is `pid`.
pub(crate) fn header(pid: u32, selection: impl Into<Rows>) -> Header {
    let selection = selection.into();
    Header {
        version: VERSION,
        program: "0.1.0".to_owned(),
        started_at: "2026-01-01T00:00:00Z".to_owned(),
        pid,
        argv: vec!["tokio-asyncio-bridge".to_owned(), "process".to_owned(), "q.csv".to_owned()],
        input: InputIdentity {
            path: "/data/q.csv".to_owned(),
            format: "csv".to_owned(),
            delimiter: Some(','),
            encoding: "UTF-8".to_owned(),
            sha256: "00".repeat(32),
            rows: selection.end,
            empty: 0,
            header_hash: Some(RowHash(1)),
        },
        selection,
        identity: BTreeMap::from([("predictor".to_owned(), "p.py:ask".to_owned())]),
        predictor_sha256: None,
        prompt: None,
        settings: serde_json::json!({"concurrency": 16}),
    }
}

/// The hash of the row in the outcomes below.
pub(crate) fn hash_of(row: u64) -> RowHash {
    RowHash::of(format!("question {row}").as_bytes())
}

/// An answer with the fields `answer` and `reasoning`.
pub(crate) fn answered(row: u64) -> Outcome {
    let field = |name: &str| (name.into(), Value::Text(format!("{name} {row}")));
    let fields = vec![field("answer"), field("reasoning")];
    let usage = Some(USAGE);
    outcome(row, Ok(Answer { fields, usage, ..Answer::default() }))
}

/// A failure by timeout.
pub(crate) fn failed(row: u64) -> Outcome {
    outcome(row, Err(CallError::Timeout(Duration::from_secs(1)).into()))
}

const USAGE: Usage = Usage { input: 12, output: 34, calls: 1, cost_usd: None };

fn outcome(row: u64, result: Result<Answer, Failure>) -> Outcome {
    let timing = Timing { latency: Duration::from_micros(1_234_567), ..Timing::default() };
    Outcome { timing, ..Outcome::new(row, hash_of(row), result) }
}
