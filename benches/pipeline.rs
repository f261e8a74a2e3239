//! What a row costs from file to file: the program beside a hand-written asyncio script, start and end included.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a bench prints, and fails by panicking")]

mod support;

use std::fmt::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use self::support::{Column, Design, compare, script};

const ROWS: usize = 100_000;

fn main() {
    let directory = tempfile::tempdir().unwrap();
    let input = directory.path().join("questions.csv");
    let mut rows = "id,question\n".to_owned();
    (0..ROWS).for_each(|row| writeln!(rows, "{row},\"What is {row}, plus one?\"").unwrap());
    std::fs::write(&input, rows).unwrap();

    let columns = ["asyncio", "uvloop"]
        .into_iter()
        .flat_map(|event_loop| ["at_once", "sleep_zero"].map(|predictor| Column { event_loop, predictor }));
    let designs: [Design; 2] = [
        ("asyncio script", Box::new(|column| timed(&input, column, by_script))),
        ("tokio-asyncio-bridge process", Box::new(|column| timed(&input, column, by_program))),
    ];
    let title = format!("microseconds a row, {ROWS} rows of CSV, 100 in flight, the whole process");
    compare(&title, 0, &columns.collect::<Vec<_>>(), &designs);
}

/// Times one run, whose answers go to a file that is new.
fn timed(input: &Path, column: &Column, run: fn(&str, &str, &Column)) -> f64 {
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("answers.jsonl");
    let (input, output) = (input.to_str().unwrap(), output.to_str().unwrap());
    let started = Instant::now();
    run(input, output, column);
    let micros = started.elapsed().as_secs_f64() / ROWS as f64 * 1e6;
    assert_eq!(std::fs::read_to_string(output).unwrap().lines().count(), ROWS);
    micros
}

fn by_script(input: &str, output: &str, column: &Column) {
    script(&["pipeline", input, output, column.predictor, column.event_loop]);
}

fn by_program(input: &str, output: &str, column: &Column) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tokio-asyncio-bridge"));
    command.args(["process", input, "-o", output, "--concurrency", "100", "--quiet"]);
    command.arg(format!("--predictor=benches/script.py:{}", column.predictor));
    command.arg(format!("--event-loop={}", column.event_loop));
    assert!(command.stderr(Stdio::inherit()).status().unwrap().success());
}
