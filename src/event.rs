//! What the engine tells the dispatcher: data, never text.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::OwnedSemaphorePermit;

use crate::error::BridgeError;
use crate::outcome::{FailedAttempt, Outcome};

/// What holds the pace below the concurrency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitedBy {
    /// `--rpm`.
    Rpm,
    /// `--tpm`.
    Tpm,
    /// The server asked for fewer requests.
    Server,
    /// There is no server, or it fails: probes alone are sent.
    Outage,
}

/// For how long something held rows back, by what it was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LimitedFor {
    /// By `--rpm`.
    pub rpm: Duration,
    /// By `--tpm`.
    pub tpm: Duration,
    /// By the server's refusals.
    pub server: Duration,
    /// By an outage.
    pub outage: Duration,
}

impl LimitedFor {
    /// The time that belongs to one of them.
    pub fn by(&mut self, by: LimitedBy) -> &mut Duration {
        match by {
            LimitedBy::Rpm => &mut self.rpm,
            LimitedBy::Tpm => &mut self.tpm,
            LimitedBy::Server => &mut self.server,
            LimitedBy::Outage => &mut self.outage,
        }
    }

    /// By whatever it was.
    pub fn total(&self) -> Duration {
        self.rpm + self.tpm + self.server + self.outage
    }
}

/// What kept the event loop from turning.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Blocker {
    /// The innermost line of the user's code: `file:line in function: source`.
    Line(String),
    /// The first import of this package, which any call might have made.
    Import(String),
    /// Code in C held the interpreter's lock, so that no thread could look.
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

/// A time in which the event loop did not turn, a second or longer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blockage {
    /// The row whose call held it up; none where that cannot be seen.
    pub row: Option<u64>,
    /// By what.
    pub by: Blocker,
    /// How long, or how long so far.
    pub lasted: Duration,
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
    /// The way to the predictor is broken. The row whose call found it so stays open.
    Broken {
        /// What broke.
        error: BridgeError,
        /// That call's permit, so that no row is handed to a dead loop before the run is stopped.
        permit: OwnedSemaphorePermit,
    },
    /// The event loop does not turn.
    Blocked {
        /// What is known of it.
        blockage: Blockage,
        /// The rows in hand; one of them does it.
        in_hand: Vec<u64>,
    },
    /// The row has its final outcome.
    Finished {
        /// The outcome.
        outcome: Box<Outcome>,
        /// The permit of the row's last call; none of a row that was never called. Dropped once the outcome is recorded
        /// and judged by the guards: no next call is made before the last answer is safe, nor where it stops the run.
        permit: Option<OwnedSemaphorePermit>,
    },
    /// The run is stopping and the row was left without an outcome; `resume` will take it up.
    Unfinished {
        /// The row.
        row: u64,
        /// Its last attempt, where that was not told of as [`Event::Retrying`].
        last: Option<Box<FailedAttempt>>,
    },
    /// The row's task panicked: a fault of this program. The row has no outcome, and its call may be billed.
    Panicked {
        /// The row.
        row: u64,
        /// What the panic said.
        text: String,
    },
}
