//! Frames over numbered bytes that the other end's owner brings and fetches: for a process that can only be asked, such
//! as an actor of Ray. Requests may come twice, late or not in order, and replies may be lost. Each byte still arrives
//! once, at its place.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::sync::Notify;

use super::frame::{FrameSink, FrameSource, Transport};

/// The sink waits while there are more bytes than this to be fetched. Messages gather in larger frames meanwhile.
const ROOM: usize = 256 << 10;

/// The serving end's transport, and where its bytes are brought and fetched. Frames are what
/// [`StreamTransport`](super::StreamTransport) makes of them: a length of four bytes, big-endian, and so many bytes.
#[derive(Debug, Clone, Default)]
pub struct Polled(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<Buffers>,
    /// Bytes were brought.
    brought: Notify,
    /// Bytes were fetched.
    fetched: Notify,
    /// There are bytes to be fetched, or none will follow.
    ready: Condvar,
}

#[derive(Debug, Default)]
struct Buffers {
    /// Bytes that make no whole frame yet, or that nobody has taken.
    incoming: BytesMut,
    /// The number of bytes that came, those that came too early not counted.
    received: u64,
    /// Bytes that came before others that precede them, by the number of bytes before them.
    early: BTreeMap<u64, Vec<u8>>,
    /// Bytes that the other end may not have.
    outgoing: BytesMut,
    /// The number of bytes that the other end has.
    acknowledged: u64,
    /// Nothing will follow.
    ended: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, Buffers> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Buffers {
    fn take_in(&mut self, offset: u64, bytes: &[u8]) {
        let known = usize::try_from(self.received.saturating_sub(offset)).unwrap_or(usize::MAX);
        if let Some(new) = bytes.get(known..) {
            self.incoming.extend_from_slice(new);
            self.received += new.len() as u64;
        }
    }
}

impl Polled {
    /// Takes bytes that so many precede. May be called again with the same ones.
    pub fn push(&self, offset: u64, bytes: &[u8]) {
        let mut state = self.0.state();
        if offset > state.received {
            // The longest of those that begin there.
            let early = state.early.entry(offset).or_default();
            if early.len() < bytes.len() {
                *early = bytes.to_vec();
            }
            return;
        }
        state.take_in(offset, bytes);
        while state.early.keys().next().is_some_and(|offset| *offset <= state.received) {
            if let Some((offset, bytes)) = state.early.pop_first() {
                state.take_in(offset, &bytes);
            }
        }
        drop(state);
        self.0.brought.notify_one();
    }

    /// The bytes that follow the first `acknowledged`, at most `most`, or none if there are none within `wait`.
    /// They are returned again until they are acknowledged. `None` once all were, and none will follow. Blocks
    /// the thread.
    pub fn pull(&self, acknowledged: u64, most: usize, wait: Duration) -> Option<Vec<u8>> {
        let mut state = self.0.state();
        let new = usize::try_from(acknowledged.saturating_sub(state.acknowledged)).unwrap_or(usize::MAX);
        let new = new.min(state.outgoing.len());
        if new > 0 {
            state.outgoing.advance(new);
            state.acknowledged += new as u64;
            self.0.fetched.notify_one();
        }
        let is_idle = |state: &mut Buffers| state.outgoing.is_empty() && !state.ended;
        if !wait.is_zero() && is_idle(&mut state) {
            let waited = self.0.ready.wait_timeout_while(state, wait, is_idle);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if state.outgoing.is_empty() && state.ended {
            return None;
        }
        Some(state.outgoing[..most.min(state.outgoing.len())].to_vec())
    }
}

impl Transport for Polled {
    type Sink = Sink;
    type Source = Source;

    fn split(self) -> (Sink, Source) {
        (Sink(Arc::clone(&self.0)), Source(self.0))
    }
}

/// Where frames wait to be fetched. Dropping it says that none will follow.
#[derive(Debug)]
pub struct Sink(Arc<Shared>);

impl FrameSink for Sink {
    async fn send(&mut self, frame: Vec<u8>) -> io::Result<()> {
        let length = u32::try_from(frame.len()).map_err(io::Error::other)?;
        loop {
            {
                let mut state = self.0.state();
                if state.outgoing.len() < ROOM {
                    state.outgoing.extend_from_slice(&length.to_be_bytes());
                    state.outgoing.extend_from_slice(&frame);
                    break;
                }
            }
            self.0.fetched.notified().await;
        }
        self.0.ready.notify_one();
        Ok(())
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.0.state().ended = true;
        self.0.ready.notify_all();
    }
}

/// Where the frames that were brought are taken.
#[derive(Debug)]
pub struct Source(Arc<Shared>);

impl FrameSource for Source {
    async fn next(&mut self) -> io::Result<Option<BytesMut>> {
        loop {
            {
                let incoming = &mut self.0.state().incoming;
                if let Some(length) = incoming.first_chunk() {
                    let length = u32::from_be_bytes(*length) as usize;
                    if incoming.len() - 4 >= length {
                        incoming.advance(4);
                        return Ok(Some(incoming.split_to(length)));
                    }
                }
            }
            self.0.brought.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_secs(5);
    const MOST: usize = 1 << 20;

    fn framed(frame: &[u8]) -> Vec<u8> {
        [&(frame.len() as u32).to_be_bytes()[..], frame].concat()
    }

    #[tokio::test]
    async fn bytes_that_come_twice_late_or_in_parts_make_each_frame_once() {
        let polled = Polled::default();
        let (_sink, mut source) = polled.clone().split();
        let bytes: Vec<u8> = [framed(b"one"), framed(b""), framed(&[7; 1000])].concat();
        // The last parts first, each twice, and with some that overlap.
        let mut at = bytes.len();
        while at > 0 {
            let from = at.saturating_sub(100);
            for _ in 0..2 {
                polled.push(from as u64, &bytes[from..at]);
            }
            polled.push(from as u64, &bytes[from..(at + 10).min(bytes.len())]);
            at = from;
        }
        polled.push(0, &bytes);
        for frame in [&b"one"[..], b"", &[7; 1000]] {
            let next = timeout(SOON, source.next()).await.expect("a frame is lost").unwrap().unwrap();
            assert_eq!(next, frame);
        }
        assert!(timeout(Duration::from_millis(20), source.next()).await.is_err(), "a frame came twice");
    }

    #[tokio::test]
    async fn what_is_not_acknowledged_is_fetched_again_and_what_is_never() {
        let polled = Polled::default();
        let (mut sink, _source) = polled.clone().split();
        sink.send(b"one".to_vec()).await.unwrap();
        let first = polled.pull(0, MOST, Duration::ZERO).unwrap();
        assert_eq!(first, framed(b"one"));
        sink.send(b"two".to_vec()).await.unwrap();
        let both = [framed(b"one"), framed(b"two")].concat();
        assert_eq!(polled.pull(0, MOST, Duration::ZERO).unwrap(), both);
        assert_eq!(polled.pull(0, 9, Duration::ZERO).unwrap(), both[..9]);
        assert_eq!(polled.pull(9, MOST, Duration::ZERO).unwrap(), both[9..]);
        // An old request that comes late.
        assert_eq!(polled.pull(7, MOST, Duration::ZERO).unwrap(), both[9..]);
        drop(sink);
        assert_eq!(polled.pull(9, MOST, SOON).unwrap(), both[9..]);
        assert_eq!(polled.pull(both.len() as u64, MOST, SOON), None);
        assert_eq!(polled.pull(both.len() as u64, MOST, SOON), None);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_fetch_waits_for_a_frame_and_a_frame_for_room() {
        let polled = Polled::default();
        let (mut sink, _source) = polled.clone().split();
        let begun = Instant::now();
        assert_eq!(polled.pull(0, MOST, Duration::from_millis(30)), Some(Vec::new()));
        assert!(begun.elapsed() >= Duration::from_millis(30));
        let fetching = polled.clone();
        let fetching = tokio::task::spawn_blocking(move || fetching.pull(0, MOST, SOON));
        sink.send(vec![1; ROOM]).await.unwrap();
        assert_eq!(fetching.await.unwrap().unwrap().len(), ROOM + 4);
        assert!(timeout(Duration::from_millis(20), sink.send(vec![2])).await.is_err());
        let more = tokio::spawn(async move { sink.send(vec![3]).await.is_ok() });
        assert!(polled.pull(10, MOST, Duration::ZERO).is_some());
        assert!(timeout(SOON, more).await.expect("there is room, and it is not seen").unwrap());
    }
}
