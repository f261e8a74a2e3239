//! Ctrl-Z with worker processes, which are in process groups of their own: the terminal suspends the program alone.

use std::fs::read_to_string;
use std::io;

use rustix::process::{Signal, getpid, kill_process};
use tokio::signal::unix::{SignalKind, signal};

use crate::bridge::workers;

/// Has SIGTSTP suspend the workers and then this process, and the workers go on when it does. Must be called within the
/// Tokio runtime that runs the job. The default effect, to suspend this process alone, does not come back.
///
/// # Errors
///
/// Fails if the signal handler cannot be installed.
pub(crate) fn suspend_workers() -> io::Result<()> {
    if is_ignored(Signal::TSTP) {
        return Ok(());
    }
    let stream = |number: Signal| signal(SignalKind::from_raw(number.as_raw()));
    let (mut suspended, mut continued) = (stream(Signal::TSTP)?, stream(Signal::CONT)?);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                biased;
                Some(()) = continued.recv() => workers::resume(),
                Some(()) = suspended.recv() => {
                    workers::suspend();
                    // It takes hold a moment later, for another thread may be the one that gets it.
                    let _ = kill_process(getpid(), Signal::STOP);
                }
                else => break,
            }
        }
    });
    Ok(())
}

/// Whether whoever started this process had it ignore the signal.
fn is_ignored(signal: Signal) -> bool {
    let status = read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal.as_raw() - 1) & 1 == 1)
}
