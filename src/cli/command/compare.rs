//! The subcommand `compare`, which times the same rows one call at a time and several at a time.

use std::path::PathBuf;

use clap::Args;

use super::run_job::session_options;
use super::show::ShowOptions;
use super::signals::{Signals, suspend_workers};
use super::streams::Streams;
use crate::fs::Access;
use crate::job::SessionOptions;
use crate::job::compare::{self, PreparedComparison};
use crate::job::spec::WorkerCount;
use crate::observe::Level;
use crate::report::compare::Comparison;
use crate::run::control::Control;

/// The arguments and options of `compare`.
#[derive(Debug, Clone, Args)]
pub(crate) struct CompareOptions {
    /// A `.csv` or `.jsonl` file
    pub input: PathBuf,
    /// Check everything, call nothing
    #[arg(long, env = "TAB_DRY_RUN")]
    pub dry_run: bool,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub asked: compare::CompareRequest,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub show: ShowOptions,
}

/// Runs `compare` and returns the exit code.
///
/// # Errors
///
/// Fails if the input is a stream, if a file cannot be written, or as [`PreparedComparison`] does.
pub(crate) async fn compare(options: CompareOptions, streams: &mut Streams) -> anyhow::Result<u8> {
    let CompareOptions { input, dry_run, asked, show } = &options;
    let spec = asked.spec(input)?;
    let access = spec.access.access();
    let control = Control::new();
    let signals = Signals::forward(&control, spec.time.grace, streams.last_words(None))?;
    if spec.workers.workers != WorkerCount::InProcess {
        suspend_workers()?;
    }
    let session =
        SessionOptions { input: Some(input.clone()), dry_run: *dry_run, ..session_options(show, streams) };
    let mut observer = streams.observer(show);
    let modes = (asked.modes(), asked.runs);
    let mut prepared = PreparedComparison::new(spec, modes, session, observer.as_mut(), &control).await?;
    if *dry_run {
        observer.message(Level::Note, &prepared.estimate().to_string());
        return Ok(0);
    }
    drop(observer);
    let end = prepared.run(&|| streams.observer(show), &control).await;
    if end.killed {
        prepared.leave();
    }
    drop(signals);
    streams.standing.set_cost(end.cost_usd);
    let shown = report(&options, access, &end.comparison, streams);
    match end.error {
        Some(error) => Err(error.into()),
        None => shown.map(|()| end.code),
    }
}

/// Prints the table and writes the files that were asked for. If one of them fails, the others are written all the
/// same, because the measurements are paid for.
fn report(
    options: &CompareOptions,
    access: Access,
    comparison: &Comparison,
    streams: &mut Streams,
) -> anyhow::Result<()> {
    let text = comparison.table(streams.look(&options.show));
    let said = streams.say(&options.show, &text);
    options.asked.write(access, comparison, streams.observer(&options.show).as_mut())?;
    Ok(said?)
}
