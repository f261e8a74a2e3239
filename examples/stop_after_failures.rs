//! Watches a run and stops it once several rows in a row have failed, whatever is wrong with them.
//!
//! ```sh
//! cargo run --example stop_after_failures -- data/questions.csv data/predictors/echo.py:predict 5
//! ```
//!
//! What was answered up to then is in `answers.csv`. Running it again asks for the other rows.
#![allow(clippy::large_futures, clippy::print_stdout, reason = "an example to read")]

use std::error::Error;
use std::path::Path;

use tokio_asyncio_bridge::job::{
    Control, Event, Format, Job, JobPaths, JobSpec, Observer, SessionEnd, SessionOptions, Signal, Snapshot,
    end_python,
};

/// Stops the job through its control when `most` outcomes in turn were failures.
struct Watch {
    control: Control,
    most: u32,
    in_turn: u32,
}

impl Observer for Watch {
    fn event(&mut self, event: &Event) {
        let Event::Finished { outcome, .. } = event else { return };
        self.in_turn = if outcome.result.is_ok() { 0 } else { self.in_turn + 1 };
        // Asking once lets the calls in flight end. Asking again would not wait for them.
        if self.in_turn == self.most && self.control.taken() == 0 {
            println!("row {} is the last of {} failures in turn: stopping", outcome.row, self.most);
            self.control.stop(Signal::Interrupt);
        }
    }

    fn finish(&mut self, snapshot: &Snapshot) {
        println!("{} of {} rows have an outcome", snapshot.done(), snapshot.total);
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [input, predictor, most] = &words[..] else {
        return Err("usage: stop_after_failures INPUT PREDICTOR MOST".into());
    };
    let control = Control::new();
    let watch = Watch { control: control.clone(), most: most.parse()?, in_turn: 0 };
    let ended = answer(Path::new(input), predictor, watch, &control).await;
    end_python();
    match ended?.stop {
        Some(reason) => println!("stopped: {reason}"),
        None => println!("asked for every row"),
    }
    Ok(())
}

async fn answer(
    input: &Path,
    predictor: &str,
    mut watch: Watch,
    control: &Control,
) -> Result<SessionEnd, Box<dyn Error>> {
    let mut spec = JobSpec::new(&std::env::current_dir()?, input, Format::from_path(input)?);
    spec.predictor.predictor = predictor.to_owned();
    let job = Job::new(spec, JobPaths::of("answers.csv".as_ref()), SessionOptions::default())?;
    let prepared = job.prepare(&mut watch, control).await?;
    Ok(prepared.open(&mut watch, control).await?.run(&mut watch, control).await?)
}
