//! The calls of the serving end: handed to its bridge, cancelled, and told of.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use tokio::task::AbortHandle;

use super::message::{FromWorker, Marks, WireCall, WireEnded};
use super::outbox::Outbox;
use super::wire::{Names, WireReply, received};
use crate::bridge::{Bridge, Reply};
use crate::call::{Attempt, CallWatch, call_clock};

/// The calls of a connection, and the bridge that makes them.
pub(super) struct Calls {
    pub(super) bridge: Arc<dyn Bridge>,
    outbox: Arc<Outbox>,
    /// Calls that have no reply and are not cancelled.
    open: Mutex<FxHashMap<u64, Open>>,
}

struct Open {
    watch: Arc<CallWatch>,
    received: Instant,
    /// Ends the wait for the reply, which cancels the call.
    waiting: AbortHandle,
    /// Whether it was told that the call has begun.
    told: bool,
}

impl Calls {
    pub(super) fn new(bridge: Arc<dyn Bridge>, outbox: Arc<Outbox>) -> Self {
        Self { bridge, outbox, open: Mutex::default() }
    }

    fn open(&self) -> MutexGuard<'_, FxHashMap<u64, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a call.
    pub(super) fn make(self: &Arc<Self>, call: WireCall<'_>, names: &mut Names) {
        let WireCall(call, row, number, arguments) = call;
        let received_at = Instant::now();
        let (clock, watch) = call_clock(received_at);
        let arguments = Arc::new(received(arguments, names));
        let reply = self.bridge.submit(Attempt { row, number, arguments, clock });
        let watch = Arc::new(watch);
        let (this, watched) = (Arc::clone(self), Arc::clone(&watch));
        // Locked until the call is in, for it may have its reply at once.
        let mut open = self.open();
        let waiting = tokio::spawn(async move {
            let reply = reply.await;
            // If it is gone, the call was cancelled in this moment.
            if this.open().remove(&call).is_some() {
                this.ended(call, &watched, received_at, Some(&reply)).await;
            }
        });
        open.insert(
            call,
            Open { watch, received: received_at, waiting: waiting.abort_handle(), told: false },
        );
    }

    /// Tells the reply of a call, and as soon as nothing of it is left running, that too.
    async fn ended(&self, call: u64, watch: &CallWatch, received: Instant, reply: Option<&Reply>) {
        let is_over = watch.is_over();
        if reply.is_some() || is_over {
            self.tell(call, watch, received, reply, is_over);
        }
        if !is_over {
            watch.over().await;
            self.tell(call, watch, received, None, true);
        }
    }

    fn tell(&self, call: u64, watch: &CallWatch, received: Instant, reply: Option<&Reply>, over: bool) {
        let (reply, marks) = (reply.map(WireReply::of), Marks::of(watch, received.elapsed()));
        self.outbox.push(&FromWorker::Ended(WireEnded(call, reply, marks, over)));
    }

    /// Cancels a call, unless it has its reply.
    pub(super) fn cancel(self: &Arc<Self>, call: u64) {
        let Some(Open { watch, received, waiting, .. }) = self.open().remove(&call) else { return };
        waiting.abort();
        let this = Arc::clone(self);
        tokio::spawn(async move { this.ended(call, &watch, received, None).await });
    }

    /// Tells which calls have begun since the last time. Returns whether there are some that have not.
    pub(super) fn tell_begun(&self) -> bool {
        let mut waiting = false;
        for (call, open) in self.open().iter_mut().filter(|(_, open)| !open.told) {
            match open.watch.begun() {
                Some(begun) => {
                    let since = open.received.elapsed().saturating_sub(begun);
                    self.outbox.push(&FromWorker::Begun(*call, since));
                    open.told = true;
                }
                None => waiting = true,
            }
        }
        waiting
    }

    /// Tells the health of the bridge.
    pub(super) fn pulse(&self) {
        self.outbox.push(&FromWorker::Pulse(Box::new(self.bridge.health())));
    }

    /// Ends the bridge and with it all calls. Blocks.
    pub(super) fn close(&self, within: Duration) -> bool {
        self.bridge.close(within)
    }
}
