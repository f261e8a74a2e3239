//! The worker that is an actor of Ray: it serves the coordinator from within a process of Ray's, whose interpreter runs
//! already.

use std::io;
use std::thread::{Builder, sleep};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use tokio::runtime;

use super::worker::{log, show};
use crate::bridge::lease;
use crate::bridge::remote::{Asking, Polled, serve};
use crate::job::order::{load, secrets};

/// The worker of this process. Its bytes are brought and fetched by polls.
#[derive(Debug)]
pub struct Actor(Polled);

impl Actor {
    /// Starts serving, on a thread of its own, and begins the lease of this process: without polls it is killed after
    /// `lease`, with its calls. A process has one actor.
    ///
    /// # Errors
    ///
    /// Fails if no thread can be started.
    pub fn start(lease: Duration) -> io::Result<Self> {
        lease::begin(lease)?;
        // One thread is enough: the event loop has its own.
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let (polled, logged) = (Polled::default(), log());
        let transport = polled.clone();
        let serving = move || {
            let start = move |order: &[u8], asking: Asking| {
                show(logged, secrets(order)?, asking.clone())?;
                load(order, asking)
            };
            // Ray ends the interpreter.
            runtime.block_on(serve(transport, start, || ()));
            // A thread that is still blocked must not delay the end of the process.
            runtime.shutdown_background();
        };
        Builder::new().name("serving".into()).spawn(serving)?;
        Ok(Self(polled))
    }

    /// Takes bytes from the coordinator. So many bytes precede them.
    pub fn push(&self, offset: u64, bytes: &[u8]) {
        lease::check();
        self.0.push(offset, bytes);
    }

    /// Renews the lease, for a poll of this number, counted from 1; a repeated one has its number again.
    pub fn polled(&self, number: u64) {
        lease::polled(number);
    }

    /// The bytes for the coordinator that follow the first `acknowledged`, at most `most`, or none if there are none
    /// within `wait`. `None` once it has all, and nothing will follow. Blocks the thread for `wait`.
    pub fn pull(&self, acknowledged: u64, most: usize, wait: Duration) -> Option<Vec<u8>> {
        self.0.pull(acknowledged, most, wait)
    }

    /// Notes that the poll is replied to. To be called right before that.
    pub fn replied(&self) {
        lease::replied();
    }
}

/// Kills this process, with all that it has started, at once.
pub fn die() -> ! {
    lease::end()
}

/// Kills this process, which is Ray's driver, with all that it has started, `parting` after its coordinator is gone,
/// whatever the interpreter does. The coordinator has the other end of the standard input.
///
/// # Errors
///
/// Fails if there is no standard input, or no thread can be started.
pub fn end_with_coordinator(parting: Duration) -> io::Result<()> {
    let stream = fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let watch = move || {
        let mut watched = [PollFd::new(&stream, PollFlags::RDHUP)];
        while poll(&mut watched, None) == Err(Errno::INTR) {}
        sleep(parting);
        lease::end()
    };
    Builder::new().name("coordinator".into()).spawn(watch).map(drop)
}
