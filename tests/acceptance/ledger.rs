//! The time ledger: the parts of each row's time are named and recorded, and they add up.

use super::support::job::{Job, PLACES};
use serde_json::Value;

/// The parts a row's time is made of.
const PARTS: [&str; 7] = ["starting", "paced", "queued", "running", "backoff", "bridge", "recording"];

fn sum(parts: &Value) -> f64 {
    PARTS.iter().map(|part| parts[part].as_f64().unwrap_or_else(|| panic!("{part} in {parts}"))).sum()
}

/// What the journal's `timing_ns` holds, in its order.
const RECORDED: [&str; 10] = [
    "starting",
    "paced",
    "queued",
    "running",
    "backoff",
    "bridge",
    "latency",
    "recording",
    "row",
    "recorded",
];

/// The recorded times of each row, by name.
fn recorded(job: &Job) -> Vec<Value> {
    let journal = job.read("answers.csv.journal");
    let records =
        journal.lines().filter(|line| !line.trim().is_empty()).map(|line| line.split_at(9).1.to_owned());
    let records = records.map(|json| serde_json::from_str::<Value>(&json).unwrap());
    let named = |record: Value| {
        let times = record.get("outcome")?["timing_ns"].as_array().unwrap().clone();
        assert_eq!(times.len(), RECORDED.len());
        Some(RECORDED.iter().map(|name| (*name).to_owned()).zip(times).collect())
    };
    records.filter_map(named).map(Value::Object).collect()
}

/// The parts are the row's time: of every row in its record, and of all in the report.
fn agrees(job: &Job) {
    let report = job.report();
    let (parts, row) = (sum(&report["time_ms"]), &report["row_ms"]);
    let whole = row["mean"].as_f64().unwrap() * row["count"].as_f64().unwrap();
    assert!((parts / whole - 1.0).abs() < 0.01, "{parts} of {whole} ms: {}", report["time_ms"]);
    let rows = recorded(job);
    let missing = |timing: &&Value| {
        let (parts, whole) = (sum(timing), timing["row"].as_f64().unwrap());
        assert!(parts < whole * 1.01 + 1e6, "{parts} of {whole} ns: {timing}");
        parts < whole * 0.99 - 1e6
    };
    let missing: Vec<_> = rows.iter().filter(missing).collect();
    // A busy machine may take the processor away between two parts.
    assert!(missing.len() <= rows.len() / 100, "{missing:?}");
}

fn time(job: &Job, part: &str) -> f64 {
    job.report()["time_ms"][part].as_f64().unwrap()
}

#[test]
fn the_parts_of_slow_retried_and_timed_out_rows_add_up_to_their_time() {
    for workers in PLACES {
        let job = Job::new().env("TAB_WORKERS", workers).questions(40).predictor(
            "
async def predict(question, row_id, attempt):
    if row_id % 5 == 1:
        await asyncio.sleep(0.03)
    if row_id % 5 == 2 and attempt == 1:
        raise ConnectionError('dropped')
    if row_id % 5 == 3 and attempt == 1:
        await asyncio.sleep(60)
    if row_id == 4:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(60)
    return question
",
        );
        job.process_with(&["-c", "8", "--timeout", "100ms", "--retries", "1", "--backoff", "50ms"]).expect(3);
        agrees(&job);
        let report = job.report();
        assert!(report["attempts"]["abandoned"].as_u64().unwrap() >= 1, "{}", report["attempts"]);
        assert!(time(&job, "backoff") > 8.0 * 20.0, "8 dropped calls and 8 timeouts wait some 50 ms");
        // 8 rows of 30 ms, 8 timeouts of 100 ms, and one row that holds on for twice 100 and 80 ms.
        let running = time(&job, "running");
        assert!(running > 1_300.0 && running < 2_500.0, "{running}");
    }
}

#[test]
fn the_parts_of_rows_that_take_no_time_add_up_too() {
    for workers in PLACES {
        let job = Job::new().env("TAB_WORKERS", workers).questions(3_000).echo();
        job.process_with(&["-c", "64"]).expect(0);
        agrees(&job);
    }
}

#[test]
fn the_parts_of_plain_functions_add_up_with_the_wait_for_a_thread() {
    for workers in PLACES {
        let job = Job::new()
            .env("TAB_WORKERS", workers)
            .questions(30)
            .predictor("def predict(question):\n    time.sleep(0.02)\n    return question\n");
        job.process_with(&["-c", "4"]).expect(0);
        agrees(&job);
        assert!(time(&job, "running") >= 600.0, "30 rows of 20 ms");
    }
}

#[test]
fn waiting_for_a_rate_is_told_from_waiting_for_a_slot() {
    for workers in PLACES {
        let job = Job::new().env("TAB_WORKERS", workers).questions(12).echo();
        job.process_with(&["--rpm", "600"]).expect(0);
        agrees(&job);
        assert!(time(&job, "paced") > 500.0 && time(&job, "queued") < 100.0, "{}", job.report()["time_ms"]);

        let job = Job::new()
            .env("TAB_WORKERS", workers)
            .questions(12)
            .predictor("async def predict(question):\n    await asyncio.sleep(0.05)\n    return question\n");
        job.process_with(&["--sequential", "--rpm", "60000"]).expect(0);
        agrees(&job);
        assert!(time(&job, "queued") > 500.0 && time(&job, "paced") < 100.0, "{}", job.report()["time_ms"]);
    }
}

#[test]
fn the_journal_alone_tells_the_same_times() {
    let job = Job::new().questions(500).echo();
    job.process().expect(0);
    let told = job.report();
    std::fs::remove_file(job.path("answers.csv.report.json")).unwrap();
    job.run(&["report", "answers.csv", "--json", "rebuilt.json"]).expect(0);
    let rebuilt: Value = serde_json::from_str(&job.read("rebuilt.json")).unwrap();
    for part in PARTS {
        let [told, rebuilt] = [&told, &rebuilt].map(|report| report["time_ms"][part].as_f64().unwrap());
        assert!((told - rebuilt).abs() < 1e-6, "{part}: {told} and {rebuilt}");
    }
    assert_eq!(told["row_ms"], rebuilt["row_ms"]);
    assert_eq!(told["wall_s"], rebuilt["wall_s"]);
}
