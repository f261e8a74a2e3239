//! The subcommand `process`, which begins a job or continues it.

use std::path::{Path, PathBuf};

use clap::Args;

use super::run_job::{RunOptions, run, session_options};
use super::streams::Streams;
use crate::input::Format;
use crate::job::named::{format_of, paths_of};
use crate::job::paths::JobPaths;
use crate::job::spec::JobSpec;
use crate::job::{Begin, Job, JobError, Only, SessionOptions, TakeUp};

/// Stands for an input that was left out. It is the name of a directory, so no file can have it.
pub(crate) const NO_INPUT: &str = ".";

/// The arguments and options of `process` and of `doctor`, which may leave out the input ([`NO_INPUT`]).
#[derive(Debug, Clone, Args)]
pub(crate) struct ProcessOptions {
    /// A `.csv` or `.jsonl` file, a pipe, or `-` for standard input (with `--format`)
    pub input: PathBuf,
    /// Write the answers to this file [default: INPUT's stem + `.answers.csv` or `.answers.jsonl`, in the current
    /// directory; for a shard + `.answers.K-of-N.csv`]
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
        spec.lay_all(self.run.job.clone(), directory);
        spec
    }

    /// The files of the job.
    ///
    /// # Errors
    ///
    /// Fails if the format of the input is not known.
    pub(crate) fn paths(&self) -> Result<JobPaths, JobError> {
        let rows = &self.run.job.shared.rows;
        let format = format_of(&self.input, rows)?;
        Ok(paths_of(&self.input, self.output.as_deref(), format, rows.shard))
    }
}

/// Runs `process` and returns the exit code.
///
/// # Errors
///
/// Fails if the format of the input is not known, or as the steps of a [`Job`] do.
pub(crate) async fn process(options: ProcessOptions, streams: &mut Streams) -> anyhow::Result<u8> {
    let ProcessOptions { input, output, force, skip_failed, run: options } = options;
    let session = SessionOptions {
        take_up: TakeUp {
            only: skip_failed.then_some(Only::Unfinished),
            allow_changed: options.allow_changed,
            begin: if force { Begin::Anew } else { Begin::Continue },
        },
        dry_run: options.dry_run,
        ..session_options(&options.show, streams)
    };
    // The directory is removed when the job has ended.
    let (job, _scratch) = Job::of_input(&input, output.as_deref(), options.job.clone(), session)?;
    run(job, &options, streams).await
}
