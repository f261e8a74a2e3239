//! The production bridge: calls handed to the event loop's thread in batches, results handed back in batches.
//!
//! No Tokio thread ever attaches to the interpreter. A call is queued in Rust, and the loop is woken through an
//! `eventfd` only where no wake is pending (`queue`). There a pool of long-lived tasks takes the calls from the queue;
//! each steps the predictor's coroutine in a fresh copy of the context the predictor was loaded in, converts the result
//! and takes the next call (`worker`). Results gather over a turn of the loop and go to one Tokio task, which settles
//! the calls' futures. Not the textbook form; see [`super::into_future`] for that.

pub(super) mod convert;
pub mod event_loop;
pub(super) mod helpers;
pub mod interpreter;
mod keywords;
pub mod metered;
mod pool;
pub mod predictor;
pub mod pulse;
mod queue;
mod running;
mod step;
mod watchdog;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use self::event_loop::{EventLoop, LoopKind};
use self::predictor::{Description, LoadError, Predictor, Request};
use self::pulse::Pulse;
use self::queue::{Batch, Job, Queue};
use super::Bridge;
use crate::call::{Attempt, BridgeError, CallError};
use crate::event::Blockage;
use crate::row::Answer;
use crate::secret::Secrets;

/// What a call ended with.
type Reply = Result<Answer, CallError>;

/// The production bridge.
#[derive(Debug)]
pub struct PythonBridge {
    queue: Arc<Queue>,
    event_loop: EventLoop,
    description: Description,
}

impl PythonBridge {
    /// Starts an event loop and loads the predictor on its thread. The interpreter must be running.
    ///
    /// Must be called within a Tokio runtime, to which the results are handed.
    pub fn start(kind: LoopKind, request: Request, secrets: Secrets) -> Result<Self, LoadError> {
        let (results, inbox) = mpsc::unbounded_channel();
        let queue =
            Queue::new(results).map_err(|error| LoadError(format!("failed to make an eventfd: {error}")))?;
        let queue = Arc::new(queue);
        let loop_queue = Arc::clone(&queue);
        let mask = secrets.clone();
        let set_up = move |event_loop: &pyo3::Bound<'_, pyo3::PyAny>, pulse: &Arc<Pulse>| {
            let mut secrets = secrets;
            let predictor = Predictor::load(event_loop, request, &mut secrets)?;
            let description = predictor.description.clone();
            pool::start(event_loop, loop_queue, predictor, secrets, Arc::clone(pulse))?;
            Ok(description)
        };
        let (event_loop, description) =
            EventLoop::start(kind, mask.clone(), set_up).map_err(|error| LoadError::of(&error, &mask))?;
        tokio::spawn(settle(inbox));
        Ok(Self { queue, event_loop, description })
    }

    /// What the predictor is and takes.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// `asyncio` or `uvloop`.
    pub fn loop_name(&self) -> &str {
        &self.event_loop.name
    }

    /// The latest that the loop came to a turn it had asked for.
    pub fn longest_lag(&self) -> Duration {
        self.event_loop.pulse.longest_lag()
    }

    /// The longest times in which the loop did not turn.
    pub fn blockages(&self) -> Vec<Blockage> {
        self.event_loop.watchdog.longest(&self.event_loop.pulse)
    }

    /// Cancels what is left on the loop and closes it. Returns whether that ended within the bound.
    pub fn shut_down(&self, bound: Duration) -> bool {
        self.queue.close();
        self.event_loop.shut_down(bound)
    }
}

/// Hands each result to its call's future, on a Tokio thread: one wake of the runtime a batch.
async fn settle(mut inbox: mpsc::UnboundedReceiver<Batch>) {
    while let Some(batch) = inbox.recv().await {
        for (sender, reply) in batch {
            // The receiver of a call that was cancelled meanwhile is gone.
            let _ = sender.send(reply);
        }
    }
}

/// Cancels the call if it is dropped before the call has ended.
struct CancelOnDrop<'a> {
    queue: &'a Queue,
    call: u64,
    armed: bool,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.queue.cancel(self.call);
        }
    }
}

impl Bridge for PythonBridge {
    async fn call(&self, attempt: Attempt) -> Reply {
        let (sender, receiver) = oneshot::channel();
        let call = self.queue.next_id();
        if !self.queue.push(Job { id: call, attempt, sender }) {
            return Err(BridgeError::LoopStopped.into());
        }
        let mut guard = CancelOnDrop { queue: &self.queue, call, armed: true };
        let reply = receiver.await;
        guard.armed = false;
        reply.unwrap_or(Err(CallError::Bridge(BridgeError::LoopStopped)))
    }

    fn stalled(&self) -> Duration {
        self.event_loop.pulse.stalled()
    }

    fn stalled_now(&self) -> Duration {
        self.event_loop.pulse.stalled_now()
    }

    fn blocked(&self) -> Vec<Blockage> {
        self.event_loop.watchdog.news()
    }
}
