//! Measures what durability costs: one job at 500 rows a second, with its journal on disk and in memory. The target is
//! at most 5 %.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a bench prints, and fails by panicking")]

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

const ROWS: usize = 5_000;
/// Each call sleeps 128 ms, so that 64 in flight make 500 rows a second.
const CALLS: usize = 64;
const CALL_S: f64 = 0.128;
const ROUNDS: usize = 5;

fn main() {
    let disk = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let memory = tempfile::tempdir_in("/dev/shm").expect("a file system in memory at `/dev/shm`");
    let mut walls = [const { Vec::new() }; 2];
    let (mut syncs, mut longest) = (0, 0.0_f64);
    for _ in 0..ROUNDS {
        for (place, walls) in [&disk, &memory].into_iter().zip(&mut walls) {
            let report = run(place.path());
            walls.push(report["wall_s"].as_f64().unwrap());
            if place.path() == disk.path() {
                syncs = report["journal"]["syncs"].as_u64().unwrap();
                longest = longest.max(report["journal"]["longest_unsynced_ms"].as_f64().unwrap());
            }
        }
    }
    let [on_disk, in_memory] = walls.map(median);
    let ideal = ROWS.div_ceil(CALLS) as f64 * CALL_S;
    println!(
        "\n{ROWS} rows, {CALLS} calls of {CALL_S} s at once; wall seconds, median of {ROUNDS} in turn\n"
    );
    println!("ideal              {ideal:>7.3}");
    println!("journal in memory  {in_memory:>7.3}  ({:.0} rows/s)", ROWS as f64 / in_memory);
    println!("journal on disk    {on_disk:>7.3}  ({syncs} syncs, longest unsynced {longest:.0} ms)");
    println!("durability         {:>+7.2} %", (on_disk / in_memory - 1.0) * 100.0);
}

/// Runs the job with all its files in the directory and returns its report.
fn run(directory: &Path) -> Value {
    let mut rows = "question\n".to_owned();
    (0..ROWS).for_each(|row| writeln!(rows, "What is {row} plus one?").unwrap());
    std::fs::write(directory.join("questions.csv"), rows).unwrap();
    let code = format!(
        "import asyncio\nasync def predict(question):\n    await asyncio.sleep({CALL_S})\n    return question * 10\n"
    );
    std::fs::write(directory.join("predictor.py"), code).unwrap();
    let status = Command::new(env!("CARGO_BIN_EXE_tokio-asyncio-bridge"))
        .args(["process", "questions.csv", "-o", "answers.csv", "--predictor", "predictor.py:predict"])
        .args(["--force", "--quiet", "--concurrency", &CALLS.to_string()])
        .env("VIRTUAL_ENV", Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv"))
        .current_dir(directory)
        .status();
    assert!(status.unwrap().success());
    let report = std::fs::read(directory.join("answers.csv.report.json")).unwrap();
    serde_json::from_slice(&report).unwrap()
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
