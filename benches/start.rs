//! Measures the time from the start of the process to its first call, and from its last call to its end, without DSPy.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a bench prints, and fails by panicking")]

use std::process::{Command, Stdio};

use rustix::time::{ClockId, clock_gettime};

/// Runs on each event loop.
const ROUNDS: usize = 9;
const ROWS: usize = 100;
/// Logs when each call is made, on the clock of [`now_ms`].
const PREDICTOR: &str = "
import time

log = open('calls', 'a')


async def predict(question: str) -> str:
    print(time.monotonic() * 1e3, file=log, flush=True)
    return question
";

fn main() {
    println!("\n{ROWS} rows, median of {ROUNDS} runs in turn, ms\n");
    println!("{:12}{:>24}{:>24}", "", "start to first call", "last call to exit");
    let loops = ["asyncio", "uvloop"];
    let mut runs = loops.map(|_| Vec::new());
    for _ in 0..ROUNDS {
        for (event_loop, runs) in loops.iter().zip(&mut runs) {
            runs.push(run(event_loop));
        }
    }
    for (event_loop, runs) in loops.iter().zip(&runs) {
        let [before, after] = [0, 1].map(|which| {
            let mut figures: Vec<f64> = runs.iter().map(|run| run[which]).collect();
            figures.sort_by(f64::total_cmp);
            figures[ROUNDS / 2]
        });
        println!("{event_loop:12}{before:>24.0}{after:>24.1}");
    }
}

/// Milliseconds before the first call and after the last.
fn run(event_loop: &str) -> [f64; 2] {
    let directory = tempfile::tempdir_in("target").unwrap();
    let file = |name: &str| directory.path().join(name);
    let questions = "What is one plus one?\n".repeat(ROWS);
    std::fs::write(file("questions.csv"), "question\n".to_owned() + &questions).unwrap();
    std::fs::write(file("predictor.py"), PREDICTOR).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tokio-asyncio-bridge"));
    command.current_dir(&directory).args(["process", "questions.csv", "--predictor", "predictor.py:predict"]);
    command.args(["--event-loop", event_loop, "--python"]);
    command.arg(std::env::current_dir().unwrap().join(".venv/bin/python"));
    let began = now_ms();
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    let ended = now_ms();
    assert!(status.success());
    let calls = std::fs::read_to_string(file("calls")).unwrap();
    let calls: Vec<f64> = calls.lines().map(|call| call.parse().unwrap()).collect();
    assert_eq!(calls.len(), ROWS);
    [calls[0] - began, ended - calls[ROWS - 1]]
}

/// `CLOCK_MONOTONIC`, which is Python's `time.monotonic` too.
fn now_ms() -> f64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as f64 * 1e3 + now.tv_nsec as f64 / 1e6
}
