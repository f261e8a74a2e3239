//! One job from its options to its exit code: what `process` and `resume` share. Not the rows' own story.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use tempfile::TempPath;

use super::destination::{self, Kind, same};
use super::prepared::{Prepared, Preparing};
use super::session::Session;
use super::setup::{now, panicked};
use super::show::ShowOptions;
use super::streams::Streams;
use crate::job::paths::JobPaths;
use crate::job::spec::JobSpec;
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

/// A job as it was asked for, and what belongs to this session alone.
pub(super) struct Asked {
    /// The job.
    pub spec: JobSpec,
    /// Its files, as the user names them.
    pub paths: JobPaths,
    /// The stream that its rows come by now.
    pub stream: Option<PathBuf>,
    /// The input as the user names it; none for the recorded one.
    pub named: Option<PathBuf>,
    /// Check everything, call nothing.
    pub dry_run: bool,
    /// Its files are removed at its end: nobody wants the answers.
    pub scratch: bool,
    /// What is shown.
    pub show: ShowOptions,
}

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
/// summary.
pub(super) async fn run<F>(asked: Asked, streams: &mut Streams, open: F) -> anyhow::Result<u8>
where
    F: FnOnce(&JobPaths, &Prepared, &mut dyn Reporter) -> anyhow::Result<Option<Opened>>,
{
    let Asked { mut spec, paths, stream, named, dry_run, scratch, show } = asked;
    // Before the first Python import: see `Signals`.
    let words = streams.last_words(Some(paths.journal.clone()));
    let mut signals = Signals::insisting(spec.time.grace, words)?;
    let files = paths.absolute()?;
    let page = spec.page.html && !scratch;
    let input = if stream.is_some() { Some(paths.spool.clone()) } else { named };
    let mut source = spec.source(input.as_deref().unwrap_or(&spec.input));
    let python = spec.predictor.python.as_deref();
    for path in [&*source.at, &*spec.directory].into_iter().chain(python) {
        if path.to_str().is_none() {
            bail!(
                "the journal cannot name `{}`, which is not UTF-8: `resume` would not find it\nhint: rename it",
                path.display()
            );
        }
    }
    let mut fresh = None;
    if let Some(stream) = stream {
        spec.input.clone_from(&files.spool);
        let from = stream.clone();
        // Removed by whatever ends the job before it has a journal. Only its owner may read it.
        let (file, at) = tempfile::NamedTempFile::new_in(directory_of(&files.spool))
            .with_context(|| format!("failed to write into `{}`", directory_of(&paths.spool).display()))?
            .into_parts();
        tokio::select! {
            kept = tokio::task::spawn_blocking(move || spool(&from, file)) => kept
                .map_err(|error| panicked(&error))?
                .with_context(|| format!("failed to keep `{}` in `{}`", stream.display(), paths.spool.display()))?,
            signal = signals.next() => return Ok(StopReason::Signal(signal).exit_code()),
        }
        source.at = at.to_path_buf();
        fresh = Some(at);
    }
    let (spooled, access) = (spec.stream, spec.access.access());
    let preparing = Preparing {
        calls: spec.pace.calls(),
        spec,
        source,
        dry_run,
        quiet: show.quiet,
        prints: streams.show(&show),
    };
    let mut prepared = match preparing.run(&mut signals).await? {
        Ok(prepared) => prepared,
        Err(signal) => return Ok(StopReason::Signal(signal).exit_code()),
    };
    let mut reporter = streams.reporter(&show);
    prepared.announce(reporter.as_mut());
    if fresh.is_some() {
        prepared.header.input.path = files.spool.to_string_lossy().into_owned();
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
        prepared.source.at.clone_from(&files.spool);
    }
    let session = Session { page, access, scratch, ..prepared.session(opened, prepared.calls) };
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
        let kept = !scratch;
        let named = Files {
            answers: if kept { &paths.answers } else { Path::new("/dev/null") },
            report: kept.then_some(&paths.report),
            page: page.then_some(&paths.page),
            resume: &resume,
        };
        show_report(report, named, &show, streams)?;
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

/// Refuses what would destroy something: answers over the input, a directory that cannot be written. Says whether the
/// journal holds a run, which is continued.
pub(super) fn check_output(
    input: &Path,
    output: Option<&Path>,
    spec: &JobSpec,
    paths: &JobPaths,
    force: bool,
) -> anyhow::Result<bool> {
    // Its own companions too: what an earlier job kept of standard input would be set aside before it is read.
    for file in [&paths.answers, &paths.journal, &paths.report, &paths.page, &paths.spool] {
        if input != Path::new("-") && same(file, input) {
            bail!(
                "`{}` would replace the input `{}`\nhint: name another file with `--output`",
                file.display(),
                input.display()
            );
        }
    }
    // By the name as given too: what a link leads to does not tell a descriptor from a file.
    for file in output.into_iter().chain([&*paths.answers, &*paths.report, &*paths.page]) {
        destination::check(file, "--output", &[])?;
    }
    // Where a journal holds a run, the files beside it are its job's.
    let earlier = paths.journal.exists() && holds_lines(&paths.journal)?;
    if !earlier {
        destination::check_extension(&paths.answers)?;
        for (file, kind) in kinds(spec, paths) {
            destination::check_kind(file, "--output", kind, force)?;
        }
    }
    if earlier && !force {
        // Nothing can be resumed from a journal without its header; that is what is said then.
        if let Err(JournalError::NoHeader { path }) = Recovered::read(&paths.journal, |_| {}) {
            bail!(
                "`{}` holds something else than a run: it has no whole header\nhint: put back a copy of the journal, or start anew with `--force`, which keeps this one under another name",
                path.display()
            );
        }
    }
    // Asked of the file system itself: permissions do not tell of read-only mounts.
    let directory = directory_of(&paths.answers);
    tempfile::tempfile_in(directory)
        .with_context(|| format!("failed to write into `{}`", directory.display()))?;
    Ok(earlier && !force)
}

/// The files that a job writes at its end, and what they may replace.
fn kinds<'a>(spec: &JobSpec, paths: &'a JobPaths) -> [(&'a Path, Kind); 3] {
    let answers = Kind::Answers(spec.rows.delimiter);
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
    force: bool,
    paths: &JobPaths,
    prepared: &Prepared,
    reporter: &mut dyn Reporter,
) -> anyhow::Result<Opened> {
    let exists = paths.journal.exists();
    let cut_short = exists && !holds_lines(&paths.journal)?;
    if cut_short || (exists && force) {
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
    let header = &prepared.header;
    let journal = Journal::create(&paths.journal, header)?;
    if !exists || cut_short {
        for (file, kind) in kinds(&prepared.spec, paths) {
            destination::set_aside(file, kind, &header.started_at, reporter)?;
        }
    }
    Ok(Opened::new(journal, header))
}

fn name_of(path: &Path) -> std::path::Display<'_> {
    Path::new(path.file_name().unwrap_or(path.as_os_str())).display()
}
