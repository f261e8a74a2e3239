//! One job from its options to its exit code: what `process` and `resume` share. Not the rows' own story.

use std::fs::File;
use std::io;
use std::path::Path;

use anyhow::{Context, anyhow, bail};
use tempfile::TempPath;

use super::Usage;
use super::destination::{self, Kind, same};
use super::prepared::{Prepared, Preparing};
use super::session::Session;
use super::setup::{now, panicked};
use super::streams::Streams;
use crate::config::options::ShowOptions;
use crate::config::paths::JobPaths;
use crate::config::{ProcessOptions, recorded};
use crate::journal::{
    Header, Journal, JournalError, Recovered, directory_of, holds_lines, set_aside, sync_directory_of,
};
use crate::policy::stop::StopReason;
use crate::report::Report;
use crate::report::progress::{Level, Reporter};
use crate::report::table::{self, Files};
use crate::run::signals::Signals;
use crate::run::todo::Choice;
use crate::stats::Fold;

/// The journal of a job, and the figures of the sessions before.
pub(super) struct Opened {
    /// The journal, its header written.
    pub journal: Journal,
    /// The earlier sessions' figures.
    pub fold: Fold,
    /// Which rows are to be run.
    pub choice: Choice,
}

impl Opened {
    /// A new journal: there is no session before, and all rows are to be run.
    pub(super) fn new(journal: Journal, header: &Header) -> Self {
        Self { journal, fold: Fold::new(&header.selection), choice: Choice::default() }
    }
}

/// Runs a job: prepares it, opens its journal by `open`, which gives none for a dry run, runs its session, shows the
/// summary. `spooled` says that its
/// input came by a stream, now or in an earlier session.
pub(super) async fn run<F>(
    options: ProcessOptions,
    kept: Vec<String>,
    spooled: bool,
    streams: &mut Streams,
    open: F,
) -> anyhow::Result<u8>
where
    F: FnOnce(&JobPaths, &Prepared, &mut dyn Reporter) -> anyhow::Result<Option<Opened>>,
{
    // Before the first Python import: see `Signals`.
    let mut signals = Signals::insisting(options.job.time.grace)?;
    let format = options.job.rows.format_of(&options.input)?;
    let paths = options.paths(format);
    let files = paths.absolute()?;
    let calls = options.pace.calls().map_err(Usage)?;
    let page = options.page.wanted().map_err(Usage)? && options.scratch.is_none();
    let mut source = options.source(format, &paths);
    let directory = std::env::current_dir()?;
    let python = options.job.predictor.python.as_deref();
    for path in [&*source.at, &*directory].into_iter().chain(python) {
        if path.to_str().is_none() {
            bail!(
                "the journal cannot name `{}`, which is not UTF-8: `resume` would not find it\nhint: rename it",
                path.display()
            );
        }
    }
    let mut fresh = None;
    if options.reads_stream() {
        let input = options.input.clone();
        // Removed by whatever ends the job before it has a journal. Only its owner may read it.
        let (file, at) = tempfile::NamedTempFile::new_in(directory_of(&files.spool))
            .with_context(|| format!("failed to write into `{}`", directory_of(&paths.spool).display()))?
            .into_parts();
        tokio::select! {
            kept = tokio::task::spawn_blocking(move || spool(&input, file)) => kept
                .map_err(|error| panicked(&error))?
                .with_context(|| format!("failed to keep `{}` in `{}`", options.input.display(), paths.spool.display()))?,
            signal = signals.next() => return Ok(StopReason::Signal(signal).exit_code()),
        }
        source.at = at.to_path_buf();
        fresh = Some(at);
    }
    let preparing = Preparing {
        job: options.job.clone(),
        source,
        calls,
        fields: options.fields.names().to_vec(),
        settings: serde_json::json!({ "keys": options.job.predictor.keys(), "options": kept, "stdin": spooled, "directory": directory }),
        show: streams.show(&options.job.show),
    };
    let mut prepared = match preparing.run(&mut signals).await? {
        Ok(prepared) => prepared,
        Err(signal) => return Ok(StopReason::Signal(signal).exit_code()),
    };
    let mut reporter = streams.reporter(&options.job.show);
    prepared.announce(reporter.as_mut());
    if fresh.is_some() {
        prepared.moves_to(&files.spool);
    }
    let Some(opened) = open(&files, &prepared, reporter.as_mut())? else {
        prepared.answerer.shut_down();
        return Ok(0);
    };
    streams.files.paths = Some(paths.clone());
    if let Some(interpreter) = &prepared.answerer.interpreter {
        interpreter.keep_from_children(opened.journal.descriptor());
    }
    // Only now: what was kept for an earlier job is its own until that is set aside and the journal is locked.
    if let Some(fresh) = fresh {
        keep(fresh, &files.spool)?;
    }
    let session = Session {
        page,
        access: options.job.access.access(),
        scratch: options.scratch.is_some(),
        ..prepared.session(opened, prepared.calls)
    };
    let outcome = session.run(&files, reporter.as_mut(), &mut signals).await;
    drop(reporter);
    let outcome = outcome?;
    // All that is left is bounded in time.
    drop(signals);
    // Without a report the session was cut short: the process ends at once.
    if let Some(report) = &outcome.report {
        streams.files.reported = true;
        streams.files.page = page.then(|| paths.page.clone());
        let resume = streams.commands.resume();
        let kept = options.scratch.is_none();
        let named = Files {
            answers: if kept { &paths.answers } else { Path::new("/dev/null") },
            report: kept.then_some(&paths.report),
            page: page.then_some(&paths.page),
            resume: &resume,
        };
        show_report(report, named, &options.job.show, streams)?;
        if spooled && report.rows.ok == report.rows.total {
            remove_spool(&files)?;
        }
        prepared.answerer.shut_down();
    }
    Ok(outcome.code)
}

/// Prints a report's summary.
pub(super) fn show_report(
    report: &Report,
    files: Files<'_>,
    options: &ShowOptions,
    streams: &mut Streams,
) -> anyhow::Result<()> {
    let text = table::summary(report, files, streams.look(options));
    let answers = files.answers.display();
    streams.say(options, &text).map_err(|error| {
        anyhow!("{error}\nhint: the answers are in `{answers}`; `report` prints the summary again")
    })
}

/// The options to be kept for `resume`; the mode and the page too where variables chose them.
pub(super) fn kept_options(options: &ProcessOptions, given: Vec<String>) -> anyhow::Result<Vec<String>> {
    let mut kept = recorded::without_secrets(given);
    kept.push(recorded::mode(options.pace.mode().map_err(Usage)?));
    kept.push(if options.page.wanted().map_err(Usage)? { "--html" } else { "--no-html" }.to_owned());
    Ok(kept)
}

/// Refuses what would destroy something: answers over the input, a directory that cannot be written, an earlier run.
pub(super) fn check_output(options: &ProcessOptions, paths: &JobPaths) -> anyhow::Result<()> {
    // Its own companions too: what an earlier job kept of standard input would be set aside before it is read.
    for file in [&paths.answers, &paths.journal, &paths.report, &paths.page, &paths.spool] {
        if options.input != Path::new("-") && same(file, &options.input) {
            bail!(
                "`{}` would replace the input `{}`\nhint: name another file with `--output`",
                file.display(),
                options.input.display()
            );
        }
    }
    // By the name as given too: what a link leads to does not tell a descriptor from a file.
    let given = options.output.iter().filter(|_| options.scratch.is_none());
    for file in given.chain([&paths.answers, &paths.report, &paths.page]) {
        destination::check(file, "--output", &[])?;
    }
    // Where a journal holds a run, the files beside it are its job's.
    let earlier = paths.journal.exists() && holds_lines(&paths.journal)?;
    if !earlier {
        destination::check_extension(&paths.answers)?;
        for (file, kind) in kinds(options, paths) {
            destination::check_kind(file, "--output", kind, options.force)?;
        }
    }
    if earlier && !options.force {
        // Nothing can be resumed from a journal without its header; that is what is said then.
        if let Err(JournalError::NoHeader { path }) = Recovered::read(&paths.journal, |_| {}) {
            bail!(
                "`{}` holds something else than a run: it has no whole header\nhint: put back a copy of the journal, or start anew with `--force`, which keeps this one under another name",
                path.display()
            );
        }
        return Err(JournalError::Exists { path: paths.journal.clone() }.into());
    }
    // Asked of the file system itself: permissions do not tell of read-only mounts.
    let directory = directory_of(&paths.answers);
    tempfile::tempfile_in(directory)
        .map(drop)
        .with_context(|| format!("failed to write into `{}`", directory.display()))
}

/// The files that a job writes at its end, and what they may replace.
fn kinds<'a>(options: &ProcessOptions, paths: &'a JobPaths) -> [(&'a Path, Kind); 3] {
    let answers = Kind::Answers(options.job.rows.delimiter);
    [(&paths.answers, answers), (&paths.report, Kind::Json), (&paths.page, Kind::Page)]
}

/// Copies a stream to a file.
fn spool(stream: &Path, mut file: File) -> io::Result<()> {
    if stream == Path::new("-") {
        io::copy(&mut io::stdin().lock(), &mut file)?;
    } else {
        io::copy(&mut File::open(stream)?, &mut file)?;
    }
    file.sync_all()
}

/// Gives what was kept of a stream its name.
fn keep(fresh: TempPath, spool: &Path) -> anyhow::Result<()> {
    let kept = fresh.persist(spool).map_err(|error| error.error).and_then(|()| sync_directory_of(spool));
    kept.with_context(|| format!("failed to keep standard input in `{}`", spool.display()))
}

/// Removes what was kept of standard input.
pub(super) fn remove_spool(paths: &JobPaths) -> anyhow::Result<()> {
    std::fs::remove_file(&paths.spool)
        .with_context(|| format!("failed to remove `{}`", paths.spool.display()))
}

/// Makes the journal of a new job, setting an old one aside: where that is forced, or where it holds nothing.
pub(super) fn create(
    options: &ProcessOptions,
    paths: &JobPaths,
    header: &Header,
    reporter: &mut dyn Reporter,
) -> anyhow::Result<Opened> {
    let exists = paths.journal.exists();
    let cut_short = exists && !holds_lines(&paths.journal)?;
    if cut_short || (exists && options.force) {
        let time = now().replace(':', "-");
        let journal = set_aside(&paths.journal, &time)?;
        let without = if cut_short { ", which holds no whole line," } else { "" };
        let mut text = format!("the earlier journal{without} is kept as `{}`", name_of(&journal));
        if paths.spool.exists() {
            let mut spool = paths.spool.clone().into_os_string();
            spool.push(format!(".{time}"));
            std::fs::rename(&paths.spool, &spool)
                .with_context(|| format!("failed to set aside `{}`", paths.spool.display()))?;
            text += &format!(", its input as `{}`", name_of(Path::new(&spool)));
        }
        reporter.message(Level::Note, &text);
    }
    let journal = Journal::create(&paths.journal, header)?;
    if !exists || cut_short {
        for (file, kind) in kinds(options, paths) {
            destination::set_aside(file, kind, &header.started_at, reporter)?;
        }
    }
    Ok(Opened::new(journal, header))
}

fn name_of(path: &Path) -> std::path::Display<'_> {
    Path::new(path.file_name().unwrap_or(path.as_os_str())).display()
}
