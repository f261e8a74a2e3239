//! The signals that end a run, received in one Tokio runtime.

use std::io;

use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

use crate::policy::stop::Signal;

/// Receives the signals in one Tokio runtime.
#[derive(Debug)]
pub(super) struct Streams {
    hangup: Stream,
    interrupt: Stream,
    terminate: Stream,
}

impl Streams {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for the next signal. Cancel-safe.
    pub(super) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.hangup.recv() => Signal::Hangup,
            _ = self.interrupt.recv() => Signal::Interrupt,
            _ = self.terminate.recv() => Signal::Terminate,
        }
    }
}
