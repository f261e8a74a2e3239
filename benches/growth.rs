//! Measures rows a second and memory from ten thousand to ten million rows. Both should stay the same.
//!
//! `cargo bench --bench growth` goes up to a million; `-- 10000000` measures ten million too.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a bench prints, and fails by panicking")]

use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

fn main() {
    let most = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(1_000_000);
    println!("\nan async function that returns at once, 100 in flight, the whole process\n");
    println!("{:>12}{:>12}{:>12}{:>12}{:>20}", "rows", "seconds", "rows/s", "peak MB", "more bytes a row");
    let mut before: Option<(u64, u64)> = None;
    for rows in [10_000, 100_000, 1_000_000, 10_000_000].into_iter().filter(|rows| *rows <= most) {
        let (seconds, bytes) = run(rows);
        let more = before.map(|(fewer, less)| bytes.saturating_sub(less) as f64 / (rows - fewer) as f64);
        let more = more.map_or_else(String::new, |more| format!("{more:.1}"));
        let rate = rows as f64 / seconds;
        println!("{rows:>12}{seconds:>12.2}{rate:>12.0}{:>12.1}{more:>20}", bytes as f64 / 1e6);
        before = Some((rows, bytes));
    }
}

/// Seconds and peak memory in bytes of one run.
fn run(rows: u64) -> (f64, u64) {
    let directory = tempfile::tempdir_in("target").unwrap();
    let input = directory.path().join("questions.csv");
    let mut file = BufWriter::new(std::fs::File::create(&input).unwrap());
    writeln!(file, "id,question").unwrap();
    (0..rows).for_each(|row| writeln!(file, "{row},\"What is {row}, plus one?\"").unwrap());
    file.into_inner().unwrap();
    let started = Instant::now();
    let mut running = process(&input, &directory.path().join("answers.csv"));
    let mut peak = 0;
    let status = loop {
        peak = peak_bytes(running.id()).unwrap_or(peak);
        match running.try_wait().unwrap() {
            Some(status) => break status,
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    assert!(status.success());
    (started.elapsed().as_secs_f64(), peak)
}

fn process(input: &Path, output: &Path) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tokio-asyncio-bridge"));
    command.arg("process").arg(input).arg("--output").arg(output);
    command.args(["--concurrency=100", "--predictor=benches/script.py:at_once", "--quiet"]);
    command.spawn().unwrap()
}

/// `VmHWM` of `proc_pid_status(5)`; none once the process has ended.
fn peak_bytes(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}
