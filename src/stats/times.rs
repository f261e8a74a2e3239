//! What time was spent on, for the report: the time of rows, and the time during which the run was limited.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::event::LimitedFor;

/// What the time of the rows was spent on, in milliseconds, summed over all rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct TimeSums {
    /// From reading the row until the engine takes it. In this time the start is recorded.
    #[serde(default)]
    pub starting: f64,
    /// Held back by a limit: refusals of the server, an outage, `--rpm`, `--tpm`.
    #[serde(default)]
    pub paced: f64,
    /// Waiting for a permit.
    pub queued: f64,
    /// Running the predictor.
    pub running: f64,
    /// Waiting to be retried.
    pub backoff: f64,
    /// Passing calls to the event loop and results back.
    pub bridge: f64,
    /// From the outcome until it is recorded.
    #[serde(default)]
    pub recording: f64,
}

/// For how many seconds rows were held back, by cause.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct LimitedTimes {
    /// Refusals of the server (429, or 503 with Retry-After).
    pub server: f64,
    /// An outage of the server.
    pub outage: f64,
    /// `--rpm`.
    pub rpm: f64,
    /// `--tpm`.
    pub tpm: f64,
}

impl LimitedTimes {
    /// Each time capped at `wall`, the time of the session.
    pub(super) fn at_most(self, wall: Duration) -> Self {
        let [server, outage, rpm, tpm] =
            [self.server, self.outage, self.rpm, self.tpm].map(|time| time.min(wall.as_secs_f64()));
        Self { server, outage, rpm, tpm }
    }
}

impl From<LimitedFor> for LimitedTimes {
    fn from(limited: LimitedFor) -> Self {
        let LimitedFor { rpm, tpm, server, outage } = limited;
        let [server, outage, rpm, tpm] = [server, outage, rpm, tpm].map(|time| time.as_secs_f64());
        Self { server, outage, rpm, tpm }
    }
}

impl std::ops::AddAssign for LimitedTimes {
    fn add_assign(&mut self, other: Self) {
        self.server += other.server;
        self.outage += other.outage;
        self.rpm += other.rpm;
        self.tpm += other.tpm;
    }
}
