//! How a run stands at a moment, and its figures for people. Not where they are shown.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::event::LimitedBy;
use crate::report::text::{count, dollars, duration, figure};

/// How a run stands. Counts are of rows; those of earlier sessions are in `resumed` only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Snapshot {
    /// Rows selected.
    pub total: u64,
    /// Answered by earlier sessions.
    pub resumed: u64,
    /// Answered.
    pub ok: u64,
    /// Failed for good.
    pub failed: u64,
    /// Given up without an outcome, as the run is stopping.
    pub unfinished: u64,
    /// Being called.
    pub in_flight: u64,
    /// In backoff.
    pub waiting_retry: u64,
    /// Calls that ignored cancellation.
    pub abandoned: u64,
    /// US dollars that the whole job has cost, as far as prices are known.
    pub cost_usd: Option<f64>,
    /// Since the session's first call.
    #[serde(skip)]
    pub elapsed: Duration,
    /// The present pace, smoothed (see [`RowRate`](crate::stats::RowRate)).
    pub rows_per_s: f64,
    /// What holds the pace below the concurrency.
    pub limited_by: Option<LimitedBy>,
}

impl fmt::Display for LimitedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rpm => "limited by --rpm",
            Self::Tpm => "limited by --tpm",
            Self::Server => "limited by server",
            Self::Outage => "calls fail: probing",
        })
    }
}

impl Snapshot {
    /// Rows with an outcome, earlier sessions included.
    pub fn done(&self) -> u64 {
        self.resumed + self.ok + self.failed
    }

    /// The time the rest will take at this session's mean pace; none before its first outcome.
    pub fn eta(&self) -> Option<Duration> {
        let done = self.ok + self.failed;
        let left = self.total.saturating_sub(self.done() + self.unfinished);
        (done > 0).then(|| {
            Duration::try_from_secs_f64(self.elapsed.as_secs_f64() * left as f64 / done as f64).ok()
        })?
    }

    /// The figures for people, the most wanted first: what went wrong and what it costs, then how far it is.
    pub(super) fn figures(&self) -> Vec<String> {
        let some = |number: u64, what| (number > 0).then(|| format!("{} {what}", count(number)));
        let share = 100 * self.done() / self.total.max(1);
        let left = self.eta().filter(|eta| !eta.is_zero());
        let figures = [
            Some(format!("{}/{} rows", count(self.done()), count(self.total))),
            some(self.failed, "failed"),
            self.limited_by.map(|limit| limit.to_string()),
            self.cost_usd.filter(|cost| *cost > 0.0).map(dollars),
            Some(format!("{share} %")),
            Some(clock(self.elapsed)),
            some(self.abandoned, "abandoned"),
            left.map(|eta| format!("{} left", duration(eta))),
            Some(format!("{} rows/s", figure(self.rows_per_s))),
            Some(format!("{} running", count(self.in_flight))),
            some(self.waiting_retry, "retrying"),
        ];
        figures.into_iter().flatten().collect()
    }

    /// All of them on one line.
    pub(super) fn line(&self) -> String {
        self.figures().join(", ")
    }
}

/// Time as a clock that runs shows it: `0:07`, `12:30`, `1:02:03`.
fn clock(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}
