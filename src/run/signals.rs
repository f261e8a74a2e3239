//! SIGINT, SIGTERM and SIGHUP, in one place. Not what they do.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::signal::unix::{Signal as Stream, SignalKind, signal};
use tokio::task::yield_now;

use super::last_resort::{self, Heed};
use super::signal_streams::Streams;
use crate::policy::stop::Signal;

/// The signals that end a run. To be made before the first Python import, which would install Python's own handler
/// of SIGINT where that signal is still at its default.
#[derive(Debug)]
pub struct Signals {
    streams: Streams,
    heed: Arc<Heed>,
}

/// SIGXFSZ, which rustix names for some systems only; it has this number on all.
const FILE_TOO_LARGE: i32 = 25;

/// Lets a write past the limit on file sizes fail like one to a full disk, for as long as the value lives; the signal's
/// default is to kill. Must be called within a Tokio runtime.
///
/// # Errors
///
/// Fails where the signal cannot be taken over.
pub fn outlive_file_size_limit() -> io::Result<impl Sized> {
    signal(SignalKind::from_raw(FILE_TOO_LARGE))
}

/// SIGUSR1, by which the run is asked how it stands.
#[derive(Debug)]
pub struct Asked(Stream);

impl Asked {
    /// Takes the signal over from its default, which is to kill; must be called within a Tokio runtime.
    ///
    /// # Errors
    ///
    /// Fails where the signal cannot be taken over.
    pub fn new() -> io::Result<Self> {
        Ok(Self(signal(SignalKind::user_defined1())?))
    }

    /// The next time it is asked. Cancel-safe.
    pub async fn next(&mut self) {
        self.0.recv().await;
    }
}

impl Signals {
    /// Takes the signals over from their default; must be called within a Tokio runtime.
    ///
    /// # Errors
    ///
    /// Fails where a signal cannot be taken over.
    pub fn new() -> io::Result<Self> {
        Ok(Self { streams: Streams::new()?, heed: Arc::default() })
    }

    /// The same, and the process ends where a signal is not taken: the first within `grace`, a later one at once. Whoever
    /// would take it then hangs, as in a write to a file server that is gone. `words` says so, given the exit code and why.
    ///
    /// # Errors
    ///
    /// Fails where the signals cannot be taken over.
    pub fn insisting(grace: Duration, words: impl FnOnce(u8, &str) + Send + 'static) -> io::Result<Self> {
        let signals = Self::new()?;
        last_resort::watch(Arc::clone(&signals.heed), grace, Box::new(words))?;
        Ok(signals)
    }

    /// The run ends at once: if not in two seconds by itself, it is ended.
    pub fn hurry(&self) {
        self.heed.hurries.store(true, Ordering::Relaxed);
    }

    /// The next one. Cancel-safe.
    pub async fn next(&mut self) -> Signal {
        let signal = self.streams.next().await;
        self.heed.taken.fetch_add(1, Ordering::Relaxed);
        signal
    }

    /// One that has come by now.
    pub async fn come(&mut self) -> Option<Signal> {
        tokio::select! {
            biased;
            signal = self.next() => Some(signal),
            // The runtime looks for signals before it goes on with this.
            () = yield_now() => None,
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.heed.over.store(true, Ordering::Relaxed);
    }
}
