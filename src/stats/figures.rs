//! The figures of a run, counted as its attempts and outcomes come in.
//!
//! A resumed run counts what its journal holds first, then its own: attempts, tokens and times add up over all
//! sessions, while a row counts once, by its latest outcome.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::distribution::{Distribution, Spread, millis};
use super::times::{LimitedTimes, TimeSums};
use crate::error::{Failure, TIMEOUT};
use crate::outcome::{FailedAttempt, Outcome, Timing};
use crate::usage::{ClassCounts, Spent, Usage};

/// Counts of attempts, over all rows and sessions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptCounts {
    /// Calls passed to the bridge.
    pub total: u64,
    /// Attempts after the first one of a row in a session.
    pub retries: u64,
    /// Attempts that timed out.
    pub timeouts: u64,
    /// Attempts that ignored their cancellation and kept running.
    pub abandoned: u64,
    /// Rows answered by their first attempt.
    pub first_try_ok: u64,
    /// Failed attempts by class.
    pub by_error: ClassCounts,
    /// Failed attempts by the HTTP status of the server, as far as it is known.
    #[serde(default)]
    pub by_status: BTreeMap<u16, u64>,
}

/// How many failed attempts are kept one by one.
const FAILURES: usize = 50;

/// The figures of a run.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    ok: u64,
    cut_off: u64,
    spent: Spent,
    first_try_ok: u64,
    failures: Vec<FailedAttempt>,
    times: Timing,
    /// The time of all calls as measured on the thread of the event loop, including calls of rows without an outcome.
    called: Duration,
    latency_ok: Spread,
    latency_failed: Spread,
    row: Spread,
    first_chunk: Spread,
    wall: Duration,
    sessions: u64,
    most_in_flight: u64,
    limited: LimitedTimes,
}

impl Stats {
    /// Counts an outcome and the last attempt of its row. `failed_before` says whether the row failed in an earlier
    /// session.
    pub fn outcome(&mut self, outcome: &Outcome, failed_before: bool) {
        let timing = &outcome.timing;
        match &outcome.result {
            Ok(answer) => {
                self.ok += 1;
                self.first_try_ok += u64::from(outcome.attempts == 1 && !failed_before);
                self.cut_off += u64::from(answer.is_cut_off());
                if let Some(span) = answer.first_chunk {
                    self.first_chunk.record(span);
                }
            }
            Err(_) if self.failures.len() < FAILURES => {
                outcome.failed_attempt().iter().for_each(|attempt| self.keep(attempt));
            }
            Err(_) => {}
        }
        if outcome.attempts > 0 {
            let spread = if outcome.result.is_ok() { &mut self.latency_ok } else { &mut self.latency_failed };
            spread.record(timing.latency);
            if !outcome.told_before {
                let result = outcome.result.as_ref().map(|answer| answer.usage);
                self.count(outcome.attempts, outcome.abandoned, timing.latency, result);
            }
        }
        self.row.record(timing.row);
        self.times.starting += timing.starting;
        self.times.paced += timing.paced;
        self.times.queued += timing.queued;
        self.times.running += timing.running;
        self.times.backoff += timing.backoff;
        self.times.bridge += timing.bridge;
        self.times.recording += timing.recording;
    }

    /// Counts a failed attempt that did not decide its row.
    pub fn attempt(&mut self, attempt: &FailedAttempt) {
        let took = attempt.ended.saturating_sub(attempt.began);
        self.count(attempt.number, attempt.abandoned, took, Err(&attempt.failure));
        if self.failures.len() < FAILURES {
            self.keep(attempt);
        }
    }

    /// Keeps an attempt, with its times counted from the start of the run, without the time between sessions.
    fn keep(&mut self, attempt: &FailedAttempt) {
        let [began, ended] = [attempt.began, attempt.ended].map(|time| self.wall + time);
        self.failures.push(FailedAttempt { began, ended, failure: attempt.failure.brief(), ..*attempt });
    }

    /// Counts an attempt. `result` is the failure, or what the answer used, if it is known.
    fn count(
        &mut self,
        number: u32,
        abandoned: bool,
        took: Duration,
        result: Result<Option<Usage>, &Failure>,
    ) {
        let spent = &mut self.spent;
        spent.attempts += 1;
        spent.retries += u64::from(number > 1);
        spent.abandoned += u64::from(abandoned);
        let (usage, untold) = match result {
            Ok(usage) => (usage, usage.is_none()),
            Err(failure) => {
                spent.timeouts += u64::from(*failure.class == *TIMEOUT);
                spent.by_error.add(&failure.class);
                if let Some(status) = failure.status {
                    *spent.by_status.entry(status).or_default() += 1;
                }
                (failure.usage, failure.is_untold())
            }
        };
        spent.usage += usage.unwrap_or_default();
        spent.untold += u64::from(untold);
        self.called += took;
    }

    /// Adds the wall time of a session, from its first call to its last recorded outcome or failed attempt, and the
    /// greatest number of calls in flight. Must be called once for each session whose outcomes are counted; otherwise
    /// the rates are too high.
    pub fn add_session(&mut self, wall: Duration, most_in_flight: u64) {
        self.wall += wall;
        self.sessions += u64::from(!wall.is_zero());
        self.most_in_flight = self.most_in_flight.max(most_in_flight);
    }

    /// Adds calls that were in flight when a session died. They may have been billed.
    pub fn add_lost(&mut self, calls: u64) {
        self.spent.lost += calls;
    }

    /// Adds what was spent on rows that have been removed from the input. They are not counted as rows.
    pub fn add_spent(&mut self, spent: &Spent) {
        self.spent += spent;
    }

    /// Adds for how long a session was limited.
    pub fn add_limited(&mut self, limited: LimitedTimes) {
        self.limited += limited;
    }

    /// For how long the run was limited, and by what.
    pub fn limited(&self) -> LimitedTimes {
        self.limited
    }

    /// Answers that were cut off at the token limit of the model.
    pub fn cut_off(&self) -> u64 {
        self.cut_off
    }

    /// Rows answered.
    pub fn ok(&self) -> u64 {
        self.ok
    }

    /// What all attempts used.
    pub fn spent(&self) -> &Spent {
        &self.spent
    }

    /// The first failed attempts, with their times counted from the start of the run.
    pub fn failures(&self) -> &[FailedAttempt] {
        &self.failures
    }

    /// Counts of attempts, for the report.
    pub fn attempts(&self) -> AttemptCounts {
        let Spent { attempts: total, retries, timeouts, abandoned, by_error, by_status, .. } =
            self.spent.clone();
        AttemptCounts {
            total,
            retries,
            timeouts,
            abandoned,
            first_try_ok: self.first_try_ok,
            by_error,
            by_status,
        }
    }

    /// What the time of the rows was spent on.
    pub fn times(&self) -> TimeSums {
        TimeSums {
            starting: millis(self.times.starting),
            paced: millis(self.times.paced),
            queued: millis(self.times.queued),
            running: millis(self.times.running),
            backoff: millis(self.times.backoff),
            bridge: millis(self.times.bridge),
            recording: millis(self.times.recording),
        }
    }

    /// Latency of the attempts that were answered, as measured on the thread of the event loop.
    pub fn latency_ok(&self) -> Distribution {
        self.latency_ok.distribution()
    }

    /// Latency of the last attempts of failed rows, likewise. Rows that were never called have none.
    pub fn latency_failed(&self) -> Distribution {
        self.latency_failed.distribution()
    }

    /// Time from reading a row to recording its outcome.
    pub fn row(&self) -> Distribution {
        self.row.distribution()
    }

    /// Time from the start of a call to its first chunk.
    pub fn first_chunk(&self) -> Distribution {
        self.first_chunk.distribution()
    }

    /// Wall time of all sessions together.
    pub fn wall(&self) -> Duration {
        self.wall
    }

    /// Sessions with at least one recorded outcome or failed attempt.
    pub fn sessions(&self) -> u64 {
        self.sessions
    }

    /// The latencies of answered attempts, ascending, and how often each occurred. They are exact to a microsecond or a
    /// thousandth, whichever is more.
    pub fn latencies_ok(&self) -> Vec<(Duration, u64)> {
        self.latency_ok.counts()
    }

    /// As [`Self::latencies_ok`], for the last attempts of failed rows.
    pub fn latencies_failed(&self) -> Vec<(Duration, u64)> {
        self.latency_failed.counts()
    }

    /// Rows answered per second of wall time. Failed rows do not count.
    pub fn rows_per_s(&self) -> f64 {
        self.per_wall_second(self.ok as f64)
    }

    /// The mean number of calls in flight: the time of all calls, divided by the wall time. The time that a call waits
    /// for the event loop does not count.
    pub fn mean_in_flight(&self) -> f64 {
        self.per_wall_second(self.called.as_secs_f64())
    }

    /// The greatest number of calls in flight, as far as it is known. A session that was killed did not record it, but
    /// it cannot be less than the mean.
    pub fn most_in_flight(&self) -> u64 {
        self.most_in_flight.max(self.mean_in_flight().ceil() as u64)
    }

    fn per_wall_second(&self, amount: f64) -> f64 {
        if self.wall.is_zero() { 0.0 } else { amount / self.wall.as_secs_f64() }
    }
}

#[cfg(test)]
mod tests;
