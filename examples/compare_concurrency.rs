//! Finds out what more calls at once bring: answers the same rows at several concurrencies, and tells how long each took.
//!
//! ```sh
//! cargo run --example compare_concurrency -- data/questions.csv data/predictors/echo.py:predict 1 8 24
//! ```
//!
//! It writes no answers.
#![allow(clippy::large_futures, clippy::print_stdout, reason = "an example to read")]

use std::error::Error;
use std::path::Path;

use tokio_asyncio_bridge::job::compare::{Comparison, ModeRuns, PreparedComparison};
use tokio_asyncio_bridge::job::{Control, Format, JobSpec, SessionOptions, end_python};

/// How often each concurrency is run.
const RUNS: u32 = 3;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [input, predictor, calls @ ..] = &words[..] else {
        return Err("usage: compare_concurrency INPUT PREDICTOR CALLS…".into());
    };
    let modes = calls.iter().map(|calls| Ok(ModeRuns::concurrent(calls.parse()?)));
    let modes = modes.collect::<Result<_, Box<dyn Error>>>()?;
    let compared = compare(Path::new(input), predictor, modes).await;
    end_python();

    let comparison = compared?;
    println!("{}", comparison.markdown());
    if let Some(speedup) = comparison.speedup {
        println!("The last is {:.1} times as fast as the first.", speedup.mean);
    }
    Ok(())
}

async fn compare(input: &Path, predictor: &str, modes: Vec<ModeRuns>) -> Result<Comparison, Box<dyn Error>> {
    let mut spec = JobSpec::new(&std::env::current_dir()?, input, Format::from_path(input)?);
    spec.predictor.predictor = predictor.to_owned();

    let control = Control::new();
    let options = SessionOptions::default();
    let mut prepared = PreparedComparison::new(spec, (modes, RUNS), options, &mut (), &control).await?;
    println!("Making {} calls.", prepared.estimate().calls);
    // Each run has an observer of its own, and these show nothing.
    let end = prepared.run(&|| Box::new(()), &control).await;
    end.error.map_or(Ok(end.comparison), |error| Err(error.into()))
}
