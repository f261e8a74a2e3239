//! `report`: a run's timing report again, from its journal.

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;

use super::destination;
use super::job::show_report;
use super::rebuilt::rebuilt;
use super::streams::Streams;
use crate::config::options::ShowOptions;
use crate::config::paths::JobPaths;
use crate::report::table::Files;
use crate::report::{html, json};

/// The options of `report`.
#[derive(Debug, Clone, Args)]
pub struct ReportOptions {
    /// The answers file of a run
    pub answers: PathBuf,
    /// Also writes the report as a page
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Also writes the report as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub show: ShowOptions,
}

/// Runs `report`.
pub fn report(options: &ReportOptions, streams: &mut Streams) -> anyhow::Result<u8> {
    let paths = JobPaths::of(&options.answers);
    if !paths.journal.exists() {
        bail!(
            "`{}` has no journal `{}`\nhint: name the answers file of an earlier `process`",
            options.answers.display(),
            paths.journal.display()
        );
    }
    let (report, fold) = rebuilt(&paths, streams.reporter(&options.show).as_mut())?;
    let kept = [
        ("the journal", &*paths.journal),
        ("the answers", &*paths.answers),
        ("the input", Path::new(&report.run.input)),
    ];
    for (file, option) in [(&options.json, "--json"), (&options.html, "--html")] {
        file.iter().try_for_each(|file| destination::check(file, option, &kept))?;
    }
    if let Some(file) = &options.json {
        json::write(file, &report)?;
    }
    if let Some(file) = &options.html {
        html::write(file, &paths.answers, &report, &fold)?;
    }
    let there = |given: &Option<PathBuf>, own: PathBuf| given.clone().or_else(|| own.exists().then_some(own));
    let (page, report_file) = (there(&options.html, paths.page), there(&options.json, paths.report));
    let files = Files { answers: &paths.answers, report: report_file.as_deref(), page: page.as_deref() };
    show_report(&report, files, &options.show, streams)?;
    Ok(0)
}
