//! The subcommand `compare`, which times the same rows one call at a time and several at a time.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use super::UsageError;
use super::run_job::session_options;
use super::show::ShowOptions;
use super::signals::Signals;
use super::streams::Streams;
use crate::fs::{Access, directory_of, replace};
use crate::job::SessionOptions;
use crate::job::answerer::now;
use crate::job::compare::PreparedComparison;
use crate::job::destination::{self, Kind};
use crate::job::files::writable;
use crate::job::paths::is_stream;
use crate::job::spec::values::concurrency;
use crate::job::spec::{JobSpec, Patch};
use crate::observe::Level;
use crate::report::compare::{Comparison, ModeRuns};
use crate::report::json;
use crate::run::control::Control;

/// The arguments and options of `compare`.
#[derive(Debug, Clone, Args)]
#[allow(clippy::struct_excessive_bools, reason = "flags")]
pub(crate) struct CompareOptions {
    /// A `.csv` or `.jsonl` file
    pub input: PathBuf,
    /// Time one call at a time; alone, time nothing else
    #[arg(long)]
    pub sequential: bool,
    /// Time several calls at a time; alone, time nothing else
    #[arg(long)]
    pub concurrent: bool,
    /// Calls in flight at most; repeat it to time several values [default: 16]
    #[arg(short = 'c', long, value_name = "N", value_parser = concurrency)]
    pub concurrency: Vec<usize>,
    /// Runs of each mode
    #[arg(long, value_name = "K", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub runs: u32,
    /// Also write the comparison as JSON
    #[arg(long, value_name = "FILE")]
    pub export_json: Option<PathBuf>,
    /// Also write the comparison as a table in Markdown
    #[arg(long, value_name = "FILE")]
    pub export_markdown: Option<PathBuf>,
    /// Replace files that this program did not write; they are kept as `<FILE>.<time>`
    #[arg(long)]
    pub force: bool,
    /// Check everything, call nothing
    #[arg(long, env = "TAB_DRY_RUN")]
    pub dry_run: bool,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub job: Patch,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub show: ShowOptions,
}

impl CompareOptions {
    /// The job whose rows are timed.
    fn spec(&self) -> anyhow::Result<JobSpec> {
        let directory = std::env::current_dir()?;
        let mut spec = JobSpec::new(&directory, &self.input, self.job.rows.format_of(&self.input)?);
        spec.lay(self.job.clone(), &directory);
        Ok(spec)
    }

    /// The files to write, each with the option that names it and what it is written as.
    fn files(&self) -> impl Iterator<Item = (&Path, &'static str, Kind)> {
        let json = self.export_json.as_deref().map(|file| (file, "--export-json", Kind::Json));
        let markdown =
            self.export_markdown.as_deref().map(|file| (file, "--export-markdown", Kind::Markdown));
        json.into_iter().chain(markdown)
    }

    /// The modes asked for, by default both. The sequential mode comes first because it is the baseline.
    fn modes(&self) -> Vec<ModeRuns> {
        let (sequential, concurrent) =
            match (self.sequential, self.concurrent || !self.concurrency.is_empty()) {
                (false, false) => (true, true),
                (false, true) if !self.concurrent => (true, true),
                chosen => chosen,
            };
        let mode =
            |name: String, calls: usize| ModeRuns { name, concurrency: calls as u64, runs: Vec::new() };
        let widths = if self.concurrency.is_empty() { &[16][..] } else { &self.concurrency };
        let mut modes: Vec<ModeRuns> =
            sequential.then(|| mode("sequential".to_owned(), 1)).into_iter().collect();
        if concurrent {
            modes.extend(widths.iter().map(|calls| mode(format!("concurrent -c {calls}"), *calls)));
        }
        modes
    }
}

/// Runs `compare` and returns the exit code.
///
/// # Errors
///
/// Fails if the input is a stream, if a file cannot be written, or as [`PreparedComparison`] does.
pub(crate) async fn compare(options: CompareOptions, streams: &mut Streams) -> anyhow::Result<u8> {
    if is_stream(&options.input) {
        return Err(
            UsageError("`compare` reads its input once for each run: give it a file".to_owned()).into()
        );
    }
    for (file, option, kind) in options.files() {
        destination::check(file, option, &[("the input", &options.input)])?;
        destination::check_kind(file, option, kind, options.force)?;
        writable(directory_of(file))?;
    }
    let spec = options.spec()?;
    let access = spec.access.access();
    let control = Control::new();
    let signals = Signals::forward(&control, spec.time.grace, streams.last_words(None))?;
    let session = SessionOptions {
        input: Some(options.input.clone()),
        dry_run: options.dry_run,
        ..session_options(&options.show, streams)
    };
    let mut observer = streams.observer(&options.show);
    let modes = (options.modes(), options.runs);
    let mut prepared = PreparedComparison::new(spec, modes, session, observer.as_mut(), &control).await?;
    if options.dry_run {
        observer.message(Level::Note, &prepared.estimate().to_string());
        return Ok(0);
    }
    drop(observer);
    let end = prepared.run(&|| streams.observer(&options.show), &control).await;
    if end.killed {
        prepared.leave();
    }
    drop(signals);
    streams.standing.set_cost(end.cost_usd);
    let shown = show(&options, access, &end.comparison, streams);
    match end.error {
        Some(error) => Err(error.into()),
        None => shown.map(|()| end.code),
    }
}

/// Prints the table and writes the files that were asked for. If one of them fails, the others are written all the
/// same, because the measurements are paid for.
fn show(
    options: &CompareOptions,
    access: Access,
    comparison: &Comparison,
    streams: &mut Streams,
) -> anyhow::Result<()> {
    let text = comparison.table(streams.look(&options.show));
    let said = streams.say(&options.show, &text);
    let mut observer = streams.observer(&options.show);
    for (file, _, kind) in options.files() {
        destination::set_aside(file, kind, &now(), observer.as_mut())?;
    }
    drop(observer);
    let json = options.export_json.as_ref().map_or(Ok(()), |file| json::write(file, access, comparison));
    if let Some(file) = &options.export_markdown {
        replace(file, access, comparison.markdown().as_bytes())
            .with_context(|| format!("failed to write `{}`", file.display()))?;
    }
    json?;
    Ok(said?)
}
