//! Ends a job from outside: [`Control`].

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use tokio::task::yield_now;

use crate::policy::stop::Signal;

/// Ends a job from outside, from any thread. Clones control the same job.
///
/// The first request stops the job: it makes no further calls, and calls in flight have the grace period to end. The
/// second request kills it: nothing is waited for, and everything recorded is safe in the journal.
#[derive(Debug, Clone, Default)]
pub struct Control(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    requests: Mutex<Requests>,
    arrived: Notify,
    hurries: AtomicBool,
}

#[derive(Debug, Default)]
struct Requests {
    all: Vec<Signal>,
    /// How many requests the job has taken.
    taken: usize,
}

impl Control {
    /// A control without any request.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks the job to stop, or to end at once if it was asked before. `why` decides the exit code in
    /// [`SessionEnd`](crate::job::SessionEnd).
    pub fn stop(&self, why: Signal) {
        self.requests().all.push(why);
        self.0.arrived.notify_one();
    }

    /// Asks the job to end at once.
    pub fn kill(&self, why: Signal) {
        if self.requests().all.is_empty() {
            self.stop(why);
        }
        self.stop(why);
    }

    /// Whether the job was asked to end at once, also if it has not taken that yet.
    pub(crate) fn is_killed(&self) -> bool {
        self.requests().all.len() > 1
    }

    /// How many requests the job has taken.
    pub fn taken(&self) -> usize {
        self.requests().taken
    }

    /// Whether the job is ending at once.
    pub fn hurries(&self) -> bool {
        self.0.hurries.load(Ordering::Relaxed)
    }

    /// The next request, without taking it.
    pub(crate) fn asked(&self) -> Option<Signal> {
        let requests = self.requests();
        requests.all.get(requests.taken).copied()
    }

    /// Waits for the next request and takes it. Cancel-safe; for one task at a time.
    pub(crate) async fn next(&self) -> Signal {
        loop {
            if let Some(signal) = self.take() {
                return signal;
            }
            // `Notify` keeps a permit, so a request that arrives before this line is not missed.
            self.0.arrived.notified().await;
        }
    }

    /// Takes the next request if one has come, also a signal that the runtime has not looked for yet.
    pub(crate) async fn come(&self) -> Option<Signal> {
        // The runtime looks for signals before this goes on, and then the task that passes them on has its turn.
        yield_now().await;
        yield_now().await;
        self.take()
    }

    fn take(&self) -> Option<Signal> {
        let mut requests = self.requests();
        let next = requests.all.get(requests.taken).copied()?;
        requests.taken += 1;
        Some(next)
    }

    /// Notes that the job is ending at once.
    pub(crate) fn hurry(&self) {
        self.0.hurries.store(true, Ordering::Relaxed);
    }

    fn requests(&self) -> std::sync::MutexGuard<'_, Requests> {
        self.0.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn requests_are_taken_in_their_order_and_once() {
        let control = Control::new();
        assert!(control.come().await.is_none());
        control.clone().stop(Signal::Interrupt);
        control.stop(Signal::Terminate);
        assert_eq!((control.next().await, control.next().await), (Signal::Interrupt, Signal::Terminate));
        assert!(control.come().await.is_none());
        assert_eq!(control.taken(), 2);
    }

    #[tokio::test]
    async fn a_request_from_another_thread_wakes_the_job() {
        let control = Control::new();
        let other = control.clone();
        let asking = std::thread::spawn(move || other.kill(Signal::Interrupt));
        assert_eq!((control.next().await, control.next().await), (Signal::Interrupt, Signal::Interrupt));
        asking.join().unwrap();
    }
}
