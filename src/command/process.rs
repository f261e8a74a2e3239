//! `process`: a new job, or one that goes on.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use super::Usage;
use super::destination;
use super::done::Done;
use super::job::{self, Asked};
use super::resume::{OnlyChoice, TakeUp};
use super::show::ShowOptions;
use super::streams::Streams;
use crate::input::Format;
use crate::job::paths::{JobPaths, is_descriptor, is_stream};
use crate::job::spec::{JobSpec, RowSpec, WholePatch};

/// In place of an input where one may be left out: no file can have this name.
pub const NO_INPUT: &str = ".";

/// The options of `process`, and of `doctor`, where the input may be left out ([`NO_INPUT`]).
#[derive(Debug, Clone, Args)]
#[allow(clippy::struct_excessive_bools, reason = "flags")]
pub struct ProcessOptions {
    /// A `.csv` or `.jsonl` file, a pipe, or `-` for standard input (with `--format`)
    pub input: PathBuf,
    /// Where the answers go [default: INPUT's stem + `.answers.csv` or `.answers.jsonl`, in the current directory]
    #[arg(short, long, value_name = "ANSWERS")]
    pub output: Option<PathBuf>,
    /// Start anew where a job stands, which is continued otherwise, or a file that no run wrote; the old one is kept as
    /// `<ANSWERS>.journal.<time>` or `<ANSWERS>.<time>`
    #[arg(long)]
    pub force: bool,
    /// Go on although the input or the predictor has changed; rows are matched by their content
    #[arg(long)]
    pub allow_changed: bool,
    /// Leave the rows that failed before as they are
    #[arg(long, env = "TAB_SKIP_FAILED")]
    pub skip_failed: bool,
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

impl ProcessOptions {
    /// The job they ask for, started in a directory.
    pub fn spec(&self, directory: &Path, format: Format) -> JobSpec {
        let mut spec = JobSpec::new(directory, &self.input, format);
        spec.stream = is_stream(&self.input);
        spec.lay_all(self.job.clone(), directory);
        spec
    }

    /// The job's files.
    pub fn paths(&self, format: Format) -> JobPaths {
        JobPaths::find(self.output.as_ref().unwrap_or(&self.default_answers(format)))
    }

    fn default_answers(&self, format: Format) -> PathBuf {
        let extension = if format == Format::Csv { "csv" } else { "jsonl" };
        // A descriptor's number names nothing.
        let input = if is_descriptor(&self.input) { Path::new("-") } else { &self.input };
        JobPaths::default_answers(input, extension)
    }
}

/// The format of what `process` is to read.
pub fn format_of(options: &ProcessOptions) -> anyhow::Result<Format> {
    let mut rows = RowSpec::default();
    rows.lay(options.job.shared.rows.clone());
    let format = rows.format_of(&options.input);
    if format.is_err() && is_stream(&options.input) {
        let stream = if options.input == Path::new("-") {
            "standard input".to_owned()
        } else {
            format!("the pipe `{}`", options.input.display())
        };
        let text =
            format!("{stream} has no name to tell its format: give `--format csv` or `--format jsonl`");
        return Err(Usage(text).into());
    }
    Ok(format?)
}

/// Runs `process`.
pub async fn process(options: ProcessOptions, streams: &mut Streams) -> anyhow::Result<u8> {
    let format = format_of(&options)?;
    let directory = std::env::current_dir()?;
    let spec = options.spec(&directory, format);
    // Lives as long as the job.
    let mut scratch = None;
    let mut paths = options.paths(format);
    if options.output.as_deref().is_some_and(destination::is_null) {
        let directory = tempfile::tempdir().context("failed to make a temporary directory")?;
        paths = JobPaths::of(&scratch.insert(directory).path().join(options.default_answers(format)));
    }
    let output = options.output.as_deref().filter(|_| scratch.is_none());
    let continuing = job::check_output(&options.input, output, &spec, &paths, options.force)?;
    if continuing
        && !options.dry_run
        && let Some(done) = Done::of(&spec, &paths, options.skip_failed)?
    {
        return Ok(done.tell(&options.show, paths, streams));
    }
    let only = options.skip_failed.then_some(OnlyChoice::Unfinished);
    let take_up = TakeUp { only, allow_changed: options.allow_changed, continuing };
    let asked = Asked {
        spec,
        paths,
        stream: is_stream(&options.input).then(|| options.input.clone()),
        named: Some(options.input.clone()),
        dry_run: options.dry_run,
        scratch: scratch.is_some(),
        show: options.show.clone(),
    };
    job::run(asked, streams, |paths, prepared, reporter| {
        if options.dry_run {
            let selected = &prepared.validated.selected;
            let left = if continuing { take_up.check(paths, prepared, reporter)? } else { None };
            prepared.tell_estimate(left.unwrap_or(selected.end - selected.start), reporter);
            return Ok(None);
        }
        if continuing && let Some(opened) = take_up.reopen(paths, prepared, reporter)? {
            return Ok(Some(opened));
        }
        job::create(continuing || options.force, paths, prepared, reporter).map(Some)
    })
    .await
}
