//! Compares modes: runs the same rows at several concurrencies, in turn, with one predictor.

mod request;
mod runs;
mod sample;

use std::path::PathBuf;
use std::time::Duration;

pub use self::request::CompareRequest;
pub use self::runs::ComparisonEnd;
use self::runs::{Rounds, warm_up_rows};
use super::begin::SessionOptions;
use super::error::{JobError, refuse};
use super::estimate::Estimated;
use super::prepare::{Prepared, Preparing};
use super::spec::JobSpec;
use crate::environment;
use crate::observe::Observer;
pub use crate::report::compare::{Comparison, Mode, ModeRuns, RunFigures, Stopped, WarmUp, Warning};
use crate::run::control::Control;

/// A comparison that is ready to run: everything was checked, and nothing was called. Dropping it ends its event loop
/// and local model, in bounded time.
pub struct PreparedComparison {
    prepared: Prepared,
    modes: Vec<ModeRuns>,
    runs: u32,
    deadline: Option<Duration>,
    /// The directory of the runs' journals.
    directory: PathBuf,
}

impl PreparedComparison {
    /// Checks everything, starts Python and loads the predictor. `modes` and `runs` say how often each mode is run.
    /// Options about the files of a job have no effect.
    ///
    /// # Errors
    ///
    /// Fails if the input cannot be read or has no row to compare, the predictor cannot be loaded, an option does not
    /// fit the predictor, or `control` stops the comparison.
    pub async fn new(
        spec: JobSpec,
        (mut modes, runs): (Vec<ModeRuns>, u32),
        options: SessionOptions,
        observer: &mut dyn Observer,
        control: &Control,
    ) -> Result<Self, JobError> {
        let spec = spec.with(options.predictor.as_ref())?.anchored();
        let input = options.input.as_deref().unwrap_or(&spec.input).to_owned();
        let preparing = Preparing {
            source: spec.source(&input),
            spec,
            predictor: options.predictor,
            files: None,
            calls: modes.iter().map(|mode| mode.concurrency as usize).max().unwrap_or(1),
            dry_run: options.dry_run,
            quiet: options.quiet,
            prints: options.prints,
            worker_program: options.worker_program,
            argv: options.argv,
        };
        // Before there is a predictor that could hold this up.
        let directory = environment::temporary_directory();
        let prepared = preparing.run(observer, control).await?;
        prepared.announce(observer);
        if prepared.validated.selected.is_empty() {
            refuse!(
                Input,
                &input,
                "`{}` has no row to compare\nhint: choose others with `--range`",
                input.display()
            );
        }
        for mode in &mut modes {
            let calls = prepared.answerer.limit(mode.concurrency as usize) as u64;
            if calls < mode.concurrency {
                // The name must not promise a concurrency that is not reached.
                mode.name += &format!(" ({calls} at once)");
                mode.concurrency = calls;
            }
        }
        let deadline = prepared.answerer.left(&prepared.spec);
        Ok(Self { prepared, modes, runs, deadline, directory })
    }

    /// Estimates the tokens and the cost of all calls, including the warm-up.
    pub fn estimate(&self) -> Estimated {
        let validated = &self.prepared.validated;
        let rows = validated.selected.len();
        let asked = rows.saturating_sub(validated.unaskable);
        let runs = self.modes.len() as u64 * u64::from(self.runs);
        self.prepared.estimate.of(asked * runs + warm_up_rows(rows, &self.modes).min(asked))
    }

    /// Makes the runs, until something stops it. `observers` makes an observer for each run. The runs that were
    /// finished are returned even if a later one failed, because they are paid for.
    pub async fn run(
        &mut self,
        observers: &dyn Fn() -> Box<dyn Observer>,
        control: &Control,
    ) -> ComparisonEnd {
        let modes = (std::mem::take(&mut self.modes), self.runs);
        Rounds::new((&self.prepared, &self.directory), observers, control, modes, self.deadline).run().await
    }

    /// Leaves everything running that dropping this would end, because the process is about to end.
    pub fn leave(&self) {
        self.prepared.answerer.leave();
    }
}
