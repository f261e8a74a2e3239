//! `doctor`: checks that everything a run needs is there, and names the remedy for what is not. It runs no job.

mod api;
mod check;
mod place;
mod python;

use std::path::Path;
use std::sync::Arc;

use self::api::{api, asked_about, env_file, key, secret_key};
use self::check::{Check, Finding, line};
use self::place::{files, place};
use self::python::{Inspected, dspy, event_loop, interpreter, local_model, virtual_environment};
use super::process::{NO_INPUT, ProcessOptions};
use super::signals::Signals;
use super::streams::Streams;
use super::worker::worker_program;
use crate::input::{Format, Source, glance};
use crate::job::JobError;
use crate::job::answerer::{Answerer, secrets};
use crate::job::env_file::EnvFile;
use crate::job::paths::is_stream;
use crate::job::prepare::{fits, validated};
use crate::job::ray::Sent;
use crate::job::spec::{JobSpec, RayAddress, WorkerCount};
use crate::job::starting::{RayOptions, StartOptions, WorkerOptions};
use crate::job::telling::Tell;
use crate::policy::stop::StopReason;
use crate::report::text::{counted, duration};
use crate::run::control::Control;

/// Runs `doctor`: exit code 1 if anything is wrong.
pub(crate) async fn doctor(options: ProcessOptions, streams: &mut Streams) -> anyhow::Result<u8> {
    let spec = options.spec(&std::env::current_dir()?, Format::Csv);
    let control = Control::new();
    let _signals = Signals::forward(&control, spec.time.grace, streams.last_words(None))?;
    let (show, secrets) = (options.run.show.clone(), secrets(&spec.predictor));
    let checking = tokio::task::spawn_blocking(move || checks(&options, &spec));
    let checks = tokio::select! {
        checks = checking => checks.map_err(|error| JobError::panicked(&error))?,
        signal = control.next() => return Ok(StopReason::Signal(signal).exit_code()),
    };
    let look = streams.look(&show);
    let completed = |text: String| streams.commands.in_hints(&text).into_owned();
    let checks: Vec<Check> =
        checks.into_iter().map(|(name, found)| (name, found.map_err(completed))).collect();
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

fn checks(options: &ProcessOptions, spec: &JobSpec) -> Vec<Check> {
    let asked = &spec.predictor;
    let started = interpreter(asked);
    let mut checks = vec![("Python", started.found)];
    checks.extend(env_file(asked).map(|found| ("Environment file", found)));
    let mut input = input(options, spec);
    let inspect = |python| {
        let url = asked.api_base.as_deref().unwrap_or_default();
        Inspected::of(python, url, asked_about(asked).unwrap_or_default(), secret_key(asked))
    };
    if let Some(inspected) = started.executable.map(inspect) {
        match inspected {
            Ok(inspected) => {
                checks.push(("Virtual environment", Ok(virtual_environment(&inspected))));
                checks.push(("DSPy", dspy(&inspected, asked)));
                checks.push(("Event loop", event_loop(&inspected, asked)));
                checks.extend(local_model(&inspected, asked).map(|found| ("Local model", found)));
                checks.extend(key(&inspected, asked).map(|found| ("Key", found)));
                // Without an input, nothing of the default predictor on the local model is left to check.
                let in_workers = spec.workers.workers != WorkerCount::InProcess;
                let wanted = input.is_some()
                    || asked.predictor != "dspy"
                    || asked.model_name() != "local"
                    || in_workers
                    || spec.ray.ray != RayAddress::None;
                if wanted && checks.iter().all(|(_, found)| found.is_ok()) {
                    let loaded = predictor(options, spec, input.take());
                    checks.extend(loaded.workers.map(|told| ("Workers", Ok(told))));
                    checks.push(("Predictor", loaded.found));
                    input = loaded.input;
                } else if in_workers {
                    checks.push(("Workers", Ok("not started: what is wrong above comes first".to_owned())));
                }
                checks.extend(api(&inspected, asked).map(|found| ("API", found)));
            }
            Err(reason) => checks.push(("Packages", Err(reason))),
        }
    }
    let told = |read: Read| read.map_or_else(Err, |(_, told)| Ok(told));
    checks.extend(input.map(|read| ("Input", told(read))));
    checks.push(("Open files", files(spec.pace.calls())));
    checks.extend(place(options.output.as_deref()));
    checks
}

/// An input whose beginning was read, and what there is to say of it; or what is wrong with it.
type Read = Result<(Option<Source>, String), String>;

/// Reads the beginning of the input, where one is named. A stream is left to the run.
fn input(options: &ProcessOptions, spec: &JobSpec) -> Option<Read> {
    if options.input == Path::new(NO_INPUT) {
        return None;
    }
    if is_stream(&options.input) {
        return Some(Ok((None, "a stream, which is not read here".to_owned())));
    }
    let rows = &spec.rows;
    let looked = options.run.job.shared.rows.format_of(&options.input).and_then(|format| {
        let mut source = rows.source(&options.input, format);
        source.delimiter = rows.delimiter_of(&source);
        glance(&source)?;
        Ok((Some(source), format!("`{}` begins as it should", options.input.display())))
    });
    Some(looked.map_err(|error| error.to_string()))
}

/// What came of loading the predictor.
struct Loaded {
    found: Finding,
    /// How many worker processes have loaded it, if any.
    workers: Option<String>,
    input: Option<Read>,
}

/// Loads the predictor as a run does, and checks the whole input against it. It calls nothing.
fn predictor(options: &ProcessOptions, spec: &JobSpec, input: Option<Read>) -> Loaded {
    let (mut asked, calls) = (spec.predictor.clone(), spec.pace.calls());
    // What is wrong with it is told by itself.
    asked.env_file = asked.env_file.filter(|file| EnvFile::read(file).is_ok());
    let (mut secrets, program) = (secrets(&asked), worker_program());
    let tell: Tell = Arc::new(|_, _| {});
    let job = options.paths().ok();
    let sent = match Sent::of(spec, None, job.as_ref(), &tell) {
        Ok(sent) => sent,
        Err(error) => return Loaded { found: Err(error.to_string()), workers: None, input },
    };
    if let Some(sent) = &sent {
        sent.hide(&mut secrets);
    }
    let ray = sent.as_ref().map(|sent| RayOptions::new(spec, sent, true, &tell));
    let workers = WorkerOptions::new(&spec.workers, &spec.time, program.as_deref());
    let starting = StartOptions::new(&asked, calls, &secrets);
    let answerer = match Answerer::start(StartOptions { dry_run: true, workers, ray, ..starting }) {
        Ok(answerer) => answerer,
        Err(error) => return Loaded { found: Err(error.to_string()), workers: None, input },
    };
    let workers = answerer.workers.as_ref().map(|workers| {
        let number = workers.note.as_ref().unwrap_or(&workers.number);
        format!("{number}; ready after {}", duration(answerer.startup))
    });
    let input = input.map(|read| match read {
        Ok((Some(source), _)) => {
            let validated = validated(&answerer, &source, &spec.rows, &|| false);
            let validated = validated.map_err(|error| error.to_string())?;
            let rows = validated.selected.end - validated.selected.start;
            let told = format!("`{}`: {} to answer", options.input.display(), counted(rows, "row"));
            Ok((Some(source), told))
        }
        read => read,
    });
    let fits = fits(&answerer, spec).map_err(|error| error.to_string());
    Loaded { found: fits.map(|()| answerer.description.clone()), workers, input }
}
