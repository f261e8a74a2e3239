//! Answers a file of questions with the library, without the command line.
//!
//! ```sh
//! cargo run --example process_file -- questions.csv app.py:answer
//! ```
//!
//! The answers go to `<stem>.answers.csv` or `<stem>.answers.jsonl` in the current directory. If the job is stopped,
//! running it again continues it.
#![allow(clippy::large_futures, clippy::print_stderr, clippy::print_stdout, reason = "an example to read")]

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use tokio_asyncio_bridge::job::{
    Control, Event, Format, Job, JobPaths, JobSpec, Level, Observer, SessionOptions, Signal, Snapshot,
    end_python,
};

/// An observer that prints messages and failed rows.
struct Lines;

impl Observer for Lines {
    fn event(&mut self, event: &Event) {
        if let Event::Finished { outcome, .. } = event
            && let Err(failure) = &outcome.result
        {
            println!("row {} failed: {}", outcome.row, failure.message);
        }
    }

    fn message(&mut self, level: Level, text: &str) {
        println!("{level:?}: {text}");
    }

    fn finish(&mut self, snapshot: &Snapshot) {
        println!("{} of {} rows answered in this session", snapshot.ok, snapshot.total);
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [input, predictor] = &words[..] else {
        eprintln!("usage: process_file INPUT PREDICTOR");
        return ExitCode::from(2);
    };
    let processed = process(Path::new(input), predictor).await;
    // Flushes what Python has printed, and runs its `atexit` functions.
    end_python();
    match processed {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns the exit code, which is 0 if every row is answered.
async fn process(input: &Path, predictor: &str) -> Result<u8, Box<dyn Error>> {
    let directory = std::env::current_dir()?;
    let format = Format::from_path(input)?;
    let mut spec = JobSpec::new(&directory, input, format);
    spec.predictor.predictor = predictor.to_owned();
    let extension = if format == Format::Csv { "csv" } else { "jsonl" };
    let files = JobPaths::of(&directory.join(JobPaths::default_answers(input, None, extension)));

    // The first Ctrl-C lets the calls in flight end. The second one does not wait for them.
    let control = Control::new();
    let stop = control.clone();
    tokio::spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() {
            stop.stop(Signal::Interrupt);
        }
    });

    let mut job = Job::new(spec, files, SessionOptions::default())?;
    if let Some(counts) = job.done(&mut Lines, &control).await? {
        println!("nothing to do: {} rows are answered", counts.ok);
        return Ok(0);
    }
    let prepared = job.prepare(&mut Lines, &control).await?;
    println!("{}", prepared.estimate(1));
    let end = prepared.open(&mut Lines, &control).await?.run(&mut Lines, &control).await?;
    if let Some(report) = end.report {
        println!("{} answered, {} failed in {:.2} s", report.rows.ok, report.rows.failed, report.wall_s);
    }
    Ok(end.code)
}
