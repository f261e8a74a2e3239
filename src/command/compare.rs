//! `compare`: its options, what is refused, what is shown. Not the runs, nor the statistics.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;

use super::Usage;
use super::comparing::{Comparing, Ended, warm_up_rows};
use super::destination::{self, Kind};
use super::prepared::Preparing;
use super::setup::now;
use super::show::ShowOptions;
use super::streams::Streams;
use crate::job::paths::is_stream;
use crate::job::spec::values::concurrency;
use crate::job::spec::{JobSpec, Patch, RowSpec};
use crate::journal::directory_of;
use crate::output::{Access, write_text};
use crate::policy::stop::StopReason;
use crate::report::compare::{Comparison, ModeRuns};
use crate::report::json;
use crate::run::signals::Signals;

/// The options of `compare`.
#[derive(Debug, Clone, Args)]
#[allow(clippy::struct_excessive_bools, reason = "flags")]
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
    /// Also writes the comparison as a table in Markdown
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
    /// The job whose rows are run.
    fn spec(&self) -> anyhow::Result<JobSpec> {
        let mut rows = RowSpec::default();
        rows.lay(self.job.rows.clone());
        let directory = std::env::current_dir()?;
        let mut spec = JobSpec::new(&directory, &self.input, rows.format_of(&self.input)?);
        spec.lay(self.job.clone(), &directory);
        Ok(spec)
    }

    /// The files to be written, the options that name them, what they may replace.
    fn files(&self) -> impl Iterator<Item = (&Path, &'static str, Kind)> {
        let json = self.export_json.as_deref().map(|file| (file, "--export-json", Kind::Json));
        let markdown =
            self.export_markdown.as_deref().map(|file| (file, "--export-markdown", Kind::Markdown));
        json.into_iter().chain(markdown)
    }

    /// The modes asked for, both by default; sequential first, for it is the baseline.
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

/// Runs `compare`.
pub async fn compare(options: CompareOptions, streams: &mut Streams) -> anyhow::Result<u8> {
    if is_stream(&options.input) {
        return Err(Usage("`compare` reads its input once for each run: give it a file".to_owned()).into());
    }
    for (file, option, kind) in options.files() {
        destination::check(file, option, &[("the input", &options.input)])?;
        destination::check_kind(file, option, kind, options.force)?;
        let directory = directory_of(file);
        tempfile::tempfile_in(directory)
            .with_context(|| format!("failed to write into `{}`", directory.display()))?;
    }
    // Before the first Python import: see `Signals`.
    let spec = options.spec()?;
    let mut signals = Signals::insisting(spec.time.grace, streams.last_words(None))?;
    let (deadline, access) = (spec.time.deadline, spec.access.access());
    let mut modes = options.modes();
    let preparing = Preparing {
        source: spec.source(&options.input),
        spec,
        calls: modes.iter().map(|mode| mode.concurrency as usize).max().unwrap_or(1),
        dry_run: options.dry_run,
        quiet: options.show.quiet,
        prints: streams.show(&options.show),
    };
    let prepared = match preparing.run(&mut signals).await? {
        Ok(prepared) => prepared,
        Err(signal) => return Ok(StopReason::Signal(signal).exit_code()),
    };
    prepared.announce(streams.reporter(&options.show).as_mut());
    if prepared.validated.selected.is_empty() {
        prepared.answerer.shut_down();
        bail!("`{}` has no row to compare\nhint: choose others with `--range`", options.input.display());
    }
    for mode in &mut modes {
        let calls = prepared.answerer.limit(mode.concurrency as usize) as u64;
        if calls < mode.concurrency {
            // The name must not promise what is not reached.
            mode.name += &format!(" ({calls} at once)");
            mode.concurrency = calls;
        }
    }
    if options.dry_run {
        let rows = prepared.validated.selected.end - prepared.validated.selected.start;
        let asked = rows.saturating_sub(prepared.validated.unaskable);
        let runs = modes.len() as u64 * u64::from(options.runs);
        let calls = asked * runs + warm_up_rows(rows, &modes).min(asked);
        prepared.tell_estimate_of_calls(calls, streams.reporter(&options.show).as_mut());
        prepared.answerer.shut_down();
        return Ok(0);
    }
    let comparing =
        Comparing::new(&prepared, (streams, &options.show), &mut signals, (modes, options.runs), deadline);
    let Ended { comparison, code, at_once, error } = comparing.run().await;
    let shown = show(&options, access, &comparison, streams);
    if !at_once {
        prepared.answerer.shut_down();
    }
    match error {
        Some(error) => Err(error),
        None => shown.map(|()| code),
    }
}

/// Prints the table and writes the files that were asked for, each in spite of the others: what was measured is paid for.
fn show(
    options: &CompareOptions,
    access: Access,
    comparison: &Comparison,
    streams: &mut Streams,
) -> anyhow::Result<()> {
    let text = comparison.table(streams.look(&options.show));
    let said = streams.say(&options.show, &text);
    let mut reporter = streams.reporter(&options.show);
    for (file, _, kind) in options.files() {
        destination::set_aside(file, kind, &now(), reporter.as_mut())?;
    }
    drop(reporter);
    let json = options.export_json.as_ref().map_or(Ok(()), |file| json::write(file, access, comparison));
    if let Some(file) = &options.export_markdown {
        write_text(file, access, comparison.markdown().as_bytes())
            .with_context(|| format!("failed to write `{}`", file.display()))?;
    }
    json?;
    Ok(said?)
}
