//! Asks for the failed rows of a run again, with other options than before.
//!
//! ```sh
//! cargo run --example resume_failed -- questions.answers.csv timeout=5m concurrency=4
//! ```
//!
//! The options are those of the command line, by name. All others stay as they were recorded.
#![allow(clippy::large_futures, clippy::print_stdout, reason = "an example to read")]

use std::error::Error;
use std::path::Path;

use tokio_asyncio_bridge::job::spec::keywords;
use tokio_asyncio_bridge::job::{Control, Job, JobPaths, Only, SessionOptions, TakeUp, end_python, recorded};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let answers = words.next().ok_or("usage: resume_failed ANSWERS [NAME=VALUE]…")?;
    let options = words.map(|word| {
        let (name, value) = word.split_once('=').ok_or("an option is NAME=VALUE")?;
        Ok((name.to_owned(), value.to_owned()))
    });
    let options = options.collect::<Result<Vec<_>, &str>>()?;
    let resumed = resume(Path::new(&answers), &options).await;
    end_python();
    resumed
}

async fn resume(answers: &Path, options: &[(String, String)]) -> Result<(), Box<dyn Error>> {
    let control = Control::new();
    let mut spec = recorded(answers, &control)?;
    spec.lay_all(keywords(options)?, &std::env::current_dir()?);
    println!("calls at once: {}, timeout: {:?}", spec.pace.calls(), spec.time.timeout);

    let take_up = TakeUp { only: Some(Only::Failed), ..TakeUp::default() };
    let session = SessionOptions { take_up, ..SessionOptions::default() };
    let prepared = Job::resume(spec, JobPaths::find(answers), session)?.prepare(&mut (), &control).await?;
    let (prepared, rows) = prepared.check(&mut (), &control).await?;
    println!("rows to ask again: {rows}");
    let end = prepared.open(&mut (), &control).await?.run(&mut (), &control).await?;
    if let Some(report) = end.report {
        println!(
            "{} answered, {} failed, {} unfinished",
            report.rows.ok, report.rows.failed, report.rows.unfinished
        );
    }
    Ok(())
}
