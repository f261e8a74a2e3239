//! The lease of a process that serves a coordinator which it cannot see: without polls the process ends itself, with
//! its calls, so that the coordinator may give their rows to another one.
//!
//! The coordinator counts from when it sent its last poll that was replied to. This process does not know which of its
//! replies arrived, nor for how long a poll was on its way. But a poll is only sent when the one before it was replied
//! to, and that one when the reply before was there. So when poll *n* comes, the coordinator counts from the reply to
//! poll *n* - 2 or later, and so does this process: the lease never outlasts what the coordinator waits for, however
//! late a poll comes.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Signal, getpgrp, getpid, kill_current_process_group, kill_process};
use rustix::time::{ClockId, clock_gettime};

/// How often it is looked whether the lease has run out, at the least.
const LOOK: Duration = Duration::from_millis(200);

/// When the lease of this process runs out. Never, unless one has begun.
static ENDS: AtomicU64 = AtomicU64::new(u64::MAX);
static POLLS: Mutex<Option<Polls>> = Mutex::new(None);

/// The polls, by numbers that grow, and when the last two were replied to.
#[derive(Debug)]
struct Polls {
    lease: u64,
    number: u64,
    /// The last poll that was replied to.
    last: u64,
    replied: [u64; 2],
}

impl Polls {
    /// A poll has come. Returns when the lease runs out, unless the poll was there before.
    fn polled(&mut self, number: u64) -> Option<u64> {
        if number <= self.number {
            return None;
        }
        self.number = number;
        Some(self.replied[0].saturating_add(self.lease))
    }

    /// The poll is replied to. The coordinator may have sent it again, and have got the first reply.
    fn replied(&mut self, now: u64) {
        if self.number > self.last {
            self.last = self.number;
            self.replied = [self.replied[1], now];
        }
    }
}

/// Nanoseconds since the machine started, those in which it or this process slept included.
fn now() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    (time.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(time.tv_nsec as u64)
}

/// Begins the lease of this process. It is killed, with all that it has started, `lease` after the last poll. No
/// interpreter is asked.
///
/// # Errors
///
/// Fails if no thread can be started.
pub(crate) fn begin(lease: Duration) -> io::Result<()> {
    let (begun, lease) = (now(), u64::try_from(lease.as_nanos()).unwrap_or(u64::MAX));
    let polls = Polls { lease, number: 0, last: 0, replied: [begun; 2] };
    *POLLS.lock().unwrap_or_else(PoisonError::into_inner) = Some(polls);
    ENDS.store(begun.saturating_add(lease), Ordering::Relaxed);
    let watch = || {
        loop {
            check();
            std::thread::sleep(LOOK);
        }
    };
    std::thread::Builder::new().name("lease".into()).spawn(watch).map(drop)
}

/// Notes that a poll has come. Polls are counted from 1, and a repeated one has its number again.
pub(crate) fn polled(number: u64) {
    check();
    let mut polls = POLLS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(ends) = polls.as_mut().and_then(|polls| polls.polled(number)) {
        ENDS.store(ends, Ordering::Relaxed);
    }
}

/// Notes that the poll is replied to.
pub(crate) fn replied() {
    if let Some(polls) = &mut *POLLS.lock().unwrap_or_else(PoisonError::into_inner) {
        polls.replied(now());
    }
}

/// Ends this process if its lease has run out. To be called before anything that another process may be doing by then,
/// such as a step of a call: a process that was stopped and goes on has had no time to look.
pub(crate) fn check() {
    let ends = ENDS.load(Ordering::Relaxed);
    if ends != u64::MAX && now() >= ends {
        end();
    }
}

/// Ends this process, with all that it has started, without running anything more of it.
pub(crate) fn end() -> ! {
    if getpgrp() == getpid() {
        let _ = kill_current_process_group(Signal::KILL);
    }
    let _ = kill_process(getpid(), Signal::KILL);
    std::process::abort()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_counted_from_the_reply_before_the_last_that_the_coordinator_has() {
        let mut polls = Polls { lease: 15, number: 0, last: 0, replied: [0; 2] };
        // The coordinator sends a poll when it has the reply to the one before.
        assert_eq!(polls.polled(1), Some(15));
        polls.replied(10);
        assert_eq!(polls.polled(2), Some(15));
        polls.replied(20);
        assert_eq!(polls.polled(3), Some(25));
        // The reply was lost, and the poll is repeated, or comes late.
        polls.replied(21);
        assert_eq!(polls.polled(3), None);
        polls.replied(22);
        assert_eq!(polls.polled(2), None);
        polls.replied(23);
        assert_eq!(polls.polled(4), Some(35));
    }
}
