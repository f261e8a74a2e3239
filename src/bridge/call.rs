//! A call that was handed over: how its reply is awaited, and how it is cancelled.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::sync::oneshot::Receiver;

use crate::error::{BridgeError, CallError};
use crate::outcome::Answer;

/// The result of a call.
pub type Reply = Result<Answer, CallError>;

/// Cancels calls of a bridge.
pub trait CancelCall: Send + Sync {
    /// Asks the bridge to cancel the call that it gave this number. The call may have ended meanwhile.
    fn cancel(&self, number: u64);
}

/// Resolves to the call's reply. If it is dropped before, the call is cancelled. Whatever is left running of the call
/// afterwards keeps the attempt's clock alive (`CallWatch::over`).
#[must_use = "a call that is dropped is cancelled"]
pub struct Call {
    reply: Awaited,
    /// Cancels the call, by this number, until it has ended.
    cancel: Option<(Arc<dyn CancelCall>, u64)>,
}

enum Awaited {
    /// Somebody else makes the call and sends its reply.
    Sent(Receiver<Reply>),
    /// Polling this makes the call, and dropping it cancels the call.
    Driven(Pin<Box<dyn Future<Output = Reply> + Send>>),
}

impl Call {
    /// A call whose reply is sent, and which is cancelled by this number.
    pub fn sent(reply: Receiver<Reply>, cancel: Arc<dyn CancelCall>, number: u64) -> Self {
        Self { reply: Awaited::Sent(reply), cancel: Some((cancel, number)) }
    }

    /// A call that this future makes.
    pub fn driven(making: impl Future<Output = Reply> + Send + 'static) -> Self {
        Self { reply: Awaited::Driven(Box::pin(making)), cancel: None }
    }
}

impl Future for Call {
    type Output = Reply;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Reply> {
        let this = self.get_mut();
        let reply = match &mut this.reply {
            Awaited::Sent(reply) => {
                ready!(Pin::new(reply).poll(context)).unwrap_or(Err(BridgeError::LoopStopped.into()))
            }
            Awaited::Driven(making) => ready!(making.as_mut().poll(context)),
        };
        this.cancel = None;
        Poll::Ready(reply)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Some((cancel, number)) = self.cancel.take() {
            // First, so that a call which has not begun when it is cancelled is seen to be unwanted.
            if let Awaited::Sent(reply) = &mut self.reply {
                reply.close();
            }
            cancel.cancel(number);
        }
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::sync::oneshot::{Sender, channel};

    use super::*;

    /// Notes which calls are cancelled, and whether their replies were still wanted then.
    #[derive(Default)]
    struct Cancelled(Mutex<Vec<(u64, bool)>>, Mutex<Option<Sender<Reply>>>);

    impl CancelCall for Cancelled {
        fn cancel(&self, number: u64) {
            let wanted = self.1.lock().unwrap().as_ref().is_some_and(|sender| !sender.is_closed());
            self.0.lock().unwrap().push((number, wanted));
        }
    }

    fn made() -> (Arc<Cancelled>, Call) {
        let (sender, reply) = channel();
        let cancelled = Arc::new(Cancelled(Mutex::default(), Mutex::new(Some(sender))));
        let call = Call::sent(reply, Arc::clone(&cancelled) as Arc<dyn CancelCall>, 7);
        (cancelled, call)
    }

    #[tokio::test]
    async fn a_call_is_cancelled_by_being_dropped_unless_it_has_ended_and_is_not_wanted_any_more_by_then() {
        let (cancelled, call) = made();
        drop(call);
        assert_eq!(*cancelled.0.lock().unwrap(), [(7, false)]);
        let (cancelled, call) = made();
        let sender = cancelled.1.lock().unwrap().take().unwrap();
        sender.send(Err(CallError::Output("no answer".to_owned()))).unwrap();
        assert!(matches!(call.await, Err(CallError::Output(_))));
        assert!(cancelled.0.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_call_that_nobody_will_reply_to_ends_as_a_stopped_loop() {
        let (cancelled, call) = made();
        cancelled.1.lock().unwrap().take();
        assert!(matches!(call.await, Err(CallError::Bridge(BridgeError::LoopStopped))));
    }
}
