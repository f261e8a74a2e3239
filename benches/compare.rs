//! Checks that `compare` says the same as separate runs of `process`: a predictor of 50 ms, 200 rows, `-c 20`.
//!
//! `cargo bench --bench compare` repeats it three times (about two minutes), `cargo bench --bench compare -- 20` twenty
//! times (about fifteen minutes). Each repetition is one `compare` and one `process` of each mode, so that a busy
//! machine affects both alike.
//!
//! With a probability of 92 %, 18 or more of 20 intervals of 95 % contain the true ratio. Two things make it fewer
//! here. The ratio that they are held against is measured too, with an error that is printed. And it comes from cold
//! processes, while the runs of `compare` are warm: on an idle machine the first twenty calls of a process take about
//! 1 ms longer, which is 1/500 of the shorter wall time; on a busy machine up to 16 ms, because the kernel makes the
//! loop's thread wait after all that it has computed while starting. So the ratio over the runs of all `compare`s,
//! which their intervals are about, is printed too. Run it when nothing else runs; it prints the load.
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

/// What one `compare` says about the speedup.
struct Said {
    mean: f64,
    ci95: [f64; 2],
    /// The wall times of each mode.
    walls: [Vec<f64>; 2],
}

/// Wall times of the two modes, and the ratio of their means.
struct Ratio {
    is: f64,
    /// Relative standard error of the ratio.
    error: f64,
}

impl Ratio {
    fn of(slow: &[f64], fast: &[f64]) -> Self {
        let mean = |walls: &[f64]| walls.iter().sum::<f64>() / walls.len() as f64;
        let error = |walls: &[f64]| {
            let squares: f64 = walls.iter().map(|wall| (wall / mean(walls) - 1.0).powi(2)).sum();
            squares / (walls.len() - 1) as f64 / walls.len() as f64
        };
        Self { is: mean(slow) / mean(fast), error: (error(slow) + error(fast)).sqrt() }
    }

    /// How many of the intervals contain it.
    fn held(&self, said: &[Said]) -> usize {
        said.iter().filter(|said| said.ci95[0] <= self.is && self.is <= said.ci95[1]).count()
    }
}

fn main() {
    let repetitions = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(3);
    let directory = tempfile::tempdir_in("target").unwrap();
    let mut rows = "question\n".to_owned();
    (0..ROWS).for_each(|row| writeln!(rows, "What comes after {row}?").unwrap());
    std::fs::write(directory.path().join("questions.csv"), rows).unwrap();
    std::fs::write(directory.path().join("predictor.py"), PREDICTOR).unwrap();

    let loaded = load();
    let (mut sequential, mut concurrent, mut said) = (Vec::new(), Vec::new(), Vec::new());
    for repetition in 1..=repetitions {
        sequential.push(processed(directory.path(), &["--sequential"]));
        concurrent.push(processed(directory.path(), &["-c", "20"]));
        said.push(compared(directory.path()));
        let Said { mean, ci95: [low, high], .. } = said[said.len() - 1];
        println!(
            "{repetition:>2}: process {:.3} s and {:.3} s; compare {mean:.2} ({low:.2} to {high:.2})",
            sequential[sequential.len() - 1],
            concurrent[concurrent.len() - 1]
        );
    }
    let of_processes = Ratio::of(&sequential, &concurrent);
    let runs = |mode: usize| said.iter().flat_map(|said| said.walls[mode].clone()).collect::<Vec<_>>();
    let of_runs = Ratio::of(&runs(0), &runs(1));
    let furthest = said.iter().map(|said| (said.mean / of_processes.is - 1.0).abs()).fold(0.0, f64::max);
    println!(
        "speedup within {:.1} % of {:.2}, the ratio of mean walls over {repetitions} runs of `process` (standard error \
         {:.1} %); interval contained the ratio in {} of {repetitions}",
        furthest * 100.0,
        of_processes.is,
        of_processes.error * 100.0,
        of_processes.held(&said)
    );
    println!(
        "the ratio over all runs of `compare` is {:.2}; interval contained it in {} of {repetitions}; load {loaded} before, {} after",
        of_runs.is,
        of_runs.held(&said),
        load()
    );
}

/// The load average of the last minute.
fn load() -> String {
    let averages = std::fs::read_to_string("/proc/loadavg").unwrap();
    averages.split(' ').next().unwrap().to_owned()
}

/// The wall time of one `process` from its report, in seconds.
fn processed(directory: &Path, mode: &[&str]) -> f64 {
    run(directory, &[&["process", "questions.csv", "-o", "answers.csv", "--force"], mode].concat());
    read(&directory.join("answers.csv.report.json"))["wall_s"].as_f64().unwrap()
}

fn compared(directory: &Path) -> Said {
    run(directory, &["compare", "questions.csv", "-c", "20", "--export-json", "compare.json"]);
    let exported = read(&directory.join("compare.json"));
    let figure = |value: &Value| value.as_f64().unwrap();
    let walls =
        |mode: usize| exported["modes"][mode]["wall_s"].as_array().unwrap().iter().map(figure).collect();
    let speedup = &exported["speedup"];
    let ci95 = [0, 1].map(|bound| figure(&speedup["ci95"][bound]));
    Said { mean: figure(&speedup["mean"]), ci95, walls: [0, 1].map(walls) }
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
