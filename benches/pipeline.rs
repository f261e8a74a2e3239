//! Measures what a row costs from file to file, including start and end: the program next to a hand-written asyncio
//! script.
//!
//! `cargo bench --bench pipeline -- uvloop sleep_zero` measures only the lines that contain all these words.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a bench prints, and panics"
)]

mod support;

use std::fmt::{Display, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use self::support::{Cost, Design, chosen, compare, script};

const ROWS: usize = 200_000;
const IN_FLIGHT: &str = "100";

/// The conditions under which both are measured.
struct Condition {
    event_loop: &'static str,
    /// A function of `benches/script.py`.
    predictor: &'static str,
}

impl Display for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:7} {}", self.event_loop, self.predictor)
    }
}

fn main() {
    let directory = tempfile::tempdir_in("target").unwrap();
    let input = directory.path().join("questions.csv");
    let mut rows = "id,question\n".to_owned();
    (0..ROWS).for_each(|row| writeln!(rows, "{row},\"What is {row}, plus one?\"").unwrap());
    std::fs::write(&input, rows).unwrap();

    let conditions = ["asyncio", "uvloop"].into_iter().flat_map(|event_loop| {
        ["at_once", "sleep_zero"].map(|predictor| Condition { event_loop, predictor })
    });
    let timed = |run: fn(&str, &str, &Condition)| {
        let (input, directory) = (&input, directory.path());
        Box::new(move |condition: &Condition| cost(input, directory, condition, run))
    };
    let designs: [Design<Condition>; 3] = [
        ("script: workers", timed(|input, output, condition| by_script("workers", input, output, condition))),
        (
            "script: Semaphore",
            timed(|input, output, condition| by_script("semaphore", input, output, condition)),
        ),
        ("this program", timed(by_program)),
    ];
    compare(
        &format!("{ROWS} rows of CSV, {IN_FLIGHT} in flight, the whole process"),
        0,
        &chosen(conditions),
        &designs,
    );
}

/// Measures one run, which writes its answers to a new file on the input's file system.
fn cost(input: &Path, directory: &Path, condition: &Condition, run: fn(&str, &str, &Condition)) -> Cost {
    let directory = tempfile::tempdir_in(directory).unwrap();
    let output = directory.path().join("answers.jsonl");
    let (input, output) = (input.to_str().unwrap(), output.to_str().unwrap());
    let (started, cpu) = (Instant::now(), processor_s());
    run(input, output, condition);
    let cost = Cost::of(started.elapsed().as_secs_f64(), processor_s() - cpu, ROWS);
    assert_eq!(std::fs::read_to_string(output).unwrap().lines().count(), ROWS);
    cost
}

fn by_script(form: &str, input: &str, output: &str, condition: &Condition) {
    script(&[form, input, output, IN_FLIGHT, condition.predictor, condition.event_loop]);
}

fn by_program(input: &str, output: &str, condition: &Condition) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tokio-asyncio-bridge"));
    command.args(["process", input, "-o", output, "--concurrency", IN_FLIGHT, "--quiet"]);
    command.arg(format!("--predictor=benches/script.py:{}", condition.predictor));
    command.arg(format!("--event-loop={}", condition.event_loop));
    assert!(command.stderr(Stdio::inherit()).status().unwrap().success());
}

/// Processor time of all child processes so far, in seconds: `cutime` and `cstime` of `proc_pid_stat(5)`, in ticks of
/// 10 ms.
fn processor_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    [13, 14].iter().map(|field| fields[*field].parse::<f64>().unwrap()).sum::<f64>() / 100.0
}
