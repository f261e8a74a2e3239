//! Whether `compare` tells what separate runs of `process` tell: a predictor of 50 ms, 200 rows, `-c 20`.
//!
//! `cargo bench --bench compare` repeats it three times (some two minutes), `cargo bench --bench compare -- 20` twenty
//! times (some fifteen). Each repetition is one `compare` and one `process` of each mode, so that a busy machine is as
//! unfair to the one as to the other.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a bench prints, and panics")]

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

const PREDICTOR: &str = "
import asyncio
async def predict(question):
    await asyncio.sleep(0.05)
    return question
";
const ROWS: usize = 200;

/// What one `compare` says of the speedup.
struct Said {
    mean: f64,
    ci95: [f64; 2],
}

fn main() {
    let repetitions = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(3);
    let directory = tempfile::tempdir_in("target").unwrap();
    let mut rows = "question\n".to_owned();
    (0..ROWS).for_each(|row| writeln!(rows, "What comes after {row}?").unwrap());
    std::fs::write(directory.path().join("questions.csv"), rows).unwrap();
    std::fs::write(directory.path().join("predictor.py"), PREDICTOR).unwrap();

    let (mut sequential, mut concurrent, mut said) = (Vec::new(), Vec::new(), Vec::new());
    for repetition in 1..=repetitions {
        sequential.push(processed(directory.path(), &["--sequential"]));
        concurrent.push(processed(directory.path(), &["-c", "20"]));
        said.push(compared(directory.path()));
        let Said { mean, ci95: [low, high] } = said[said.len() - 1];
        println!(
            "{repetition:>2}: process {:.3} s and {:.3} s; compare {mean:.2} ({low:.2} to {high:.2})",
            sequential[sequential.len() - 1],
            concurrent[concurrent.len() - 1]
        );
    }
    let mean = |walls: &[f64]| walls.iter().sum::<f64>() / walls.len() as f64;
    let ratio = mean(&sequential) / mean(&concurrent);
    let furthest = said.iter().map(|said| (said.mean / ratio - 1.0).abs()).fold(0.0, f64::max);
    let holding = said.iter().filter(|said| said.ci95[0] <= ratio && ratio <= said.ci95[1]).count();
    println!(
        "process: {:.3} s / {:.3} s = {ratio:.2}; the speedup of compare is within {:.1} % of it, its interval \
         holds it in {holding} of {repetitions}",
        mean(&sequential),
        mean(&concurrent),
        furthest * 100.0
    );
}

/// The wall time of one `process`, in seconds, as its report has it.
fn processed(directory: &Path, mode: &[&str]) -> f64 {
    run(directory, &[&["process", "questions.csv", "-o", "answers.csv", "--force"], mode].concat());
    read(&directory.join("answers.csv.report.json"))["wall_s"].as_f64().unwrap()
}

fn compared(directory: &Path) -> Said {
    run(directory, &["compare", "questions.csv", "-c", "20", "--export-json", "compare.json"]);
    let speedup = read(&directory.join("compare.json"))["speedup"].clone();
    let figure = |value: &Value| value.as_f64().unwrap();
    Said { mean: figure(&speedup["mean"]), ci95: [0, 1].map(|bound| figure(&speedup["ci95"][bound])) }
}

fn run(directory: &Path, arguments: &[&str]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tokio-asyncio-bridge"));
    command.args(arguments).args(["--predictor", "predictor.py:predict", "--quiet"]);
    command.env("VIRTUAL_ENV", std::env::current_dir().unwrap().join(".venv")).current_dir(directory);
    assert!(command.status().unwrap().success());
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}
