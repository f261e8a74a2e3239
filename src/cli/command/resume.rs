//! The subcommand `resume`, which runs the rows of an earlier run that are not answered yet.

use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::{PathBufValueParser, TypedValueParser};

use super::run_job::{RunOptions, run, session_options};
use super::streams::Streams;
use crate::job::paths::{JobPaths, answers_of};
use crate::job::spec::JobSpec;
use crate::job::{Begin, Job, Only, SessionOptions, TakeUp, recorded};
use crate::run::control::Control;

/// The arguments and options of `resume`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ResumeOptions {
    /// The answers file of the earlier run; its options hold again, except those given now
    #[arg(value_parser = PathBufValueParser::new().map(answers_of))]
    pub answers: PathBuf,
    /// Run only the rows that failed, or only those without an outcome [default: both]
    #[arg(long, value_name = "STATE")]
    pub only: Option<Only>,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub run: RunOptions,
}

impl ResumeOptions {
    /// The recorded job, with the options given now laid over it.
    ///
    /// # Errors
    ///
    /// Fails if there is no journal, or if it cannot be read.
    pub(crate) fn spec(&self) -> anyhow::Result<JobSpec> {
        let mut spec = recorded(&self.answers, &Control::new())?;
        spec.lay_all(self.run.job.clone(), &std::env::current_dir()?);
        Ok(spec)
    }
}

/// Runs `resume` and returns the exit code. `spec` comes from [`ResumeOptions::spec`], and `answers` is the absolute
/// path of the answers file. The working directory must be that of the spec.
///
/// # Errors
///
/// Fails as the steps of a [`Job`] do.
pub(crate) async fn resume(
    options: ResumeOptions,
    spec: JobSpec,
    answers: &Path,
    streams: &mut Streams,
) -> anyhow::Result<u8> {
    let ResumeOptions { only, run: options, .. } = options;
    let session = SessionOptions {
        take_up: TakeUp { only, allow_changed: options.allow_changed, begin: Begin::Resume },
        dry_run: options.dry_run,
        ..session_options(&options.show, streams)
    };
    let job = Job::resume(spec, JobPaths::find(answers), session)?;
    run(job, &options, streams).await
}
