//! Runs the long steps before a job's first call on another thread, and tells the observer what happens meanwhile.

use std::sync::Arc;

use tokio::sync::mpsc::unbounded_channel;
use tokio_util::sync::CancellationToken;

use super::error::JobError;
use crate::observe::{Level, Observer};
use crate::run::control::Control;

/// Is told what happens during a step.
pub(crate) type Tell = Arc<dyn Fn(Level, &str) + Send + Sync>;

/// An observer of messages that are passed on.
pub(super) struct Telling<'a>(pub &'a Tell);

impl Observer for Telling<'_> {
    fn message(&mut self, level: Level, text: &str) {
        self.0(level, text);
    }
}

/// Whether to end a step early.
pub(super) type Stopped<'a> = &'a dyn Fn() -> bool;

/// Runs a step that cannot look for a stop everywhere. A stop ends the wait for it at once, and cancels the token that
/// the step gets.
pub(super) async fn unless_stopped<T: Send + 'static>(
    step: impl FnOnce(&Tell, &CancellationToken) -> Result<T, JobError> + Send + 'static,
    observer: &mut dyn Observer,
    control: &Control,
) -> Result<T, JobError> {
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    // Also if nobody waits for this any more.
    let stops = stop.drop_guard();
    tokio::select! {
        biased;
        result = apart(move |tell| step(tell, &stopped), observer) => {
            stops.disarm();
            result
        }
        signal = control.next() => Err(JobError::stopped(signal)),
    }
}

/// Runs a step to its end.
pub(super) async fn apart<T: Send + 'static>(
    step: impl FnOnce(&Tell) -> Result<T, JobError> + Send + 'static,
    observer: &mut dyn Observer,
) -> Result<T, JobError> {
    let (sender, mut told) = unbounded_channel();
    // After a stop, nobody listens any more.
    let tell: Tell = Arc::new(move |level, text| drop(sender.send((level, text.to_owned()))));
    let mut running = tokio::task::spawn_blocking(move || step(&tell));
    loop {
        tokio::select! {
            biased;
            Some((level, text)) = told.recv() => observer.message(level, &text),
            ended = &mut running => {
                while let Ok((level, text)) = told.try_recv() {
                    observer.message(level, &text);
                }
                return ended.map_err(|error| JobError::panicked(&error))?;
            }
        }
    }
}
