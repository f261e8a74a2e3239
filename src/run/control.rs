//! How a job is ended from outside: [`Control`].

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::policy::stop::Signal;

/// Ends a job from outside, from any thread. Clones control the same job.
///
/// The first request stops it: no further call is made, and the calls in flight have the grace period to end. The
/// second one kills it: what was recorded is safe, and nothing is waited for.
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
    /// How many of them the job has taken.
    taken: usize,
}

impl Control {
    /// A control that nobody has used yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks the job to stop, or, where it was asked before, to end at once. `why` decides the exit code that the job's
    /// outcome names.
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

    /// Whether a request waits for the job to take it.
    pub fn is_waiting(&self) -> bool {
        let requests = self.requests();
        requests.taken < requests.all.len()
    }

    /// Whether the job has said that it ends at once.
    pub fn hurries(&self) -> bool {
        self.0.hurries.load(Ordering::Relaxed)
    }

    /// Takes the next request once there is one. Cancel-safe; for one task at a time.
    pub(crate) async fn next(&self) -> Signal {
        loop {
            if let Some(signal) = self.take() {
                return signal;
            }
            // Keeps a permit where a request arrives before this waits.
            self.0.arrived.notified().await;
        }
    }

    /// Takes a request that is there already.
    pub(crate) fn take(&self) -> Option<Signal> {
        let mut requests = self.requests();
        let next = requests.all.get(requests.taken).copied()?;
        requests.taken += 1;
        Some(next)
    }

    /// Says that the job ends at once.
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
        assert!(!control.is_waiting() && control.take().is_none());
        control.clone().stop(Signal::Interrupt);
        control.stop(Signal::Terminate);
        assert!(control.is_waiting());
        assert_eq!((control.next().await, control.next().await), (Signal::Interrupt, Signal::Terminate));
        assert!(!control.is_waiting() && control.take().is_none());
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
