//! A job ready to run: everything is checked, the predictor is loaded, nothing is called or written yet.

use std::path::Path;
use std::time::{Duration, Instant};

use super::Usage;
use super::job::Opened;
use super::rebuilt::{KEPT, Kept, cores};
use super::session::Session;
use super::setup::{Answerer, masked_argv, now, panicked, predictor_sha256, secrets};
use crate::config::{JobOptions, identity};
use crate::input::{Format, Source, Validated, validate};
use crate::journal::{Header, InputIdentity, VERSION};
use crate::policy::stop::Signal;
use crate::report;
use crate::report::progress::{Level, Reporter};
use crate::report::text::{count, counted};
use crate::run::signals::Signals;

/// What is needed to prepare a job.
pub(super) struct Preparing {
    /// What was asked for.
    pub job: JobOptions,
    /// The input.
    pub source: Source,
    /// Calls in flight at most.
    pub calls: usize,
    /// What the journal keeps for `resume`.
    pub settings: serde_json::Value,
}

/// A job ready to run.
pub(super) struct Prepared {
    /// The predictor.
    pub answerer: Answerer,
    /// What is known of the input.
    pub validated: Validated,
    /// What the session starts with.
    pub header: Header,
    /// Calls in flight at most.
    pub calls: usize,
    /// The input.
    pub source: Source,
    job: JobOptions,
    validate: Duration,
}

impl Preparing {
    /// Prepares on a thread of its own; a signal ends it at once.
    pub(super) async fn run(self, signals: &mut Signals) -> anyhow::Result<Result<Prepared, Signal>> {
        let preparing = tokio::task::spawn_blocking(move || self.prepare());
        tokio::select! {
            prepared = preparing => Ok(Ok(prepared.map_err(|error| panicked(&error))??)),
            signal = signals.next() => Ok(Err(signal)),
        }
    }

    fn prepare(self) -> anyhow::Result<Prepared> {
        let Self { job, source, calls, mut settings } = self;
        let secrets = secrets(&job.predictor);
        if job.predictor.api_base.as_ref().is_some_and(|url| !url.contains("://")) {
            return Err(
                Usage("`--api-base` expects a URL such as `http://127.0.0.1:8000/v1`".to_owned()).into()
            );
        }
        let answerer = Answerer::start(&job.predictor, calls, job.dry_run, &secrets)?;
        let validating = Instant::now();
        let validated = validate(&source, &answerer.wanted(&job.rows), job.rows.selection())?;
        let validate = validating.elapsed();
        let calls = answerer.limit(calls);
        // For `report`, should this session not live to write its own.
        settings[KEPT] = serde_json::to_value(Kept {
            calls: calls as u64,
            bridge: answerer.bridge.name().to_owned(),
            versions: answerer.versions().into_iter().collect(),
            cores: cores(),
        })?;
        let header = Header {
            version: VERSION,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: now(),
            pid: std::process::id(),
            argv: masked_argv(&secrets),
            input: input_identity(&source, &validated),
            selection: validated.selected.clone(),
            identity: identity(&job.predictor, &job.rows),
            predictor_sha256: predictor_sha256(&answerer.bridge),
            settings,
        };
        Ok(Prepared { answerer, validated, header, calls, source, job, validate })
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
        header_hash: validated.header_hash,
    }
}

impl Prepared {
    /// Its input has got another name since it was read.
    pub(super) fn moves_to(&mut self, input: &Path) {
        input.clone_into(&mut self.source.at);
        self.header.input.path = input.to_string_lossy().into_owned();
    }

    /// Says what is about to run, before the first call.
    pub(super) fn announce(&self, reporter: &mut dyn Reporter) {
        for warning in &self.validated.warnings {
            reporter.message(Level::Warning, &warning.to_string());
        }
        let rows = self.validated.selected.end - self.validated.selected.start;
        let mut text = format!("{}: {}", self.source.path.display(), counted(rows, "row"));
        if rows < self.validated.rows {
            text += &format!(" of {}", count(self.validated.rows));
        }
        if self.validated.unaskable > 0 {
            text += &format!(", {} without a question", count(self.validated.unaskable));
        }
        let (event_loop, _) = self.answerer.bridge.event_loop();
        text += &format!(
            "; {}; {} at once on {event_loop}",
            self.answerer.description,
            counted(self.calls as u64, "call")
        );
        if self.job.dry_run {
            text += "; dry run: nothing is called";
        }
        reporter.message(Level::Note, &text);
    }

    /// A session of this job with so many calls in flight at most.
    pub(super) fn session(&self, opened: Opened, calls: usize) -> Session<'_> {
        Session {
            answerer: &self.answerer,
            source: &self.source,
            validated: &self.validated,
            journal: opened.journal,
            fold: opened.fold,
            choice: opened.choice,
            calls,
            time: &self.job.time,
            retry: &self.job.retry,
            rates: &self.job.rates,
            stop: &self.job.stop,
            run: self.facts(),
            validate: self.validate,
            page: false,
        }
    }

    fn facts(&self) -> report::Run {
        report::Run {
            argv: self.header.argv.clone(),
            input: self.header.input.path.clone(),
            input_sha256: self.header.input.sha256.clone(),
            predictor: self.job.predictor.predictor.clone(),
            bridge: self.answerer.bridge.name().to_owned(),
            versions: self.answerer.versions().into_iter().collect(),
            started_at: self.header.started_at.clone(),
            finished_at: String::new(),
            host_cores: cores(),
        }
    }
}
