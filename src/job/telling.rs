//! Starts a job on another thread, and tells its observer what happens meanwhile.

use std::sync::Arc;

use tokio::sync::mpsc::unbounded_channel;
use tokio_util::sync::CancellationToken;

use super::error::JobError;
use crate::observe::{Level, Observer};
use crate::run::control::Control;

/// Is told what happens while something is being started.
pub(crate) type Tell = Arc<dyn Fn(Level, &str) + Send + Sync>;

/// Does what starts a job on another thread, and tells the observer what happens meanwhile. A stop ends the wait at once,
/// and cancels the token that `start` gets.
pub(super) async fn meanwhile<T: Send + 'static>(
    start: impl FnOnce(&Tell, &CancellationToken) -> Result<T, JobError> + Send + 'static,
    observer: &mut dyn Observer,
    control: &Control,
) -> Result<T, JobError> {
    let (sender, mut told) = unbounded_channel();
    // After a stop, nobody listens any more.
    let tell: Tell = Arc::new(move |level, text| drop(sender.send((level, text.to_owned()))));
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    // Also if nobody waits for this any more.
    let stops = stop.drop_guard();
    let mut starting = tokio::task::spawn_blocking(move || start(&tell, &stopped));
    loop {
        tokio::select! {
            biased;
            Some((level, text)) = told.recv() => observer.message(level, &text),
            started = &mut starting => {
                stops.disarm();
                return started.map_err(|error| JobError::panicked(&error))?;
            }
            signal = control.next() => return Err(JobError::stopped(signal)),
        }
    }
}
