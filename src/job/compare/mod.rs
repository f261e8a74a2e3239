//! A comparison: the same rows at several widths, run in turn on one predictor.

mod runs;
mod sample;

use std::time::Duration;

pub use self::runs::ComparisonEnd;
use self::runs::{Runs, warm_up_rows};
use super::begin::SessionOptions;
use super::error::{JobError, refuse};
use super::prepare::{Prepared, Preparing};
use super::spec::JobSpec;
use crate::observe::Observer;
use crate::report::compare::ModeRuns;
use crate::run::control::Control;

/// A comparison that is ready to be made: everything was checked, nothing was called. Dropping it ends Python's part of
/// it, in bounded time.
pub struct PreparedComparison {
    prepared: Prepared,
    modes: Vec<ModeRuns>,
    runs: u32,
    deadline: Option<Duration>,
}

impl PreparedComparison {
    /// Checks everything, starts Python and loads the predictor, for so many runs of each mode. Of the options, those
    /// about files are not used.
    ///
    /// # Errors
    ///
    /// Fails where the input, the predictor or the options are not as they should be, where there is no row to compare,
    /// and where the comparison is stopped.
    pub async fn new(
        spec: JobSpec,
        (mut modes, runs): (Vec<ModeRuns>, u32),
        options: SessionOptions,
        observer: &mut dyn Observer,
        control: &Control,
    ) -> Result<Self, JobError> {
        let deadline = spec.time.deadline;
        let input = options.input.as_deref().unwrap_or(&spec.input).to_owned();
        let preparing = Preparing {
            source: spec.source(&input),
            spec,
            calls: modes.iter().map(|mode| mode.concurrency as usize).max().unwrap_or(1),
            dry_run: options.dry_run,
            quiet: options.quiet,
            prints: options.prints,
            argv: options.argv,
        };
        let prepared = preparing.run(control).await?;
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
                // The name must not promise what is not reached.
                mode.name += &format!(" ({calls} at once)");
                mode.concurrency = calls;
            }
        }
        Ok(Self { prepared, modes, runs, deadline })
    }

    /// What all its calls will probably use, the warm-up's too, and how that was estimated, in one line.
    pub fn estimate(&self) -> String {
        let validated = &self.prepared.validated;
        let rows = validated.selected.end - validated.selected.start;
        let asked = rows.saturating_sub(validated.unaskable);
        let runs = self.modes.len() as u64 * u64::from(self.runs);
        self.prepared.estimate.text(asked * runs + warm_up_rows(rows, &self.modes).min(asked))
    }

    /// Makes the runs, until something stops it. Each run has a observer of its own. What was finished is told also
    /// where something failed, for it is paid for.
    pub async fn run(
        &mut self,
        observers: &dyn Fn() -> Box<dyn Observer>,
        control: &Control,
    ) -> ComparisonEnd {
        let modes = (std::mem::take(&mut self.modes), self.runs);
        let end = Runs::new(&self.prepared, observers, control, modes, self.deadline).run().await;
        if end.killed {
            self.prepared.answerer.leave();
        }
        end
    }
}
