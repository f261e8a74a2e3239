//! The figures of a run, counted as its attempts and outcomes come in.
//!
//! A resumed run counts what its journal holds first, then its own: attempts, tokens and times add up over all sessions,
//! while a row counts once, by its latest outcome.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::distribution::{Distribution, Spread, millis};
use super::times::{LimitedTimes, TimeSums};
use crate::error::{Failure, TIMEOUT};
use crate::outcome::{FailedAttempt, Outcome, Timing};
use crate::usage::{ClassCounts, Spent, Usage};

/// Counts of attempts over all rows and sessions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptCounts {
    /// Calls handed to the bridge.
    pub total: u64,
    /// Those after the first of a row in its session.
    pub retries: u64,
    /// Those that took longer than they were allowed.
    pub timeouts: u64,
    /// Those that ignored cancellation and kept running.
    pub abandoned: u64,
    /// Rows that the very first attempt answered.
    pub first_try_ok: u64,
    /// Failed attempts by class.
    pub by_error: ClassCounts,
    /// Failed attempts by the HTTP status that the server answered with, as far as it is told.
    #[serde(default)]
    pub by_status: BTreeMap<u16, u64>,
}

/// So many failed attempts are kept one by one.
const FAILURES: usize = 50;

/// The figures of a run, kept as it goes.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    ok: u64,
    cut_off: u64,
    failed: ClassCounts,
    spent: Spent,
    first_try_ok: u64,
    failures: Vec<FailedAttempt>,
    times: Timing,
    /// How long calls took as seen on the event loop's thread, those of rows without an outcome too.
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
    /// Counts one recorded outcome, and its row's last attempt; `superseded` is the class of the row's failure in an
    /// earlier session, already counted, whose place it takes.
    pub fn outcome(&mut self, outcome: &Outcome, superseded: Option<&str>) {
        let timing = &outcome.timing;
        if let Some(class) = superseded {
            self.failed.remove(class);
        }
        match &outcome.result {
            Ok(answer) => {
                self.ok += 1;
                self.first_try_ok += u64::from(outcome.attempts == 1 && superseded.is_none());
                self.cut_off += u64::from(answer.is_cut_off());
                if let Some(span) = answer.first_chunk {
                    self.first_chunk.record(span);
                }
            }
            Err(failure) => {
                self.failed.add(&failure.class);
                if self.failures.len() < FAILURES {
                    outcome.failed_attempt().iter().for_each(|attempt| self.keep(attempt));
                }
            }
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

    /// Counts one failed attempt of a row that had no outcome.
    pub fn attempt(&mut self, attempt: &FailedAttempt) {
        let took = attempt.ended.saturating_sub(attempt.began);
        self.count(attempt.number, attempt.abandoned, took, Err(&attempt.failure));
        if self.failures.len() < FAILURES {
            self.keep(attempt);
        }
    }

    /// Keeps an attempt, on the run's time: the sessions follow each other without the time between them.
    fn keep(&mut self, attempt: &FailedAttempt) {
        let [began, ended] = [attempt.began, attempt.ended].map(|time| self.wall + time);
        self.failures.push(FailedAttempt { began, ended, failure: attempt.failure.brief(), ..*attempt });
    }

    /// Counts one attempt, which failed or was answered with what it used.
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

    /// Adds a session's wall time (first call handed over to the last outcome, or failed attempt, recorded) and its
    /// greatest number of calls in flight. Each session whose outcomes are counted needs this once, or the rates come
    /// out too high.
    pub fn add_session(&mut self, wall: Duration, most_in_flight: u64) {
        self.wall += wall;
        self.sessions += u64::from(!wall.is_zero());
        self.most_in_flight = self.most_in_flight.max(most_in_flight);
    }

    /// Adds calls that were under way when a session died, and may be billed: what became of them nobody knows.
    pub fn add_lost(&mut self, calls: u64) {
        self.spent.lost += calls;
    }

    /// Counts what was spent on rows that are gone. None of them is a row of this run.
    pub fn add_spent(&mut self, spent: &Spent) {
        self.spent += spent;
    }

    /// Adds the time for which a session was limited.
    pub fn add_limited(&mut self, limited: LimitedTimes) {
        self.limited += limited;
    }

    /// For how long the run was limited, and by what.
    pub fn limited(&self) -> LimitedTimes {
        self.limited
    }

    /// Answers cut off at the model's token limit.
    pub fn cut_off(&self) -> u64 {
        self.cut_off
    }

    /// Rows answered.
    pub fn ok(&self) -> u64 {
        self.ok
    }

    /// Rows whose latest outcome is a failure, by class.
    pub fn failed(&self) -> &ClassCounts {
        &self.failed
    }

    /// What all attempts came to.
    pub fn spent(&self) -> &Spent {
        &self.spent
    }

    /// The first failed attempts, on the run's time.
    pub fn failures(&self) -> &[FailedAttempt] {
        &self.failures
    }

    /// Counts of attempts, as the report has them.
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

    /// Where the rows' time went.
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

    /// Last attempts that gave an answer, as seen on the event loop's thread.
    pub fn latency_ok(&self) -> Distribution {
        self.latency_ok.distribution()
    }

    /// Last attempts that failed, as seen on the event loop's thread; rows never called have none.
    pub fn latency_failed(&self) -> Distribution {
        self.latency_failed.distribution()
    }

    /// From a row's being read to its outcome's being recorded.
    pub fn row(&self) -> Distribution {
        self.row.distribution()
    }

    /// From a call's start to its first chunk.
    pub fn first_chunk(&self) -> Distribution {
        self.first_chunk.distribution()
    }

    /// The wall time of all sessions.
    pub fn wall(&self) -> Duration {
        self.wall
    }

    /// Sessions that recorded an outcome, or a failed attempt, of a call.
    pub fn sessions(&self) -> u64 {
        self.sessions
    }

    /// Each latency of an answer, to the microsecond or a thousandth, and how often it occurred; ascending.
    pub fn latencies_ok(&self) -> Vec<(Duration, u64)> {
        self.latency_ok.counts()
    }

    /// As [`Self::latencies_ok`], of failures.
    pub fn latencies_failed(&self) -> Vec<(Duration, u64)> {
        self.latency_failed.counts()
    }

    /// Rows answered in a second of wall time; failed ones are no output.
    pub fn rows_per_s(&self) -> f64 {
        self.per_wall_second(self.ok as f64)
    }

    /// The mean number of calls running: the predictor's own time, summed, over the wall time. Calls that wait for the
    /// event loop to come to them are not running.
    pub fn mean_in_flight(&self) -> f64 {
        self.per_wall_second(self.called.as_secs_f64())
    }

    /// The greatest number of calls in flight that is known of: a session that was killed left none, but there were
    /// at least as many as in the mean.
    pub fn most_in_flight(&self) -> u64 {
        self.most_in_flight.max(self.mean_in_flight().ceil() as u64)
    }

    fn per_wall_second(&self, amount: f64) -> f64 {
        if self.wall.is_zero() { 0.0 } else { amount / self.wall.as_secs_f64() }
    }
}

#[cfg(test)]
mod tests;
