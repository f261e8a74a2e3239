//! `doctor`: whether what a run needs is there, each line a check mark, or a cross with its remedy. Runs no job.

mod api;
mod place;
mod python;

use clap::Args;
use console::Style;
use std::path::PathBuf;

use self::api::{api, env_file, key};
use self::place::{files, place};
use self::python::{Inspected, dspy, event_loop, interpreter, local_model, predictor, virtual_environment};
use super::setup::{panicked, secrets};
use super::streams::Streams;
use crate::config::options::{PredictorOptions, ShowOptions};
use crate::config::values::concurrency;
use crate::policy::stop::StopReason;
use crate::report::text::{Look, counted, escape};
use crate::run::signals::Signals;

/// Columns of what was checked.
const NAME: usize = 20;

/// The options of `doctor`: those of the run to be made.
#[derive(Debug, Clone, Args)]
pub struct DoctorOptions {
    /// Where the answers are to go [default: the current directory]
    #[arg(short, long, value_name = "ANSWERS")]
    pub output: Option<PathBuf>,
    /// Calls in flight at most
    #[arg(short = 'c', long, value_name = "N", value_parser = concurrency, default_value = "16", env = "TAB_CONCURRENCY")]
    pub concurrency: usize,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub predictor: PredictorOptions,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub show: ShowOptions,
}

/// What was found, or what is wrong and, after `hint: `, the remedy.
type Found = Result<String, String>;

/// What was checked and what was found.
type Check = (&'static str, Found);

/// Runs `doctor`: exit code 1 if anything is wrong.
pub async fn doctor(options: DoctorOptions, streams: &mut Streams) -> anyhow::Result<u8> {
    // Before the first Python import: see `Signals`.
    let mut signals = Signals::new()?;
    let (show, secrets) = (options.show.clone(), secrets(&options.predictor));
    let checking = tokio::task::spawn_blocking(move || checks(&options));
    let checks = tokio::select! {
        checks = checking => checks.map_err(|error| panicked(&error))?,
        signal = signals.next() => return Ok(StopReason::Signal(signal).exit_code()),
    };
    let look = streams.look(&show);
    let text: String = checks.iter().map(|check| line(check, look)).collect();
    let faults = checks.iter().filter(|(_, found)| found.is_err()).count() as u64;
    let verdict = if faults == 0 {
        "nothing is missing".to_owned()
    } else {
        format!("{} to mend", counted(faults, "thing"))
    };
    streams.say(&show, &format!("{}\n{verdict}\n", secrets.mask(&text)))?;
    Ok(u8::from(faults > 0))
}

fn checks(options: &DoctorOptions) -> Vec<Check> {
    let asked = &options.predictor;
    let started = interpreter(asked);
    let mut checks = vec![("Python", started.found)];
    checks.extend(env_file(asked).map(|found| ("Environment file", found)));
    if let Some(inspected) = started.executable.map(|python| Inspected::of(python, asked)) {
        match inspected {
            Ok(inspected) => {
                checks.push(("Virtual environment", Ok(virtual_environment(&inspected))));
                checks.push(("DSPy", dspy(&inspected, asked)));
                checks.push(("Event loop", event_loop(&inspected, asked)));
                checks.extend(local_model(&inspected, asked).map(|found| ("Local model", found)));
                checks.extend(key(&inspected, asked).map(|found| ("Key", found)));
                if checks.iter().all(|(_, found)| found.is_ok()) {
                    checks.extend(predictor(asked, options.concurrency).map(|found| ("Predictor", found)));
                }
                checks.extend(api(&inspected, asked).map(|found| ("API", found)));
            }
            Err(reason) => checks.push(("Packages", Err(reason))),
        }
    }
    checks.push(("Open files", files(options.concurrency)));
    checks.extend(place(options.output.as_deref()));
    checks
}

/// `✓ DSPy  3.4.1`, the lines after the first below it.
fn line((name, found): &Check, look: Look) -> String {
    let (mark, text) = match found {
        Ok(text) => (look.paint(Style::new().green(), "✓"), text),
        Err(text) => (look.paint(Style::new().red(), "✗"), text),
    };
    let indent = " ".repeat(NAME + 3);
    let lines: Vec<_> = text.lines().map(escape).collect();
    format!("{mark} {name:<NAME$} {}\n", lines.join(&format!("\n{indent}")))
}
