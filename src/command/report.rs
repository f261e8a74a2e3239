//! `report`: a run's timing report again.

use std::path::PathBuf;

use clap::Args;

use super::job::show_report;
use super::streams::Streams;
use crate::config::options::ShowOptions;
use crate::config::paths::JobPaths;
use crate::report::json;

/// The options of `report`.
#[derive(Debug, Clone, Args)]
pub struct ReportOptions {
    /// The answers file of a run
    pub answers: PathBuf,
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
    let report = json::read(&paths.report)?;
    if let Some(file) = &options.json {
        json::write(file, &report)?;
    }
    show_report(&report, &paths, &options.show, streams)?;
    Ok(0)
}
