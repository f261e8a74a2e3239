//! A snapshot's figures for people.

use std::fmt;
use std::time::Duration;

use crate::event::LimitedBy;
use crate::observe::Snapshot;
use crate::report::text::{count, dollars, duration, figure};

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
    /// The figures, those most wanted first: what went wrong and what it costs, then how far the run is.
    pub(super) fn figures(&self) -> Vec<String> {
        let some = |number: u64, what| (number > 0).then(|| format!("{} {what}", count(number)));
        let done = count(self.done());
        let known = self.total > 0;
        let left = self.eta().filter(|eta| !eta.is_zero());
        let figures = [
            Some(if known { format!("{done}/{} rows", count(self.total)) } else { format!("{done} rows") }),
            some(self.failed, "failed"),
            self.limited_by.map(|limit| limit.to_string()),
            self.cost_usd.filter(|cost| *cost > 0.0).map(dollars),
            known.then(|| format!("{} %", 100 * self.done() / self.total)),
            Some(clock(self.elapsed)),
            some(self.abandoned, "abandoned"),
            left.map(|eta| format!("{} left", duration(eta))),
            Some(format!("{} rows/s", figure(self.rows_per_s))),
            Some(format!("{} running", count(self.in_flight))),
            some(self.waiting_retry, "retrying"),
        ];
        figures.into_iter().flatten().collect()
    }

    /// All figures for people, on one line.
    pub fn line(&self) -> String {
        self.figures().join(", ")
    }
}

/// Formats a time as a running clock does: `0:07`, `12:30`, `1:02:03`.
fn clock(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}
