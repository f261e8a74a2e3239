//! The signals that end a run, as they come to one runtime.

use std::io;

use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

use crate::policy::stop::Signal;

/// The signals as they come to one runtime.
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

    /// The next one. Cancel-safe.
    pub(super) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.hangup.recv() => Signal::Hangup,
            _ = self.interrupt.recv() => Signal::Interrupt,
            _ = self.terminate.recv() => Signal::Terminate,
        }
    }
}
