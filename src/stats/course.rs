//! How a run went over time, for the pictures of the page. Takes bounded memory, whatever the number of rows.
//!
//! Times are counted from the start of the run, without the time between sessions.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::ops::AddAssign;
use std::sync::Arc;
use std::time::Duration;

use super::series::Series;
use crate::error::Failure;
use crate::outcome::{FailedAttempt, Outcome};

/// How many error classes are counted by name. The rest are counted together.
const CLASSES: usize = 16;
/// How many rows are kept one by one. If there are more, none is kept.
const SPANS: usize = 80;
/// How many of the slowest rows are kept.
const SLOWEST: usize = 10;
/// For how many error classes the first message is kept,
const EXAMPLES: usize = 20;
/// and how many characters of it.
const EXAMPLE: usize = 400;
/// For how many attempts of a row the times are kept.
const EARLIER: usize = 50;
/// How many ends of sessions are kept.
const SESSIONS: usize = 50;
/// Latencies are counted in bins, each a quarter of a doubling wide, from a microsecond to some weeks.
const BINS_PER_DOUBLING: f64 = 4.0;
const MOST_BINS: usize = 164;

/// What happened in one interval of time.
#[derive(Debug, Clone, Default)]
pub struct Moment {
    /// Rows answered.
    pub ok: u64,
    /// Rows that failed.
    pub failed: u64,
    /// The time of all calls in the interval, in seconds.
    pub running_s: f64,
    /// Attempts that followed a failed attempt of the same row.
    pub retries: u64,
    /// Failed attempts by their index in [`Course::classes`]. Those of further classes are counted at the end.
    pub errors: Counts,
    /// Last attempts of rows by [`latency_bin`].
    pub latencies: Counts,
}

/// Counts by index. Only as long as the greatest index counted.
#[derive(Debug, Clone, Default)]
pub struct Counts(Vec<u64>);

impl Counts {
    fn add(&mut self, at: usize) {
        self.0.resize(self.0.len().max(at + 1), 0);
        self.0[at] += 1;
    }

    /// The count at an index.
    pub fn get(&self, at: usize) -> u64 {
        self.0.get(at).copied().unwrap_or_default()
    }

    /// The indexes with a count, and their counts.
    pub fn iter(&self) -> impl Iterator<Item = (usize, u64)> {
        self.0.iter().copied().enumerate().filter(|(_, count)| *count > 0)
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.0.resize(self.0.len().max(other.0.len()), 0);
        self.0.iter_mut().zip(other.0).for_each(|(mine, theirs)| *mine += theirs);
    }
}

impl AddAssign for Moment {
    fn add_assign(&mut self, other: Self) {
        self.ok += other.ok;
        self.failed += other.failed;
        self.running_s += other.running_s;
        self.retries += other.retries;
        self.errors += other.errors;
        self.latencies += other.latencies;
    }
}

/// The index at which a latency is counted in [`Moment::latencies`].
pub(crate) fn latency_bin(latency: Duration) -> usize {
    let micros = (latency.as_secs_f64() * 1e6).max(1.0);
    ((micros.log2() * BINS_PER_DOUBLING) as usize).min(MOST_BINS - 1)
}

/// The least latency, in milliseconds, that is counted at an index.
pub(crate) fn latency_from(bin: usize) -> f64 {
    (bin as f64 / BINS_PER_DOUBLING).exp2() / 1e3
}

/// How one row came to its outcome.
#[derive(Debug, Clone)]
pub struct Span {
    /// The row.
    pub row: u64,
    /// When it was read.
    pub from: Duration,
    /// When its outcome was recorded.
    pub to: Duration,
    /// Time spent waiting for its turn: to be started, for a limit, or for a permit.
    pub queued: Duration,
    /// Time of its last attempt.
    pub last: Duration,
    /// Time of all its attempts.
    pub running: Duration,
    /// Time spent waiting to be retried.
    pub backoff: Duration,
    /// Number of attempts.
    pub attempts: u32,
    /// When each attempt before the last began and ended, as far as it is recorded.
    pub earlier: Vec<(Duration, Duration)>,
    /// Class and message of the failure, if it failed.
    pub failure: Option<(Arc<str>, String)>,
}

impl Span {
    /// Whether the times of all its attempts are recorded.
    pub fn is_told(&self) -> bool {
        self.attempts as usize <= self.earlier.len() + 1
    }

    /// Time from reading the row to recording its outcome.
    pub fn took(&self) -> Duration {
        self.to.saturating_sub(self.from)
    }
}

/// The course of a run over all its sessions.
#[derive(Debug, Default)]
pub struct Course {
    /// What happened over time.
    pub moments: Series<Moment>,
    /// The error classes that are counted by name, in order of appearance.
    pub classes: Vec<Arc<str>>,
    /// When each session ended and the next one began.
    pub sessions: Vec<Duration>,
    /// The first failure of each class: class, row, message.
    pub examples: Vec<(Arc<str>, u64, String)>,
    spans: Vec<Span>,
    slowest: BinaryHeap<Reverse<BySlowness>>,
    outcomes: u64,
    /// When the current session began.
    begins: Duration,
    /// When the failed attempts of rows without an outcome began and ended, in the current session.
    earlier: HashMap<u64, Vec<(Duration, Duration)>>,
}

impl Course {
    /// Adds an outcome of the current session.
    pub fn outcome(&mut self, outcome: &Outcome) {
        let timing = &outcome.timing;
        let to = self.begins + timing.recorded;
        let last = to.saturating_sub(timing.latency);
        let moment = self.moments.at(to);
        if outcome.result.is_ok() {
            moment.ok += 1;
        } else {
            moment.failed += 1;
        }
        if outcome.attempts > 0 {
            moment.latencies.add(latency_bin(timing.latency));
            if !outcome.told_before {
                self.call(last, to, outcome.attempts, outcome.failure());
            }
        }
        if let Some(failure) = outcome.failure() {
            self.note_example(outcome.row, failure);
        }
        self.note_span(outcome, to);
    }

    /// Adds a failed attempt, of the current session, that did not decide its row.
    pub fn attempt(&mut self, attempt: &FailedAttempt) {
        let (began, ended) = (self.begins + attempt.began, self.begins + attempt.ended);
        self.call(began, ended, attempt.number, Some(&attempt.failure));
        self.note_example(attempt.row, &attempt.failure);
        let earlier = self.earlier.entry(attempt.row).or_default();
        if earlier.len() < EARLIER {
            earlier.push((began, ended));
        }
    }

    fn call(&mut self, began: Duration, ended: Duration, number: u32, failure: Option<&Failure>) {
        self.moments.spread(began, ended, |moment, seconds| moment.running_s += seconds);
        self.moments.at(began).retries += u64::from(number > 1);
        if let Some(failure) = failure {
            let class = self.class(&failure.class);
            self.moments.at(ended).errors.add(class);
        }
    }

    fn class(&mut self, class: &str) -> usize {
        self.classes.iter().position(|known| &**known == class).unwrap_or_else(|| {
            if self.classes.len() < CLASSES {
                self.classes.push(class.into());
                return self.classes.len() - 1;
            }
            CLASSES
        })
    }

    fn note_example(&mut self, row: u64, failure: &Failure) {
        let class = &failure.class;
        if self.examples.len() < EXAMPLES && self.examples.iter().all(|(known, ..)| known != class) {
            self.examples.push((Arc::clone(class), row, excerpt(&failure.message)));
        }
    }

    fn note_span(&mut self, outcome: &Outcome, to: Duration) {
        let timing = &outcome.timing;
        // A row may have been read before the first call of the session, which is at 0.
        let from = to.saturating_sub(timing.row);
        let earlier = if self.earlier.is_empty() { None } else { self.earlier.remove(&outcome.row) };
        let took = to.saturating_sub(from);
        let is_slow = self.slowest.len() < SLOWEST
            || self.slowest.peek().is_some_and(|Reverse(least)| least.0.took() < took);
        self.outcomes += 1;
        let is_few = self.outcomes <= SPANS as u64;
        if !is_few {
            self.spans = Vec::new();
        }
        if !is_slow && !is_few {
            return;
        }
        let span = Span {
            row: outcome.row,
            from,
            to,
            queued: timing.waited(),
            last: timing.latency,
            running: timing.running,
            backoff: timing.backoff,
            attempts: outcome.attempts,
            earlier: earlier.unwrap_or_default(),
            failure: outcome.failure().map(|it| (Arc::clone(&it.class), excerpt(&it.message))),
        };
        if is_few {
            self.spans.push(span.clone());
        }
        if is_slow {
            self.slowest.push(Reverse(BySlowness(span)));
            if self.slowest.len() > SLOWEST {
                self.slowest.pop();
            }
        }
    }

    /// Ends the current session, which took `wall`.
    pub fn close_session(&mut self, wall: Duration) {
        self.earlier.clear();
        self.begins += wall;
        if !wall.is_zero() && self.sessions.len() < SESSIONS {
            self.sessions.push(self.begins);
        }
    }

    /// Time of all sessions that have ended.
    pub fn length(&self) -> Duration {
        self.begins
    }

    /// Number of outcomes in all sessions.
    pub fn outcomes(&self) -> u64 {
        self.outcomes
    }

    /// All rows, in the order in which they were read. Empty if there were too many rows.
    pub fn spans(&self) -> Vec<&Span> {
        let mut spans: Vec<_> = self.spans.iter().collect();
        spans.sort_by_key(|span| (span.from, span.row));
        spans
    }

    /// The rows that took longest, slowest first.
    pub fn slowest(&self) -> Vec<&Span> {
        let mut slowest: Vec<_> = self.slowest.iter().map(|Reverse(BySlowness(span))| span).collect();
        slowest.sort_by_key(|span| Reverse(span.took()));
        slowest
    }
}

fn excerpt(message: &str) -> String {
    message.chars().take(EXAMPLE).collect()
}

/// Ordered by how long the row took.
#[derive(Debug)]
struct BySlowness(Span);

impl Ord for BySlowness {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.took().cmp(&other.0.took())
    }
}

impl PartialOrd for BySlowness {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for BySlowness {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for BySlowness {}

#[cfg(test)]
mod tests;
