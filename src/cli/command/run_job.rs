//! Runs a job and shows it on the command line, for `process` and `resume`.

use std::path::Path;

use anyhow::anyhow;
use clap::Args;

use super::show::ShowOptions;
use super::signals::{Signals, suspend_workers};
use super::streams::Streams;
use super::worker::worker_program;
use crate::job::spec::{WholePatch, WorkerCount};
use crate::job::{Job, JobPaths, Prints, SessionOptions};
use crate::journal::Counts;
use crate::observe::Level;
use crate::report::Report;
use crate::report::table::{self, Files};
use crate::report::text::{count, counted};
use crate::run::control::Control;

/// The options that `process` and `resume` share.
#[derive(Debug, Clone, Args)]
pub(crate) struct RunOptions {
    /// Go on although the input or the predictor has changed; rows are matched by their content
    #[arg(long)]
    pub allow_changed: bool,
    /// Check everything, call nothing
    #[arg(long, env = "TAB_DRY_RUN")]
    pub dry_run: bool,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub job: WholePatch,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub show: ShowOptions,
}

/// The options of a session that do not depend on the subcommand.
pub(super) fn session_options(show: &ShowOptions, streams: &Streams) -> SessionOptions {
    SessionOptions {
        quiet: show.quiet,
        prints: Prints { show: streams.show(show), names_workers: show.verbose > 0 },
        worker_program: worker_program(),
        argv: streams.arguments.iter().map(|word| word.to_string_lossy().into_owned()).collect(),
        ..SessionOptions::default()
    }
}

/// Runs a job to its end, or up to its first call in a dry run. Shows the summary and returns the exit code.
pub(super) async fn run(mut job: Job, options: &RunOptions, streams: &mut Streams) -> anyhow::Result<u8> {
    let show = &options.show;
    let control = Control::new();
    let words = streams.last_words(Some(job.files().journal.clone()));
    let signals = Signals::forward(&control, job.spec().time.grace, words)?;
    // `resume` always writes the answers and the report again, so it does not ask whether the job is done.
    if !job.resumes()
        && let Some(counts) = job.done(&mut (), &control).await?
    {
        return Ok(nothing_to_do(counts, job.files(), show, streams));
    }
    if job.spec().workers.workers != WorkerCount::InProcess {
        suspend_workers()?;
    }
    let (named, scratch) = (job.files().clone(), job.is_scratch());
    let page = job.writes_page().then(|| named.page.clone());
    let mut observer = streams.observer(show);
    let prepared = job.prepare(observer.as_mut(), &control).await?;
    if options.dry_run {
        let (prepared, rows) = prepared.check(observer.as_mut(), &control).await?;
        observer.message(Level::Note, &prepared.estimate(rows).to_string());
        return Ok(0);
    }
    let mut opened = prepared.open(observer.as_mut(), &control).await?;
    streams.files.paths = Some(named.clone());
    let end = opened.run(observer.as_mut(), &control).await;
    drop(observer);
    let end = end?;
    // What is left takes a bounded time, so signals may have their default effect again.
    drop(signals);
    let Some(report) = &end.report else {
        // The session was killed.
        opened.leave();
        return Ok(end.code);
    };
    streams.files.reported = true;
    streams.files.page.clone_from(&page);
    let resume = streams.commands.resume();
    let files = Files {
        answers: if scratch { Path::new("/dev/null") } else { &named.answers },
        report: (!scratch).then_some(&*named.report),
        page: page.as_deref(),
        resume: &resume,
    };
    show_report(report, files, show, streams)?;
    Ok(end.code)
}

/// Says that nothing is left to do, and returns the exit code.
fn nothing_to_do(counts: Counts, files: &JobPaths, show: &ShowOptions, streams: &mut Streams) -> u8 {
    let Counts { ok, failed, .. } = counts;
    let mut text = format!("nothing to do: {} answered in `{}`", counted(ok, "row"), files.answers.display());
    text += &match failed {
        0 => "\nhint: `--force` starts anew".to_owned(),
        _ => format!(
            ", and {} that failed stay as they are\nhint: `resume --only failed` calls those again, and `--force` \
             starts anew",
            count(failed)
        ),
    };
    streams.observer(show).message(Level::Note, &text);
    streams.files.page = Some(files.page.clone()).filter(|page| page.exists());
    streams.files.paths = Some(files.clone());
    streams.files.reported = true;
    if failed > 0 { 3 } else { 0 }
}

/// Prints the summary of a report.
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
