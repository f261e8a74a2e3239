//! Prepares a job: checks everything and loads the predictor, but calls and writes nothing.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::answerer::{Answerer, now, predictor_sha256, program_sha256, secrets};
use super::error::{ErrorKind, JobError};
use super::estimate::{self, Estimate, Estimated};
use super::paths::JobPaths;
use super::prints::Prints;
use super::ray::Sent;
use super::rebuilt::{Kept, cores};
use super::spec::{self, JobSpec, RowSpec};
use super::starting::{RayOptions, StartOptions, WorkerOptions};
use super::telling::{Tell, unless_stopped};
use crate::bridge::python::predictor::PredictorObject;
use crate::input::{Format, InputError, Source, Validated, glance, validate_until};
use crate::journal::{Header, InputIdentity, RUN, VERSION};
use crate::observe::{Level, Observer};
use crate::output::TOLD;
use crate::policy::budget::Budget;
use crate::report;
use crate::report::text::{count, counted, duration};
use crate::run::control::Control;
use crate::secret::Secrets;
use crate::usage::Spent;

/// A job that is to be prepared, with the options of its session.
pub(super) struct Preparing {
    /// The job.
    pub spec: JobSpec,
    /// The predictor if it is a Python object.
    pub predictor: Option<PredictorObject>,
    /// The input.
    pub source: Source,
    /// The files that the job writes, if it writes any.
    pub files: Option<JobPaths>,
    /// The most calls in flight.
    pub calls: usize,
    /// Check everything, call nothing.
    pub dry_run: bool,
    /// Keep Python's libraries from logging a line for each call.
    pub quiet: bool,
    /// How what Python prints is shown.
    pub prints: Prints,
    /// The program that becomes a worker process.
    pub worker_program: Option<PathBuf>,
    /// The command line that started the session. Secrets in it are masked in the header.
    pub argv: Vec<String>,
}

/// A job that is ready to run.
pub(super) struct Prepared {
    /// The predictor.
    pub answerer: Answerer,
    /// What was learned from checking the input.
    pub validated: Validated,
    /// The header that the session is to record.
    pub header: Header,
    /// The most calls in flight.
    pub calls: usize,
    /// The input.
    pub source: Source,
    /// The estimated usage of a call.
    pub estimate: Estimate,
    /// Versions of this program, of Python and of its packages, by name.
    versions: BTreeMap<String, String>,
    /// The job.
    pub spec: JobSpec,
    /// Texts that must not be shown or written.
    pub secrets: Secrets,
    /// Nothing is to be called.
    pub dry_run: bool,
    /// How long reading and checking the input took.
    pub validate: Duration,
}

impl Preparing {
    /// Prepares the job on another thread. A stop ends the wait for it at once. The observer is told what happens
    /// meanwhile.
    pub(super) async fn run(
        self,
        observer: &mut dyn Observer,
        control: &Control,
    ) -> Result<Prepared, JobError> {
        unless_stopped(move |tell, stop| self.prepare(tell, stop), observer, control).await
    }

    fn prepare(self, tell: &Tell, stop: &CancellationToken) -> Result<Prepared, JobError> {
        let Self { spec, predictor, mut source, files, calls, dry_run, quiet, prints, worker_program, argv } =
            self;
        // Only now: standard input has just been copied to a file.
        source.delimiter = spec.rows.delimiter_of(&source);
        let mut secrets = secrets(&spec.predictor);
        if spec.predictor.api_base.as_ref().is_some_and(|url| !url.contains("://")) {
            let text = "`--api-base` expects a URL such as `http://127.0.0.1:8000/v1`";
            return Err(JobError::new(ErrorKind::Usage, text));
        }
        glance(&source)?;
        let program = spec.predictor.program.as_deref().map(program_sha256).transpose()?;
        let sent = Sent::of(&spec, predictor.as_ref(), files.as_ref(), tell)?;
        if let Some(sent) = &sent {
            sent.hide(&mut secrets);
        }
        let options = spec.predictor.from(&spec.directory);
        let starting = StartOptions::new(&options, calls, &secrets);
        let ray = sent.as_ref().map(|sent| RayOptions::new(&spec, sent, dry_run, tell));
        let workers = WorkerOptions::new(&spec.workers, &spec.time, worker_program.as_deref());
        let workers = workers.map(|workers| workers.only_one(dry_run));
        let starting = StartOptions {
            object: predictor,
            dry_run,
            quiet,
            prints,
            workers,
            ray,
            stop: stop.clone(),
            ..starting
        };
        let answerer = Answerer::start(starting)?;
        // Those of the env file are there now.
        secrets.add_environment();
        fits(&answerer, &spec)?;
        let validating = Instant::now();
        // Python looks for its packages meanwhile, which takes it as long as reading a small input takes.
        let (validated, validate, versions) = std::thread::scope(|scope| {
            let versions = scope.spawn(|| answerer.versions());
            let validated = validated(&answerer, &source, &spec.rows, &|| stop.is_cancelled());
            (validated, validating.elapsed(), versions.join())
        });
        let (validated, versions) = (validated?, versions.unwrap_or_else(|panic| resume_unwind(panic)));
        let estimate = Estimate::new(&spec.money, answerer.bridge.describe().metered.clone(), &validated);
        let calls = answerer.limit(calls);
        let mut settings = spec::settings(&spec);
        // `report` needs these if this session dies before it writes its own report.
        let versions: BTreeMap<_, _> = versions.into_iter().collect();
        let kept = Kept {
            calls: calls as u64,
            workers: answerer.bridge.describe().workers,
            bridge: answerer.bridge.describe().bridge.clone(),
            versions: versions.clone(),
            cores: cores(),
        };
        settings[RUN] = kept.to_json();
        let prompt = answerer.bridge.describe().prompt.clone();
        let header = Header {
            version: VERSION,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: now(),
            pid: std::process::id(),
            argv: argv.iter().map(|word| secrets.mask(word).into_owned()).collect(),
            input: input_identity(&source, &validated),
            selection: validated.selected,
            identity: spec.recorded_identity(program),
            predictor_sha256: predictor_sha256(&*answerer.bridge),
            prompt: prompt.map(|prompt| prompt.relative_to(&spec.directory)),
            settings,
        };
        Ok(Prepared {
            answerer,
            validated,
            header,
            calls,
            source,
            estimate,
            versions,
            spec,
            secrets,
            dry_run,
            validate,
        })
    }
}

/// Reads and checks the whole input against what the predictor wants.
///
/// # Errors
///
/// Fails if the input cannot be read, lacks a column, or has a value of the wrong type, and once `stopped` says so.
pub(crate) fn validated(
    answerer: &Answerer,
    source: &Source,
    rows: &RowSpec,
    stopped: &dyn Fn() -> bool,
) -> Result<Validated, InputError> {
    validate_until(source, &answerer.wanted(rows), rows.selection(), answerer.bridge.types(), stopped)
}

/// Checks the options that can only be judged once the predictor is loaded.
///
/// # Errors
///
/// Fails if the predictor cannot keep to a budget, or if no answer can have a field that was asked for.
pub(crate) fn fits(answerer: &Answerer, spec: &JobSpec) -> Result<(), JobError> {
    let description = answerer.bridge.describe();
    estimate::check(&spec.money, description.metered.as_ref())?;
    known(spec.fields.names(), &description.outputs)
}

/// Refuses a field that no answer will have. If `outputs` is empty, the fields are not known, and any may come.
fn known(asked: &[String], outputs: &[String]) -> Result<(), JobError> {
    let known = |name: &&String| outputs.contains(name) || TOLD.contains(&name.as_str());
    match asked.iter().find(|name| !outputs.is_empty() && !known(name)) {
        Some(name) => {
            let all = outputs.iter().map(String::as_str).chain(TOLD);
            let all = all.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            let text = format!("the answers have no field `{name}`\nhint: `--fields` can name {all}");
            Err(JobError::new(ErrorKind::Predictor, text))
        }
        None => Ok(()),
    }
}

/// Warns the observer about what the predictor does and the options do not allow for.
pub(super) fn warn(answerer: &Answerer, spec: &JobSpec, observer: &mut dyn Observer) {
    let predictor = answerer.bridge.describe();
    if spec.rates.rates().tpm.is_some() && predictor.metered.is_none() {
        let text = "the predictor does not report its tokens: `--tpm` counts 4 characters of a row and its answer as one";
        observer.message(Level::Warning, text);
    }
    let retries = spec.retry.retries;
    for (what, requests) in &predictor.repeating {
        let product = (u64::from(retries) + 1).saturating_mul(*requests);
        let text = format!(
            "`--retries {retries}` multiplies with {what}: up to {} per row\nhint: set that client's retries to 0",
            counted(product, "request")
        );
        observer.message(Level::Warning, &text);
    }
    for caution in &predictor.cautions {
        observer.message(Level::Warning, caution);
    }
}

/// Tells the observer how many worker processes there are, if the program decided that.
pub(super) fn tell_of_workers(answerer: &Answerer, observer: &mut dyn Observer) {
    if let Some(note) = answerer.workers.as_ref().and_then(|workers| workers.note.as_ref()) {
        observer.message(Level::Note, &format!("`--workers auto`: {note}"));
    }
}

fn input_identity(source: &Source, validated: &Validated) -> InputIdentity {
    InputIdentity {
        path: source.at.to_string_lossy().into_owned(),
        format: if source.format == Format::Csv { "csv" } else { "jsonl" }.to_owned(),
        delimiter: (source.format == Format::Csv).then(|| char::from(source.delimiter)),
        encoding: source.encoding.name().to_owned(),
        sha256: validated.sha256.clone(),
        rows: validated.rows,
        empty: validated.empty,
        header_hash: validated.header_hash,
    }
}

impl Prepared {
    /// Tells the observer what is about to run, and warns about it.
    pub(super) fn announce(&self, observer: &mut dyn Observer) {
        for warning in &self.validated.warnings {
            observer.message(Level::Warning, &warning.to_string());
        }
        warn(&self.answerer, &self.spec, observer);
        tell_of_workers(&self.answerer, observer);
        let predictor = self.answerer.bridge.describe();
        let rows = self.validated.selected.len();
        let mut text = format!("{}: {}", self.source.path.display(), counted(rows, "row"));
        if rows < self.validated.rows {
            text += &format!(" of {}", count(self.validated.rows));
        }
        if let Some(shard) = self.header.selection.shard.divided() {
            text += &format!(" (shard {shard})");
        }
        if self.validated.unaskable > 0 {
            text += &format!(", {} without a question", count(self.validated.unaskable));
        }
        text += &format!(
            "; {}; {} at once on {}",
            self.answerer.description,
            counted(self.calls as u64, "call"),
            predictor.event_loop
        );
        if let Some(workers) = &self.answerer.workers {
            text += &format!(" in {}", workers.number);
            if self.dry_run {
                text += &format!(", the first ready after {}", duration(workers.ready_after));
            }
        }
        if self.dry_run {
            text += "; dry run: nothing is called";
        }
        observer.message(Level::Note, &text);
    }

    /// Estimates the tokens and the cost of this many rows.
    pub(super) fn estimate(&self, rows: u64) -> Estimated {
        self.estimate.of(rows.saturating_sub(self.validated.unaskable))
    }

    /// The budget that is left after `used`; `None` if the job has no budget.
    pub(super) fn budget(&self, used: &Spent) -> Option<Budget> {
        Some(self.estimate.budget(&self.spec.money)?.resuming(used))
    }

    /// The facts for the report that are known before the session begins.
    pub(super) fn facts(&self) -> report::RunInfo {
        report::RunInfo {
            argv: self.header.argv.clone(),
            input: self.header.input.path.clone(),
            input_sha256: self.header.input.sha256.clone(),
            shard: self.header.selection.shard.divided(),
            predictor: self.spec.predictor.predictor.clone(),
            bridge: self.answerer.bridge.describe().bridge.clone(),
            versions: self.versions.clone(),
            started_at: self.header.started_at.clone(),
            finished_at: String::new(),
            host_cores: cores(),
        }
    }
}
