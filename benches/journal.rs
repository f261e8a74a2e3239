//! Measures how long a journal of a million rows takes to write, recover and read row by row. Recovering it should take
//! less than 3 s.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a bench prints, and fails by panicking")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio_asyncio_bridge::journal::{Header, InputIdentity, Journal, Reader, VERSION};
use tokio_asyncio_bridge::outcome::{Answer, Outcome, Timing};
use tokio_asyncio_bridge::row::{RowHash, Value};

const ROWS: u64 = 1_000_000;
const BATCH: u64 = 100;

fn main() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("answers.csv.journal");
    let begun = Instant::now();
    let mut journal = Journal::create(&path, &header()).unwrap();
    for first in (0..ROWS).step_by(BATCH as usize) {
        let rows = first..first + BATCH;
        journal.append_started(&rows.clone().map(|row| (row, RowHash(row))).collect::<Vec<_>>()).unwrap();
        rows.for_each(|row| journal.append_outcome(&answered(row)).unwrap());
        journal.commit().unwrap();
    }
    journal.checkpoint().unwrap();
    let (written, stats) = (begun.elapsed(), journal.stats());
    drop(journal);

    let begun = Instant::now();
    let (_journal, recovered) = Journal::recover(&path, |_| ()).unwrap();
    let read = begun.elapsed();

    let begun = Instant::now();
    let mut reader = Reader::open(&path).unwrap();
    assert!((0..ROWS).all(|row| reader.outcome(&recovered.index, row).unwrap().is_some()));
    let by_row = begun.elapsed();

    println!("\na journal of {ROWS} rows, {} MB, {} syncs\n", stats.bytes / 1_000_000, stats.syncs);
    println!("written      {:>6.2} s, the last sync included", written.as_secs_f64());
    println!("recovered    {:>6.2} s", read.as_secs_f64());
    println!("read by row  {:>6.2} s", by_row.as_secs_f64());
}

fn header() -> Header {
    Header {
        version: VERSION,
        program: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: "2026-01-01T00:00:00Z".to_owned(),
        pid: std::process::id(),
        argv: vec!["tokio-asyncio-bridge".to_owned(), "process".to_owned(), "q.csv".to_owned()],
        input: InputIdentity {
            path: "/data/q.csv".to_owned(),
            format: "csv".to_owned(),
            delimiter: Some(','),
            encoding: "UTF-8".to_owned(),
            sha256: "00".repeat(32),
            rows: ROWS,
            empty: 0,
            header_hash: Some(RowHash(1)),
        },
        selection: (0..ROWS).into(),
        identity: BTreeMap::new(),
        predictor_sha256: None,
        prompt: None,
        settings: serde_json::json!({}),
    }
}

fn answered(row: u64) -> Outcome {
    let field = |name: &str| (name.into(), Value::Text(format!("{name} {row}")));
    let fields = vec![field("answer"), field("reasoning")];
    let timing = Timing { latency: Duration::from_micros(1_234_567), ..Timing::default() };
    Outcome { timing, ..Outcome::new(row, RowHash(row), Ok(Answer { fields, ..Answer::default() })) }
}
