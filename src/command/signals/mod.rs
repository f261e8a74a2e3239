//! SIGINT, SIGTERM and SIGHUP, passed on to the job that they end.

mod last_resort;
mod streams;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::signal::unix::{Signal as Stream, SignalKind, signal};
use tokio::task::AbortHandle;

use self::streams::Streams;
use crate::run::control::Control;

/// Passes the signals that end a job on to its control, for as long as the value lives. Make it before the first Python
/// import, which would install Python's own handler of SIGINT where that signal is still at its default.
#[derive(Debug)]
pub(crate) struct Signals {
    passing_on: AbortHandle,
    over: Arc<AtomicBool>,
}

impl Signals {
    /// Takes the signals over from their default. Must be called within the Tokio runtime that runs the job.
    ///
    /// The process ends where the job does not take a signal: the first within `grace`, a later one at once. The job's
    /// thread hangs then, as in a write to a file server that is gone. `words` says so, given the exit code and why.
    ///
    /// # Errors
    ///
    /// Fails where the signals cannot be taken over.
    pub(crate) fn forward(
        control: &Control,
        grace: Duration,
        words: impl FnOnce(u8, &str) + Send + 'static,
    ) -> io::Result<Self> {
        let over = Arc::default();
        last_resort::watch(control.clone(), Arc::clone(&over), grace, Box::new(words))?;
        let (mut streams, control) = (Streams::new()?, control.clone());
        let passing_on = tokio::spawn(async move {
            loop {
                control.stop(streams.next().await);
            }
        });
        Ok(Self { passing_on: passing_on.abort_handle(), over })
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.passing_on.abort();
        self.over.store(true, Ordering::Relaxed);
    }
}

/// SIGXFSZ, which rustix names for some systems only; it has this number on all.
const FILE_TOO_LARGE: i32 = 25;

/// Lets a write past the limit on file sizes fail like one to a full disk, for as long as the value lives; the signal's
/// default is to kill. Must be called within a Tokio runtime.
///
/// # Errors
///
/// Fails where the signal cannot be taken over.
pub(crate) fn outlive_file_size_limit() -> io::Result<impl Sized> {
    signal(SignalKind::from_raw(FILE_TOO_LARGE))
}

/// SIGUSR1, by which the run is asked how it stands.
#[derive(Debug)]
pub(crate) struct Asked(Stream);

impl Asked {
    /// Takes the signal over from its default, which is to kill; must be called within a Tokio runtime.
    ///
    /// # Errors
    ///
    /// Fails where the signal cannot be taken over.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(signal(SignalKind::user_defined1())?))
    }

    /// The next time it is asked. Cancel-safe.
    pub(crate) async fn next(&mut self) {
        self.0.recv().await;
    }
}
