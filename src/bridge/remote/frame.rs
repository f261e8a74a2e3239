//! Frames: how they are carried, and how they are read.

use std::io;

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf, split};
use tokio_util::codec::{FramedRead, FramedWrite, LengthDelimitedCodec};

/// The longest frame, in bytes. A frame holds at least one message whole, and a row may be long.
const LONGEST: usize = u32::MAX as usize;

/// Carries whole frames both ways between the two ends.
pub trait Transport: Send + 'static {
    /// Where frames go.
    type Sink: FrameSink;
    /// Where frames come from.
    type Source: FrameSource;

    /// The two directions.
    fn split(self) -> (Self::Sink, Self::Source);
}

/// Where frames go.
pub trait FrameSink: Send + 'static {
    /// Sends a frame. Waits while the other end takes none.
    ///
    /// # Errors
    ///
    /// Fails if the other end is gone.
    fn send(&mut self, frame: Vec<u8>) -> impl Future<Output = io::Result<()>> + Send;
}

/// Where frames come from.
pub trait FrameSource: Send + 'static {
    /// The next frame, or none if the other end is gone. Cancel-safe.
    ///
    /// # Errors
    ///
    /// Fails if the connection breaks within a frame.
    fn next(&mut self) -> impl Future<Output = io::Result<Option<BytesMut>>> + Send;
}

/// Frames over a stream of bytes: a length of four bytes, big-endian, and so many bytes.
#[derive(Debug)]
pub struct StreamTransport<S>(pub S);

impl<S: AsyncRead + AsyncWrite + Send + 'static> Transport for StreamTransport<S> {
    type Sink = FramedWrite<WriteHalf<S>, LengthDelimitedCodec>;
    type Source = FramedRead<ReadHalf<S>, LengthDelimitedCodec>;

    fn split(self) -> (Self::Sink, Self::Source) {
        let codec = || LengthDelimitedCodec::builder().max_frame_length(LONGEST).new_codec();
        let (reads, writes) = split(self.0);
        (FramedWrite::new(writes, codec()), FramedRead::new(reads, codec()))
    }
}

impl<W: AsyncWrite + Send + Unpin + 'static> FrameSink for FramedWrite<W, LengthDelimitedCodec> {
    async fn send(&mut self, frame: Vec<u8>) -> io::Result<()> {
        SinkExt::send(self, Bytes::from(frame)).await
    }
}

impl<R: AsyncRead + Send + Unpin + 'static> FrameSource for FramedRead<R, LengthDelimitedCodec> {
    async fn next(&mut self) -> io::Result<Option<BytesMut>> {
        StreamExt::next(self).await.transpose()
    }
}

/// Puts a message behind those that are in the frame: its length as four bytes, little-endian, and itself.
///
/// # Errors
///
/// Fails if the message cannot be encoded. The frame is as before then.
pub(super) fn write(frame: &mut Vec<u8>, message: &impl Serialize) -> Result<(), rmp_serde::encode::Error> {
    let start = frame.len();
    frame.extend_from_slice(&[0; 4]);
    let written = message.serialize(&mut rmp_serde::Serializer::new(&mut *frame).with_struct_map());
    if written.is_err() {
        frame.truncate(start);
        return written;
    }
    let length = (frame.len() - start - 4) as u32;
    frame[start..start + 4].copy_from_slice(&length.to_le_bytes());
    Ok(())
}

/// Reads the messages of a frame, in order.
///
/// # Errors
///
/// Fails at a message that cannot be read. Those before it were taken.
pub(super) fn read<'a, M: Deserialize<'a>>(frame: &'a [u8], mut take: impl FnMut(M)) -> io::Result<()> {
    let mut rest = frame;
    while let Some((length, behind)) = rest.split_first_chunk() {
        let length = u32::from_le_bytes(*length) as usize;
        let (message, behind) = behind.split_at_checked(length).ok_or(io::ErrorKind::UnexpectedEof)?;
        take(rmp_serde::from_slice(message).map_err(io::Error::other)?);
        rest = behind;
    }
    if rest.is_empty() { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}
