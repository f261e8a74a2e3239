//! Runs ten million rows through real Python, and checks that each is answered once, at 16 bytes of memory a row.

use std::time::Duration;

use crate::support::job::{Done, Job};

const ROWS: usize = 10_000_000;
const FEW: usize = 100_000;
/// How much the memory that the allocator keeps for calls in flight may differ between runs, in bytes.
const NOISE: f64 = 4e6;

/// A predictor that notes its row in four bytes and returns at once.
const AT_ONCE: &str = r#"
rows = os.open(os.path.join(os.path.dirname(__file__), "rows"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
async def predict(question, row_id):
    os.write(rows, row_id.to_bytes(4, "little"))
    return question
"#;

/// What a run took.
pub(crate) struct Many {
    pub(crate) rows: usize,
    pub(crate) rows_per_s: f64,
    pub(crate) took: Duration,
    /// The peak of resident memory in bytes.
    pub(crate) peak_memory: u64,
    /// Memory in bytes for each row beyond the first few.
    pub(crate) bytes_a_row: f64,
}

fn run(rows: usize) -> (Job, Done) {
    let mut job = Job::new().questions(rows).predictor(AT_ONCE).args(["-c", "100"]);
    job.patience = Duration::from_secs(1800);
    let done = job.process().expect(0);
    (job, done)
}

/// Answers the rows and checks each answer.
pub(crate) fn answered() -> Many {
    let few = run(FEW).1.peak_memory;
    let (job, done) = run(ROWS);
    let mut called = vec![false; ROWS];
    for row in std::fs::read(job.path("rows")).unwrap().chunks(4) {
        let row = u32::from_le_bytes(row.try_into().unwrap()) as usize;
        assert!(!std::mem::replace(&mut called[row], true), "row {row} was asked twice");
    }
    assert!(called.iter().all(|called| *called));
    let mut reader = csv::Reader::from_path(job.path("answers.csv")).unwrap();
    let (mut record, mut row) = (csv::StringRecord::new(), 0);
    while reader.read_record(&mut record).unwrap() {
        assert_eq!(record[0].parse(), Ok(row));
        assert_eq!((&record[1], &record[3]), (&record[2], "ok"), "row {row}");
        row += 1;
    }
    assert_eq!(row, ROWS);
    let grown = done.peak_memory.saturating_sub(few) as f64;
    assert!(grown <= 16.0 * (ROWS - FEW) as f64 + NOISE, "{grown} bytes for {ROWS} rows");
    Many {
        rows: ROWS,
        rows_per_s: job.report()["rows_per_s"].as_f64().unwrap(),
        took: done.took,
        peak_memory: done.peak_memory,
        bytes_a_row: grown / (ROWS - FEW) as f64,
    }
}
