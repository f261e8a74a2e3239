//! Handles the process's signals. SIGINT, SIGTERM and SIGHUP are passed on to the job, which they end.

mod last_resort;
mod streams;
mod suspended;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::signal::unix::{Signal as Stream, SignalKind, signal};
use tokio::task::AbortHandle;

use self::streams::Streams;
pub(crate) use self::suspended::suspend_workers;
use crate::run::control::Control;

/// Passes the signals that end a job on to its control, for as long as the value lives. Make it before Python starts:
/// Python installs its own handler of SIGINT if the signal still has its default effect.
#[derive(Debug)]
pub(crate) struct Signals {
    passing_on: AbortHandle,
    over: Arc<AtomicBool>,
}

impl Signals {
    /// Replaces the default effect of the signals. Must be called within the Tokio runtime that runs the job.
    ///
    /// The process ends if the job does not accept a signal: the first within `grace`, a later one at once. Then the
    /// job's thread hangs, for example in a write to a file server that is gone. `words` reports it, given the exit
    /// code and the reason.
    ///
    /// # Errors
    ///
    /// Fails if the signal handlers cannot be installed.
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

/// The number of SIGXFSZ. rustix names the signal on some systems only, but its number is the same on all.
const FILE_TOO_LARGE: i32 = 25;

/// Makes a write beyond the limit on file sizes fail like one to a full disk, for as long as the value lives. By
/// default such a write kills the process. Must be called within a Tokio runtime.
///
/// # Errors
///
/// Fails if the signal handler cannot be installed.
pub(crate) fn outlive_file_size_limit() -> io::Result<impl Sized> {
    signal(SignalKind::from_raw(FILE_TOO_LARGE))
}

/// SIGUSR1, which asks for the current state of the run.
#[derive(Debug)]
pub(crate) struct Asked(Stream);

impl Asked {
    /// Replaces the default effect of the signal, which is to kill. Must be called within a Tokio runtime.
    ///
    /// # Errors
    ///
    /// Fails if the signal handler cannot be installed.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(signal(SignalKind::user_defined1())?))
    }

    /// Waits for the next signal. Cancel-safe.
    pub(crate) async fn next(&mut self) {
        self.0.recv().await;
    }
}
