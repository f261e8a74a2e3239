//! A bridge whose calls run in another process: the protocol, its serving end and its calling end.
//!
//! The serving end drives a bridge of its own process. The calling end is one more [`Bridge`](super::Bridge), of one
//! lane. Both know nothing of processes or sockets: whoever starts the worker brings the [`Transport`].
//!
//! # The protocol
//!
//! A frame is one or more messages, each behind its length, in `MessagePack`, structs with the names of their fields. Both ends are the
//! same build of this program: the first message names its version, and another one is refused.
//!
//! | from the calling end | |
//! | --- | --- |
//! | `Hello` | the version, and what to load. The first message |
//! | `Model` | how to reach the model that was asked for |
//! | `Check` | values to be checked against the types of parameters |
//! | `Call` | a call, under a number |
//! | `Cancel` | the number of a call that nobody waits for any more |
//! | `Close` | end all calls, then say `Bye` |
//!
//! | from the serving end | |
//! | --- | --- |
//! | `ModelWanted` | the predictor needs a model |
//! | `Ready`, `Refused` | what was loaded, or why it cannot be |
//! | `Checked` | the values that do not fit |
//! | `Begun` | a call runs, and since when. Only calls that take more than a moment have one |
//! | `Ended` | the reply of a call, or that a cancelled one is over |
//! | `Pulse` | the health of the bridge, every 50 ms, from a thread that needs no interpreter |
//! | `Printed` | what Python printed, secrets masked |
//! | `Bye` | nothing follows |
//!
//! A cancelled call has ended when its `Ended` says *over*. Nothing else proves that: neither the cancellation nor the
//! end of the connection. If the connection ends, the calls stay open until the owner of the calling end knows what
//! became of the other process, and says so ([`Remote::lose`]).
//!
//! # Time
//!
//! Only durations cross. The serving end counts from the moment at which it receives a call. The calling end puts half
//! of what the call took in all, less what it took on the other side, before the call's beginning and half behind its
//! end. So `running` is measured by the clock of the process that ran the call, and the parts of a row's time add up.
//!
//! # The files
//!
//! | file | what |
//! | --- | --- |
//! | `message.rs` | the messages |
//! | `wire.rs` | values, answers and errors as they cross |
//! | `frame.rs` | [`Transport`], and the one over a byte stream |
//! | `polled.rs` | [`Polled`]: a [`Transport`] over bytes that are brought and fetched |
//! | `outbox.rs` | messages on their way into frames |
//! | `serve.rs` | the serving end |
//! | `serving.rs` | the calls of the serving end |
//! | `calling.rs` | the calling end: [`Remote`] |
//! | `link.rs` | what its bridge and its connection share: calls without a reply, and what the worker told |
//! | `lane.rs` | the worker's event loop, as its pulses tell |

mod calling;
mod frame;
mod lane;
mod link;
mod message;
mod outbox;
mod polled;
mod serve;
mod serving;
#[cfg(test)]
mod tests;
mod wire;

pub use self::calling::{ConnectError, Host, Remote, Show};
pub use self::frame::{FrameSink, FrameSource, StreamTransport, Transport};
pub use self::message::PROTOCOL;
pub use self::polled::Polled;
pub use self::serve::{Asking, Served, Started, serve};
