//! What the engine reports to the dispatcher: data, never text.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::OwnedSemaphorePermit;

use crate::error::BridgeError;
use crate::outcome::{FailedAttempt, Outcome};

/// What keeps the number of calls in flight below the concurrency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitedBy {
    /// `--rpm`.
    Rpm,
    /// `--tpm`.
    Tpm,
    /// The server asked for fewer requests.
    Server,
    /// The server is down or fails, and only probes are sent.
    Outage,
}

/// For how long rows were held back, by what held them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LimitedFor {
    /// By `--rpm`.
    pub rpm: Duration,
    /// By `--tpm`.
    pub tpm: Duration,
    /// By the server, which asked for fewer requests.
    pub server: Duration,
    /// By an outage.
    pub outage: Duration,
}

impl LimitedFor {
    /// The time that one of them held rows back.
    pub fn by(&mut self, by: LimitedBy) -> &mut Duration {
        match by {
            LimitedBy::Rpm => &mut self.rpm,
            LimitedBy::Tpm => &mut self.tpm,
            LimitedBy::Server => &mut self.server,
            LimitedBy::Outage => &mut self.outage,
        }
    }

    /// The time for which anything held rows back.
    pub fn total(&self) -> Duration {
        self.rpm + self.tpm + self.server + self.outage
    }
}

/// What blocked the event loop.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Blocker {
    /// The innermost line of the user's code: `file:line in function: source`.
    Line(String),
    /// The first import of this package, which any call might have made.
    Import(String),
    /// C code held the interpreter's lock, so that no other thread could look.
    Unseen,
}

impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => f.write_str(line),
            Self::Import(package) => write!(f, "the first import of `{package}`"),
            Self::Unseen => f.write_str("code that holds the interpreter's lock"),
        }
    }
}

/// A time of a second or longer in which the event loop did not turn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blockage {
    /// The row whose call blocked it, if that is known.
    pub row: Option<u64>,
    /// What blocked it.
    pub by: Blocker,
    /// Python's stack, trimmed to the user's frames and the innermost one. It is known while the blockage lasts and the
    /// interpreter's lock can be had; otherwise it is empty.
    pub stack: String,
    /// For how long, or for how long so far.
    pub lasted: Duration,
}

impl Blockage {
    /// Where its code is, in the form of [`Failure::traceback`](crate::error::Failure::traceback).
    pub fn traceback(&self) -> String {
        format!("{}\n{}", self.by, self.stack).trim_end().to_owned()
    }

    /// What is kept of it for the report.
    #[must_use]
    pub fn brief(self) -> Self {
        Self { stack: String::new(), ..self }
    }
}

/// One thing that happened to one row.
#[derive(Debug)]
pub enum Event {
    /// An attempt failed and the row waits to be tried again.
    Retrying {
        /// The attempt.
        attempt: Box<FailedAttempt>,
        /// The wait before the next one.
        delay: Duration,
    },
    /// The bridge to the predictor is broken. The row whose call found that out stays open.
    Broken {
        /// What broke.
        error: BridgeError,
        /// That call's permit. It is held until the run is stopped, so that no row is handed to a dead event loop.
        permit: OwnedSemaphorePermit,
    },
    /// The event loop does not turn.
    Blocked {
        /// What is known of it.
        blockage: Blockage,
        /// The rows in hand, one of which blocks it.
        in_hand: Vec<u64>,
    },
    /// The row has its final outcome.
    Finished {
        /// The outcome.
        outcome: Box<Outcome>,
        /// The permit of the row's last call; none for a row that was never called. It is dropped once the outcome is
        /// recorded and checked against the run's limits: no further call is made before the answer is safe, nor if it
        /// stops the run.
        permit: Option<OwnedSemaphorePermit>,
    },
    /// The run is stopping and left the row without an outcome. `resume` calls it again.
    Unfinished {
        /// The row.
        row: u64,
        /// Its last attempt, unless that was reported as [`Event::Retrying`].
        last: Option<Box<FailedAttempt>>,
    },
    /// The row's task panicked, which is a fault of this program. The row has no outcome, and its call may be billed.
    Panicked {
        /// The row.
        row: u64,
        /// The panic's message.
        text: String,
    },
}
