//! Runs the commands that call nothing so that signals end them in order: [`stoppable`].

use std::panic;
use std::thread;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use super::command::signals::Signals;
use super::command::streams::Streams;
use crate::run::control::Control;

/// How long a command that calls nothing may take to end after a signal.
const GRACE: Duration = Duration::from_secs(5);

/// Runs a command that only reads and writes files. It has a thread of its own, while this one passes signals on to its
/// control.
///
/// # Errors
///
/// Fails as the command does, or if the signal handlers cannot be installed.
pub(super) fn stoppable(
    runtime: &Runtime,
    streams: &mut Streams,
    command: impl FnOnce(&mut Streams, &Control) -> anyhow::Result<u8> + Send,
) -> anyhow::Result<u8> {
    let control = Control::new();
    let words = streams.last_words(None);
    let hangs = |code, _: &str| {
        words(code, "a file or the standard output does not respond, so the program was ended");
    };
    let within = runtime.enter();
    let _signals = Signals::forward(&control, GRACE, hangs)?;
    drop(within);
    thread::scope(|scope| {
        let (running, ended) = oneshot::channel::<()>();
        let command = scope.spawn(|| {
            let _running = running;
            command(streams, &control)
        });
        // Fails when the thread drops the sender.
        let _ = runtime.block_on(ended);
        command.join().unwrap_or_else(|panic| panic::resume_unwind(panic))
    })
}
