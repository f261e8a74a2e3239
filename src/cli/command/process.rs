//! The subcommand `process`, which begins a job or continues it.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use super::UsageError;
use super::run_job::{RunOptions, run, session_options};
use super::show::ShowOptions;
use super::streams::Streams;
use crate::input::Format;
use crate::job::paths::{JobPaths, is_descriptor, is_null, is_stream};
use crate::job::spec::JobSpec;
use crate::job::{Begin, Job, Only, SessionOptions, TakeUp};
use crate::journal::Counts;
use crate::observe::Level;
use crate::report::text::{count, counted};

/// Stands for an input that was left out. It is the name of a directory, so no file can have it.
pub(crate) const NO_INPUT: &str = ".";

/// The arguments and options of `process` and of `doctor`, which may leave out the input ([`NO_INPUT`]).
#[derive(Debug, Clone, Args)]
pub(crate) struct ProcessOptions {
    /// A `.csv` or `.jsonl` file, a pipe, or `-` for standard input (with `--format`)
    pub input: PathBuf,
    /// Write the answers to this file [default: INPUT's stem + `.answers.csv` or `.answers.jsonl`, in the current
    /// directory]
    #[arg(short, long, value_name = "ANSWERS")]
    pub output: Option<PathBuf>,
    /// Start anew instead of continuing the job of these answers, and replace files that this program did not write;
    /// the earlier ones are kept as `<ANSWERS>.journal.<time>` and `<ANSWERS>.<time>`
    #[arg(long)]
    pub force: bool,
    /// Do not run rows again that failed before
    #[arg(long, env = "TAB_SKIP_FAILED")]
    pub skip_failed: bool,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub run: RunOptions,
}

impl ProcessOptions {
    /// The job that the options describe, started in `directory`.
    pub(crate) fn spec(&self, directory: &Path, format: Format) -> JobSpec {
        let mut spec = JobSpec::new(directory, &self.input, format);
        spec.stream = is_stream(&self.input);
        spec.lay_all(self.run.job.clone(), directory);
        spec
    }

    /// The files of the job.
    pub(crate) fn paths(&self, format: Format) -> JobPaths {
        JobPaths::find(self.output.as_ref().unwrap_or(&self.default_answers(format)))
    }

    fn default_answers(&self, format: Format) -> PathBuf {
        let extension = if format == Format::Csv { "csv" } else { "jsonl" };
        // The number of a file descriptor makes no good name.
        let input = if is_descriptor(&self.input) { Path::new("-") } else { &self.input };
        JobPaths::default_answers(input, extension)
    }
}

/// The format of the input.
///
/// # Errors
///
/// Fails if neither an option nor the name of the input tells the format.
pub(crate) fn format_of(options: &ProcessOptions) -> anyhow::Result<Format> {
    let format = options.run.job.shared.rows.format_of(&options.input);
    if format.is_err() && is_stream(&options.input) {
        let stream = if options.input == Path::new("-") {
            "standard input".to_owned()
        } else {
            format!("the pipe `{}`", options.input.display())
        };
        let text =
            format!("{stream} has no name to tell its format: give `--format csv` or `--format jsonl`");
        return Err(UsageError(text).into());
    }
    Ok(format?)
}

/// Runs `process` and returns the exit code.
///
/// # Errors
///
/// Fails if the format of the input is not known, or as the steps of a [`Job`] do.
pub(crate) async fn process(options: ProcessOptions, streams: &mut Streams) -> anyhow::Result<u8> {
    let format = format_of(&options)?;
    let spec = options.spec(&std::env::current_dir()?, format);
    // For answers that go to `/dev/null`; removed when the job has ended.
    let mut scratch = None;
    let mut paths = options.paths(format);
    if options.output.as_deref().is_some_and(is_null) {
        let directory = tempfile::tempdir().context("failed to make a temporary directory")?;
        paths = JobPaths::of(&scratch.insert(directory).path().join(options.default_answers(format)));
    }
    let ProcessOptions { input, output, force, skip_failed, run: options } = options;
    let session = SessionOptions {
        stream: is_stream(&input).then(|| input.clone()),
        input: Some(input),
        output,
        take_up: TakeUp {
            only: skip_failed.then_some(Only::Unfinished),
            allow_changed: options.allow_changed,
            begin: if force { Begin::Anew } else { Begin::Continue },
        },
        dry_run: options.dry_run,
        scratch: scratch.is_some(),
        ..session_options(&options.show, streams)
    };
    let job = Job::new(spec, paths, session)?;
    match job.done()? {
        Some(counts) => Ok(nothing_to_do(counts, job.files(), &options.show, streams)),
        None => run(job, &options, streams).await,
    }
}

/// Says that nothing is left to do, and returns the exit code.
fn nothing_to_do(counts: Counts, files: &JobPaths, show: &ShowOptions, streams: &mut Streams) -> u8 {
    let Counts { ok, failed, .. } = counts;
    let mut text = format!("nothing to do: {} answered in `{}`", counted(ok, "row"), files.answers.display());
    if failed > 0 {
        text += &format!(", and {} that failed stay as they are", count(failed));
    }
    text += "\nhint: `--force` starts anew";
    streams.observer(show).message(Level::Note, &text);
    streams.files.page = Some(files.page.clone()).filter(|page| page.exists());
    streams.files.paths = Some(files.clone());
    streams.files.reported = true;
    if failed > 0 { 3 } else { 0 }
}
