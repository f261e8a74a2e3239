//! `compare`: the same rows in each mode, alternating, in journals of their own. Not the statistics.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use super::Usage;
use super::destination;
use super::job::Opened;
use super::prepared::{Prepared, Preparing};
use super::streams::Streams;
use crate::config::JobOptions;
use crate::config::paths::JobPaths;
use crate::config::values::concurrency;
use crate::journal::Journal;
use crate::policy::stop::StopReason;
use crate::report::compare::{Comparison, ModeRuns};
use crate::report::json;
use crate::report::progress::Level;
use crate::run::signals::Signals;

/// The options of `compare`.
#[derive(Debug, Clone, Args)]
pub struct CompareOptions {
    /// A `.csv` or `.jsonl` file
    pub input: PathBuf,
    /// Only, or also, one call at a time
    #[arg(long)]
    pub sequential: bool,
    /// Only, or also, several calls at a time
    #[arg(long)]
    pub concurrent: bool,
    /// Calls in flight at most; each one given is a mode of its own [default: 16]
    #[arg(short = 'c', long, value_name = "N", value_parser = concurrency)]
    pub concurrency: Vec<usize>,
    /// Runs of each mode
    #[arg(long, value_name = "K", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub runs: u32,
    /// Also writes the comparison as JSON
    #[arg(long, value_name = "FILE")]
    pub export_json: Option<PathBuf>,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub job: JobOptions,
}

impl CompareOptions {
    /// The modes asked for, both by default; sequential first, for it is the baseline.
    fn modes(&self) -> Vec<ModeRuns> {
        let (sequential, concurrent) =
            match (self.sequential, self.concurrent || !self.concurrency.is_empty()) {
                (false, false) => (true, true),
                (false, true) if !self.concurrent => (true, true),
                chosen => chosen,
            };
        let mode = |name: String, calls: usize| ModeRuns {
            name,
            concurrency: calls as u64,
            walls: Vec::new(),
            failed: 0,
            attempts: 0,
        };
        let widths = if self.concurrency.is_empty() { &[16][..] } else { &self.concurrency };
        let mut modes: Vec<ModeRuns> =
            sequential.then(|| mode("sequential".to_owned(), 1)).into_iter().collect();
        if concurrent {
            modes.extend(widths.iter().map(|calls| mode(format!("concurrent -c {calls}"), *calls)));
        }
        modes
    }
}

/// Runs `compare`.
pub async fn compare(options: CompareOptions, streams: &mut Streams) -> anyhow::Result<u8> {
    if options.input == Path::new("-") {
        return Err(Usage("`compare` reads its input once for each run: give it a file".to_owned()).into());
    }
    if let Some(file) = &options.export_json {
        destination::check(file, "--export-json", &[("the input", &options.input)])?;
        let directory =
            file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        tempfile::tempfile_in(directory)
            .with_context(|| format!("failed to write into `{}`", directory.display()))?;
    }
    // Before the first Python import: see `Signals`.
    let mut signals = Signals::new()?;
    let format = options.job.rows.format_of(&options.input)?;
    let mut modes = options.modes();
    let preparing = Preparing {
        job: options.job.clone(),
        source: options.job.rows.source(&options.input, format),
        calls: modes.iter().map(|mode| mode.concurrency as usize).max().unwrap_or(1),
        settings: serde_json::Value::Null,
    };
    let prepared = match preparing.run(&mut signals).await? {
        Ok(prepared) => prepared,
        Err(signal) => return Ok(StopReason::Signal(signal).exit_code()),
    };
    prepared.announce(streams.reporter(&options.job.show).as_mut());
    if options.job.dry_run {
        prepared.answerer.shut_down();
        return Ok(0);
    }
    for mode in &mut modes {
        let calls = prepared.answerer.limit(mode.concurrency as usize) as u64;
        if calls < mode.concurrency {
            // The name must not promise what is not reached.
            mode.name += &format!(" ({calls} at once)");
            mode.concurrency = calls;
        }
    }
    for run in 1..=options.runs {
        // Forth and back, so that no mode always comes first.
        let order: Vec<usize> =
            if run % 2 == 1 { (0..modes.len()).collect() } else { (0..modes.len()).rev().collect() };
        for mode in order {
            let title = format!("run {run} of {}: {}", options.runs, modes[mode].name);
            let code = measure(&prepared, &mut modes[mode], &title, &options, streams, &mut signals).await?;
            if !matches!(code, 0 | 3) {
                return Ok(code);
            }
        }
    }
    prepared.answerer.shut_down();
    let rows = prepared.validated.selected.end - prepared.validated.selected.start;
    let failed = modes.iter().any(|mode| mode.failed > 0);
    let comparison = Comparison::new(rows, modes);
    if let Some(file) = &options.export_json {
        json::write(file, &comparison)?;
    }
    let text = comparison.table(streams.look(&options.job.show));
    streams.say(&options.job.show, &text)?;
    Ok(if failed { 3 } else { 0 })
}

/// One run of one mode, in a directory that goes with it.
async fn measure(
    prepared: &Prepared,
    mode: &mut ModeRuns,
    title: &str,
    options: &CompareOptions,
    streams: &Streams,
    signals: &mut Signals,
) -> anyhow::Result<u8> {
    let directory = tempfile::tempdir().context("failed to make a temporary directory")?;
    let paths = JobPaths::of(&directory.path().join("answers.jsonl"));
    let journal = Journal::create(&paths.journal, &prepared.header)?;
    let opened = Opened::new(journal, &prepared.header);
    let mut reporter = streams.reporter(&options.job.show);
    reporter.message(Level::Note, title);
    let calls = mode.concurrency as usize;
    let outcome = prepared.session(opened, calls, &paths).run(reporter.as_mut(), signals).await?;
    if let Some(report) = outcome.report {
        mode.walls.push(std::time::Duration::from_secs_f64(report.wall_s));
        mode.failed += report.rows.failed;
        mode.attempts += report.attempts.total;
    }
    Ok(outcome.code)
}
