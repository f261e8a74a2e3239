//! One job from its options to its exit code: what `process` and `resume` share. Not the rows' own story.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::Usage;
use super::session::{Outcome, Session};
use super::setup::{Answerer, masked_argv, now, panicked, predictor_sha256, secrets};
use super::streams::Streams;
use crate::config::options::ShowOptions;
use crate::config::paths::JobPaths;
use crate::config::{ProcessOptions, identity, recorded};
use crate::input::{Format, Source, Validated, validate};
use crate::journal::{Header, InputIdentity, Journal, VERSION, set_aside};
use crate::policy::stop::StopReason;
use crate::report::progress::{Level, Reporter};
use crate::report::text::{count, counted};
use crate::report::{self, Report, table};
use crate::run::signals::Signals;
use crate::secret::Secrets;
use crate::stats::Fold;

/// A job ready to run: everything is checked, nothing is called yet.
pub struct Prepared {
    answerer: Answerer,
    source: Source,
    validated: Validated,
    validate: Duration,
    header: Header,
    calls: usize,
    predictor: String,
}

/// The journal of a job, and the figures and facts of the sessions before.
pub struct Opened {
    /// The journal, its header written.
    pub journal: Journal,
    /// The earlier sessions' figures.
    pub fold: Fold,
}

/// Runs a job: prepares it, opens its journal by `open`, runs its session, shows the summary.
pub async fn run<F>(options: ProcessOptions, kept: Vec<String>, streams: &mut Streams, open: F) -> anyhow::Result<u8>
where
    F: FnOnce(&JobPaths, &Header, &mut dyn Reporter) -> anyhow::Result<Opened>,
{
    // Before the first Python import: see `Signals`.
    let mut signals = Signals::new()?;
    let format = options.format()?;
    let paths = options.paths(format);
    let source = options.source(format, &paths);
    let secrets = secrets(&options.predictor);
    let preparing = tokio::task::spawn_blocking({
        let options = options.clone();
        move || prepare(&options, kept, source, &secrets)
    });
    let prepared = tokio::select! {
        prepared = preparing => prepared.map_err(|error| panicked(&error))??,
        // Nothing has been called or written yet.
        signal = signals.next() => return Ok(StopReason::Signal(signal).exit_code()),
    };
    let mut reporter = streams.reporter(&options.show);
    for warning in &prepared.validated.warnings {
        reporter.message(Level::Warning, &warning.to_string());
    }
    reporter.message(Level::Note, &prepared.announcement(&options));
    if options.dry_run {
        prepared.answerer.shut_down();
        return Ok(0);
    }
    let opened = open(&paths, &prepared.header, reporter.as_mut())?;
    let outcome = prepared.session(opened, &options, &paths).run(reporter.as_mut(), &mut signals).await;
    drop(reporter);
    let outcome = outcome?;
    show(&outcome, &options.show, &paths, streams)?;
    if !all_answered(&outcome) {
        tracing::debug!("rows are left");
    } else if options.reads_stdin() {
        // Kept until every row is answered.
        std::fs::remove_file(&paths.spool).with_context(|| format!("failed to remove `{}`", paths.spool.display()))?;
    }
    if outcome.report.is_some() {
        prepared.answerer.shut_down();
    }
    Ok(outcome.code)
}

fn all_answered(outcome: &Outcome) -> bool {
    outcome.report.as_ref().is_some_and(|report| report.rows.ok == report.rows.total)
}

fn show(outcome: &Outcome, options: &ShowOptions, paths: &JobPaths, streams: &mut Streams) -> io::Result<()> {
    match &outcome.report {
        Some(report) => show_report(report, paths, options, streams),
        None => Ok(()),
    }
}

/// Prints a report's summary.
pub fn show_report(report: &Report, paths: &JobPaths, options: &ShowOptions, streams: &mut Streams) -> io::Result<()> {
    let files = table::Files { answers: &paths.answers, report: Some(&paths.report) };
    let text = table::summary(report, files, streams.look(options));
    streams.say(options, &text)
}

/// Checks everything and starts the predictor. Blocks.
fn prepare(
    options: &ProcessOptions,
    kept: Vec<String>,
    source: Source,
    secrets: &Secrets,
) -> anyhow::Result<Prepared> {
    let calls = options.pace.calls().map_err(Usage)?;
    let answerer = Answerer::start(&options.predictor, calls, options.dry_run, secrets)?;
    let validating = Instant::now();
    let validated = validate(&source, &answerer.wanted(&options.rows), options.rows.selection())?;
    let validate = validating.elapsed();
    let header = Header {
        version: VERSION,
        program: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: now(),
        pid: std::process::id(),
        argv: masked_argv(secrets),
        input: InputIdentity {
            path: std::path::absolute(&source.path)?.to_string_lossy().into_owned(),
            format: if source.format == Format::Csv { "csv" } else { "jsonl" }.to_owned(),
            delimiter: (source.format == Format::Csv).then(|| char::from(source.delimiter)),
            encoding: source.encoding.name().to_owned(),
            sha256: validated.sha256.clone(),
            rows: validated.rows,
            header_hash: validated.header_hash,
        },
        selection: validated.selected.clone(),
        identity: identity(&options.predictor, &options.rows),
        predictor_sha256: predictor_sha256(&answerer.bridge),
        settings: serde_json::json!({
            "options": kept,
            "stdin": options.reads_stdin(),
            "directory": std::env::current_dir()?.to_string_lossy(),
        }),
    };
    let calls = answerer.limit(calls);
    let predictor = options.predictor.predictor.clone();
    Ok(Prepared { answerer, source, validated, validate, header, calls, predictor })
}

impl Prepared {
    /// What is about to run, said before the first call.
    fn announcement(&self, options: &ProcessOptions) -> String {
        let rows = self.validated.selected.end - self.validated.selected.start;
        let mut text = format!("{}: {}", self.source.path.display(), counted(rows, "row"));
        if rows < self.validated.rows {
            text += &format!(" of {}", count(self.validated.rows));
        }
        if self.validated.unaskable > 0 {
            text += &format!(", {} without a question", count(self.validated.unaskable));
        }
        let (event_loop, _) = self.answerer.bridge.event_loop();
        let at_once = if self.calls == 1 { "one call at a time".to_owned() } else { format!("{} calls at once", count(self.calls as u64)) };
        text += &format!("; {}; {at_once} on {event_loop}", self.answerer.description);
        if options.dry_run { format!("{text}; dry run: nothing is called") } else { text }
    }

    fn session<'a>(&'a self, opened: Opened, options: &'a ProcessOptions, paths: &'a JobPaths) -> Session<'a> {
        Session {
            answerer: &self.answerer,
            source: &self.source,
            validated: &self.validated,
            paths,
            journal: opened.journal,
            fold: opened.fold,
            calls: self.calls,
            time: &options.time,
            retry: &options.retry,
            stop: &options.stop,
            run: self.facts(),
            validate: self.validate,
        }
    }

    fn facts(&self) -> report::Run {
        report::Run {
            argv: self.header.argv.clone(),
            input: self.header.input.path.clone(),
            input_sha256: self.header.input.sha256.clone(),
            predictor: self.predictor.clone(),
            bridge: self.answerer.bridge.name().to_owned(),
            versions: self.answerer.versions().into_iter().collect(),
            started_at: self.header.started_at.clone(),
            finished_at: String::new(),
            host_cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        }
    }
}

/// The options to be kept for `resume`, the mode among them.
pub fn kept_options(options: &ProcessOptions, mut given: Vec<String>) -> anyhow::Result<Vec<String>> {
    given.push(recorded::mode(options.pace.mode().map_err(Usage)?));
    Ok(given)
}

/// Refuses what would destroy something: answers over the input, a directory that cannot be written, an earlier run.
pub fn check_output(options: &ProcessOptions, paths: &JobPaths) -> anyhow::Result<()> {
    let same = |one: &Path, other: &Path| {
        matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
    };
    if same(&options.input, &paths.answers) {
        bail!("the answers would replace the input `{}`\nhint: choose another `--output`", options.input.display());
    }
    if paths.answers.is_dir() {
        bail!("`{}` is a directory\nhint: name a file with `--output`", paths.answers.display());
    }
    if paths.journal.exists() && !options.force {
        return Err(crate::journal::JournalError::Exists { path: paths.journal.clone() }.into());
    }
    // Asked of the file system itself: permissions do not tell of read-only mounts.
    let directory = paths.answers.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    tempfile::tempfile_in(directory)
        .map(drop)
        .with_context(|| format!("failed to write into `{}`", directory.display()))
}

/// Copies standard input to the job's spool file, which only its owner may read.
pub fn spool(paths: &JobPaths) -> anyhow::Result<()> {
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&paths.spool)?;
        io::copy(&mut io::stdin().lock(), &mut file)?;
        file.sync_all()
    };
    write().with_context(|| format!("failed to keep standard input in `{}`", paths.spool.display()))
}

/// Makes the journal of a new job, setting an old one aside.
pub fn create(options: &ProcessOptions, paths: &JobPaths, header: &Header, reporter: &mut dyn Reporter) -> anyhow::Result<Opened> {
    if options.force && paths.journal.exists() {
        let time = now().replace(':', "-");
        let aside: PathBuf = set_aside(&paths.journal, &time)?;
        reporter.message(Level::Note, &format!("the earlier journal is kept as `{}`", aside.display()));
    }
    let journal = Journal::create(&paths.journal, header)?;
    Ok(Opened { journal, fold: Fold::new(&header.selection) })
}

/// Whether a file can be read at all; for a clear error before anything else.
pub fn readable(path: &Path) -> bool {
    File::open(path).is_ok()
}
