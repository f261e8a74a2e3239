//! The messages.

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::wire::{Bytes, WireFields, WireReply, WireValue};
use crate::bridge::{Description, Health};
use crate::call::CallWatch;

/// The version of the program, which both ends must share.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The number of the protocol, which changes with the messages. Where the two ends are installed apart, it is compared
/// before they are connected.
pub const PROTOCOL: u32 = 2;

/// What the calling end says. A call has a short name, for there are many.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToWorker<'a> {
    /// The version, and what to load, which the two owners of the ends agree about.
    Hello(String, #[serde(borrow)] Bytes<'a>),
    /// How to reach the model, or why there is none.
    #[serde(borrow)]
    Model(Result<Bytes<'a>, String>),
    /// Values, and the directory in which those that are relative paths are looked for first.
    Check(PathBuf, #[serde(borrow)] Vec<WireTyped<'a>>),
    #[serde(rename = "c", borrow)]
    Call(WireCall<'a>),
    Cancel(u64),
    /// How long the end may take.
    Close(Duration),
}

/// Call, row, number of the attempt, arguments.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WireCall<'a>(
    pub(super) u64,
    pub(super) u64,
    pub(super) u32,
    #[serde(borrow)] pub(super) WireFields<'a>,
);

/// Line, parameter, value.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WireTyped<'a>(
    pub(super) u64,
    #[serde(borrow)] pub(super) Cow<'a, str>,
    #[serde(borrow)] pub(super) WireValue<'a>,
);

/// What the serving end says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum FromWorker<'a> {
    ModelWanted,
    #[serde(borrow)]
    Ready(Ready<'a>),
    Refused(String),
    /// The values that do not fit, by line and parameter, each with the reason; or why none can be checked.
    Checked(Result<Vec<(u64, String, String)>, String>),
    /// A call, and for how long it has been running.
    Begun(u64, Duration),
    #[serde(rename = "e", borrow)]
    Ended(WireEnded<'a>),
    Pulse(Box<Health>),
    #[serde(borrow)]
    Printed(Bytes<'a>),
    Bye,
}

/// What was loaded.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ready<'a> {
    pub(super) description: Box<Description>,
    /// Whether values can be checked against types.
    pub(super) typed: bool,
    /// What else the calling end's owner is told.
    #[serde(borrow)]
    pub(super) facts: Bytes<'a>,
}

/// Call, reply unless nobody waits for it, marks, and whether nothing of the call is left running.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WireEnded<'a>(
    pub(super) u64,
    #[serde(borrow)] pub(super) Option<WireReply<'a>>,
    pub(super) Marks,
    pub(super) bool,
);

/// When the predictor began and ended, and when this was told: nanoseconds after the receipt of the call.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Marks(Option<u64>, Option<u64>, u64);

impl Marks {
    pub(super) fn of(watch: &CallWatch, took: Duration) -> Self {
        let nanoseconds = |time: Duration| time.as_nanos() as u64;
        Self(watch.begun().map(nanoseconds), watch.ended().map(nanoseconds), nanoseconds(took))
    }

    pub(super) fn begun(self) -> Option<Duration> {
        self.0.map(Duration::from_nanos)
    }

    pub(super) fn ended(self) -> Option<Duration> {
        self.1.map(Duration::from_nanos)
    }

    /// The time from the receipt of the call to this message.
    pub(super) fn took(self) -> Duration {
        Duration::from_nanos(self.2)
    }
}
