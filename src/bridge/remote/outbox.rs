//! Messages on their way into frames: they are encoded where they are made, and sent together.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::sync::Notify;

use super::frame::{FrameSink, write};

/// A frame takes no more messages once it has this many bytes, so that the other end can begin to read.
const FULL: usize = 256 << 10;

/// Messages that wait to be sent.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: Mutex<Waiting>,
    /// There is a frame to send, or none will follow.
    wake: Notify,
    /// Frames were sent.
    sent: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    frames: VecDeque<Vec<u8>>,
    /// The number of frames that were made.
    made: u64,
    /// The number of frames that were sent.
    sent: u64,
    /// Nothing will follow.
    ended: bool,
    /// The other end is gone.
    broken: bool,
}

impl Outbox {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a message in. Returns the number of its frame.
    pub(super) fn push(&self, message: &impl Serialize) -> u64 {
        let mut waiting = self.waiting();
        if waiting.broken || waiting.ended {
            return 0;
        }
        let first = waiting.frames.is_empty();
        if waiting.frames.back().is_none_or(|frame| frame.len() >= FULL) {
            waiting.frames.push_back(Vec::new());
            waiting.made += 1;
        }
        if let Some(frame) = waiting.frames.back_mut()
            && let Err(error) = write(frame, message)
        {
            // There is no map with keys of its own and no foreign type, so all that is sent here can be encoded.
            tracing::error!("failed to encode a message: {error}");
        }
        let made = waiting.made;
        drop(waiting);
        if first {
            self.wake.notify_one();
        }
        made
    }

    /// Waits until that frame was sent, or the other end is gone. Blocks the thread.
    pub(super) fn wait_sent(&self, frame: u64) {
        let waiting = self.waiting();
        let is_open = |waiting: &mut Waiting| waiting.sent < frame && !waiting.broken;
        drop(self.sent.wait_while(waiting, is_open).unwrap_or_else(PoisonError::into_inner));
    }

    /// Takes no further messages. What was put in is still sent.
    pub(super) fn end(&self) {
        self.waiting().ended = true;
        self.wake.notify_one();
    }

    /// Sends what is put in, until the outbox is ended and empty, or the other end is gone.
    pub(super) async fn send_all(&self, mut sink: impl FrameSink) {
        loop {
            let (frame, ended) = {
                let mut waiting = self.waiting();
                (waiting.frames.pop_front(), waiting.ended)
            };
            match frame {
                Some(frame) => {
                    let broken = sink.send(frame).await.is_err();
                    let mut waiting = self.waiting();
                    waiting.sent += 1;
                    waiting.broken |= broken;
                    drop(waiting);
                    self.sent.notify_all();
                    if broken {
                        return;
                    }
                }
                None if ended => return,
                None => self.wake.notified().await,
            }
        }
    }
}
