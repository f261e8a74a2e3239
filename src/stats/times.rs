//! Where the time went, as the report has it: sums over rows, and limits of the run. Not how it was measured.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::event::LimitedFor;

/// Sums over rows of where their time went, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct TimeSums {
    /// From being read to being taken up by the engine: the start is recorded.
    #[serde(default)]
    pub starting: f64,
    /// Held back by a limit: the server's refusals, an outage, `--rpm`, `--tpm`.
    #[serde(default)]
    pub paced: f64,
    /// Waiting for a permit.
    pub queued: f64,
    /// The predictor running.
    pub running: f64,
    /// Waiting to retry.
    pub backoff: f64,
    /// Hand-over to the event loop and back.
    pub bridge: f64,
    /// From the outcome to its being recorded.
    #[serde(default)]
    pub recording: f64,
}

/// For how many seconds something held rows back, by what it was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct LimitedTimes {
    /// By the server's refusals (429, or 503 with Retry-After).
    pub server: f64,
    /// By an outage of the server.
    pub outage: f64,
    /// By `--rpm`.
    pub rpm: f64,
    /// By `--tpm`.
    pub tpm: f64,
}

impl LimitedTimes {
    /// No longer than the session they are of.
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
