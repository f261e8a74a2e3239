//! The subcommand `report`, which shows a run's timing report again, from its journal.

use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::{PathBufValueParser, TypedValueParser};

use super::failures;
use super::run_job::show_report;
use super::show::ShowOptions;
use super::streams::Streams;
use crate::job::answerer::now;
use crate::job::destination::{self, Kind};
use crate::job::paths::{JobPaths, answers_of};
use crate::job::rebuilt::{Rebuilt, rebuilt};
use crate::report::table::Files;
use crate::report::{html, json};
use crate::run::control::Control;

/// The arguments and options of `report`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ReportOptions {
    /// The answers file of a run
    #[arg(value_parser = PathBufValueParser::new().map(answers_of))]
    pub answers: PathBuf,
    /// Also write the report as a page
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Also write the report as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Instead of the summary, print each failed row with its error and traceback, and each answer that was cut off at
    /// `max_tokens`
    #[arg(long)]
    pub failures: bool,
    /// Replace files that this program did not write; they are kept as `<FILE>.<time>`
    #[arg(long)]
    pub force: bool,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub show: ShowOptions,
}

/// Runs `report` and returns the exit code.
///
/// # Errors
///
/// Fails if there is no journal, if it cannot be read, if a file cannot be written, or if `control` stops
/// the reading.
pub(crate) fn report(
    options: &ReportOptions,
    streams: &mut Streams,
    control: &Control,
) -> anyhow::Result<u8> {
    let paths = JobPaths::of_run(&options.answers)?;
    let mut observer = streams.observer(&options.show);
    let Rebuilt { report, fold, access } = rebuilt(&paths, observer.as_mut(), control)?;
    let kept = [
        ("the journal", &*paths.journal),
        ("the answers", &*paths.answers),
        ("the input", Path::new(&report.run.input)),
    ];
    let files = [(&options.json, "--json", Kind::Json), (&options.html, "--html", Kind::Page)];
    let files = files.into_iter().filter_map(|(file, option, kind)| Some((file.as_deref()?, option, kind)));
    for (file, option, kind) in files.clone() {
        destination::check(file, option, &kept)?;
        destination::check_kind(file, option, kind, options.force)?;
    }
    for (file, _, kind) in files {
        destination::set_aside(file, kind, &now(), observer.as_mut())?;
    }
    drop(observer);
    if let Some(file) = &options.json {
        json::write(file, access, &report)?;
    }
    if let Some(file) = &options.html {
        html::write(file, access, &paths.answers, &report, &fold)?;
    }
    if options.failures {
        failures::print(&paths.journal, &options.show, streams, control)?;
        return Ok(0);
    }
    let there = |given: &Option<PathBuf>, own: PathBuf| given.clone().or_else(|| own.exists().then_some(own));
    let (page, report_file) = (there(&options.html, paths.page), there(&options.json, paths.report));
    let resume = streams.commands.resume();
    let files = Files {
        answers: &paths.answers,
        report: report_file.as_deref(),
        page: page.as_deref(),
        resume: &resume,
    };
    show_report(&report, files, &options.show, streams)?;
    Ok(0)
}
