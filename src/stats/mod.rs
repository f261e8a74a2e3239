//! Folds outcomes into the figures of a report, in memory that does not grow with the rows. Not their presentation.
//!
//! A resumed run feeds the outcomes its journal holds, then its own: attempts, tokens and times add up over all
//! sessions, while a row counts once, by its latest outcome (see [`OutcomeView::supersedes`]).

mod classes;
mod course;
mod distribution;
mod fold;
mod outcome;
mod rate;
mod series;
mod speedup;
mod times;
mod tried;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::classes::ClassCounts;
pub use self::course::{Course, FailedCall, Moment, Span, latency_bin, latency_from};
pub use self::distribution::Distribution;
use self::distribution::{Spread, millis};
pub use self::fold::Fold;
pub use self::outcome::OutcomeView;
pub use self::rate::RowRate;
pub use self::series::Series;
pub use self::speedup::{Speedup, mean, stddev};
pub use self::times::{LimitedTimes, TimeSums};
pub use self::tried::{AttemptView, Tried};
use crate::call::may_be_billed;
use crate::journal::Gone;
use crate::policy::budget::Used;
use crate::row::{Timing, Usage};

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

impl AttemptCounts {
    fn answered_with(&mut self, status: Option<u16>) {
        if let Some(status) = status {
            *self.by_status.entry(status).or_default() += 1;
        }
    }

    fn failed(&mut self, class: &str) {
        self.timeouts += u64::from(class == "timeout");
        self.by_error.add(class);
    }
}

/// The figures of a run, kept as it goes.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    ok: u64,
    cut_off: u64,
    failed: ClassCounts,
    attempts: AttemptCounts,
    usage: Usage,
    untold: u64,
    lost: u64,
    times: Timing,
    /// How long calls ran, those of rows without an outcome too.
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
    /// Counts one recorded outcome.
    pub fn record(&mut self, outcome: &OutcomeView<'_>) {
        if let Some(class) = &outcome.supersedes {
            self.failed.remove(class);
        }
        match &outcome.failure {
            None => self.ok += 1,
            Some(class) => self.failed.add(class),
        }
        self.cut_off += u64::from(outcome.cut_off);
        if outcome.attempts > 0 {
            self.record_attempts(outcome);
        }
        self.row.record(outcome.timing.row);
        self.times.starting += outcome.timing.starting;
        self.times.paced += outcome.timing.paced;
        self.times.queued += outcome.timing.queued;
        self.times.running += outcome.timing.running;
        let told = outcome.tried.as_ref().map_or(Duration::ZERO, |tried| tried.running);
        self.called += outcome.timing.running.saturating_sub(told);
        self.times.backoff += outcome.timing.backoff;
        self.times.bridge += outcome.timing.bridge;
        self.times.recording += outcome.timing.recording;
        if let Some(usage) = outcome.usage_left() {
            self.usage += usage;
        }
        if let Some(span) = outcome.first_chunk {
            self.first_chunk.record(span);
        }
    }

    fn record_attempts(&mut self, outcome: &OutcomeView<'_>) {
        let first_try = outcome.attempts == 1 && outcome.supersedes.is_none();
        let tried = outcome.tried.as_deref();
        let (retries, abandoned) = tried.map_or((0, 0), |it| (it.retries, it.abandoned));
        let counts = &mut self.attempts;
        counts.total += u64::from(outcome.attempts.saturating_sub(outcome.counted()));
        counts.retries += u64::from((outcome.attempts - 1).saturating_sub(retries));
        counts.abandoned += u64::from(outcome.abandoned.saturating_sub(abandoned));
        // Of earlier attempts it is known only where they were counted when they failed.
        counts.answered_with(outcome.status.filter(|_| outcome.attempts > outcome.counted()));
        counts.first_try_ok += u64::from(first_try && outcome.failure.is_none());
        for class in outcome.errors.iter().skip(outcome.counted() as usize) {
            counts.failed(class);
            self.untold += u64::from(may_be_billed(class));
        }
        self.untold += u64::from(outcome.unanswered.saturating_sub(tried.map_or(0, |it| it.unanswered)));
        // An answer tells what it used, or none of its row's attempts does.
        self.untold += u64::from(outcome.failure.is_none() && outcome.usage.is_none());
        let spread = if outcome.failure.is_none() { &mut self.latency_ok } else { &mut self.latency_failed };
        spread.record(outcome.timing.latency);
    }

    /// Adds a session's wall time (first call handed over to the last outcome, or failed attempt, recorded) and its
    /// greatest number of calls in flight. Each session whose outcomes are counted needs this once, or the rates come
    /// out too high.
    pub fn add_session(&mut self, wall: Duration, most_in_flight: u64) {
        self.wall += wall;
        self.sessions += u64::from(!wall.is_zero());
        self.most_in_flight = self.most_in_flight.max(most_in_flight);
    }

    /// Counts one failed attempt whose row has no outcome: that will not count it again (see [`OutcomeView::tried`]).
    pub fn record_attempt(&mut self, attempt: &AttemptView<'_>) {
        self.attempts.total += 1;
        self.called += attempt.to.saturating_sub(attempt.from);
        self.attempts.retries += u64::from(attempt.number > 1);
        self.attempts.abandoned += u64::from(attempt.abandoned);
        self.attempts.failed(attempt.class);
        self.attempts.answered_with(attempt.status);
        self.usage += attempt.usage.unwrap_or_default();
        self.untold += u64::from(attempt.is_untold());
    }

    /// Adds calls that were under way when a session died, and may be billed: what became of them nobody knows.
    pub fn add_lost(&mut self, calls: u64) {
        self.lost += calls;
    }

    /// What was used beyond what `kept` counts of the same sessions; none if nothing was.
    pub fn beyond(&self, kept: &Self) -> Option<Gone> {
        let [all, left] = [self, kept].map(Self::attempts);
        let gone = Gone {
            attempts: all.total.saturating_sub(left.total),
            retries: all.retries.saturating_sub(left.retries),
            timeouts: all.timeouts.saturating_sub(left.timeouts),
            abandoned: all.abandoned.saturating_sub(left.abandoned),
            by_error: all.by_error.beyond(&left.by_error),
            usage: self.usage - kept.usage,
            untold: self.untold.saturating_sub(kept.untold),
            lost: self.lost.saturating_sub(kept.lost),
        };
        (gone.attempts + gone.lost > 0).then_some(gone)
    }

    /// Counts what was used for rows that are gone. None of them is a row of this run.
    pub fn add_gone(&mut self, gone: &Gone) {
        let counts = &mut self.attempts;
        counts.total += gone.attempts;
        counts.retries += gone.retries;
        counts.timeouts += gone.timeouts;
        counts.abandoned += gone.abandoned;
        for (class, count) in &gone.by_error {
            counts.by_error.add_many(class, *count);
        }
        self.usage += gone.usage;
        self.untold += gone.untold;
        self.lost += gone.lost;
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

    /// Counts of attempts.
    pub fn attempts(&self) -> &AttemptCounts {
        &self.attempts
    }

    /// Tokens and cost of all attempts; the cost is the sum of what is known.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// What all calls have used, as far as they told, and how many did not.
    pub fn used(&self) -> Used {
        let (attempts, untold) = (self.attempts.total + self.lost, self.untold + self.lost);
        Used { usage: self.usage, attempts, untold }
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
mod tests {
    use super::*;
    use crate::call::CallError;
    use crate::row::{Answer, Outcome, RowHash};

    fn ok(attempts: u32) -> OutcomeView<'static> {
        let latency = Duration::from_millis(100);
        let timing = Timing { running: latency, latency, row: latency, ..Timing::default() };
        OutcomeView { attempts, timing, ..OutcomeView::default() }
    }

    fn failed(class: &str) -> OutcomeView<'static> {
        OutcomeView { failure: Some(class.into()), ..ok(1) }
    }

    #[test]
    fn a_live_outcome_is_counted_whole() {
        let second = Duration::from_secs(1);
        let answer =
            Answer { fields: Vec::new(), usage: None, first_chunk: Some(second / 10), finish_reason: None };
        let outcome = Outcome {
            row: 7,
            hash: RowHash(7),
            result: Ok(answer),
            attempts: 3,
            errors: vec!["timeout".into(), "RateLimitError".into()],
            abandoned: 1,
            unanswered: 0,
            usage: Some(Usage { input: 10, output: 5, calls: 3, cost_usd: Some(0.25) }),
            timing: Timing {
                starting: second / 4,
                paced: second / 5,
                queued: second,
                running: 2 * second,
                backoff: 3 * second,
                bridge: 4 * second,
                latency: second / 2,
                recording: second / 2,
                row: 10 * second,
                recorded: 4 * second,
                ..Timing::default()
            },
        };
        let mut stats = Stats::default();
        stats.record(&OutcomeView::from(&outcome));
        stats.add_session(4 * second, 2);

        let counts = stats.attempts();
        assert_eq!((counts.total, counts.retries, counts.timeouts), (3, 2, 1));
        assert_eq!((counts.abandoned, counts.first_try_ok, counts.by_error.total()), (1, 0, 2));
        assert_eq!(stats.usage(), outcome.usage.unwrap());
        assert_eq!(
            stats.times(),
            TimeSums {
                starting: 250.0,
                paced: 200.0,
                queued: 1_000.0,
                running: 2_000.0,
                backoff: 3_000.0,
                bridge: 4_000.0,
                recording: 500.0
            }
        );
        assert_eq!((stats.latency_ok().max, stats.latency_failed().count), (Some(500.0), 0));
        assert_eq!((stats.first_chunk().max, stats.row().max), (Some(100.0), Some(10_000.0)));
        assert_eq!((stats.mean_in_flight(), stats.most_in_flight(), stats.rows_per_s()), (0.5, 2, 0.25));
    }

    #[test]
    fn a_row_never_called_fails_without_attempt_or_latency() {
        let outcome = Outcome {
            row: 0,
            hash: RowHash(0),
            result: Err(CallError::Input("the question is blank".into())),
            attempts: 0,
            errors: vec!["input".into()],
            abandoned: 0,
            unanswered: 0,
            usage: None,
            timing: Timing::default(),
        };
        let mut stats = Stats::default();
        stats.record(&OutcomeView::from(&outcome));
        assert_eq!((stats.failed().get("input"), stats.failed().total()), (1, 1));
        assert_eq!((stats.attempts(), stats.latency_failed().count), (&AttemptCounts::default(), 0));
    }

    #[test]
    fn a_resumed_row_counts_once_while_its_attempts_add_up() {
        let mut stats = Stats::default();
        stats.record(&ok(1));
        stats.record(&failed("timeout"));
        stats.record(&failed("output"));
        stats.record(&OutcomeView { supersedes: Some("timeout".into()), ..ok(1) });
        stats.record(&OutcomeView { supersedes: Some("output".into()), ..failed("timeout") });
        assert_eq!((stats.ok(), stats.failed().most_frequent_first()), (2, vec![("timeout", 1)]));
        assert_eq!(
            (stats.attempts().total, stats.attempts().retries, stats.attempts().first_try_ok),
            (5, 0, 1)
        );
        assert_eq!((stats.latency_ok().count, stats.latency_failed().count), (2, 3));
    }

    #[test]
    fn sessions_add_up_in_wall_time_and_keep_the_greatest_concurrency() {
        let mut stats = Stats::default();
        (0..40).for_each(|_| stats.record(&ok(1)));
        stats.add_session(Duration::from_secs(1), 8);
        stats.add_session(Duration::from_secs(3), 4);
        assert_eq!((stats.wall(), stats.most_in_flight()), (Duration::from_secs(4), 8));
        assert!((stats.rows_per_s() - 10.0).abs() < 1e-9 && (stats.mean_in_flight() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_run_of_no_length_has_no_rate() {
        let mut stats = Stats::default();
        stats.record(&ok(1));
        assert_eq!((stats.rows_per_s(), stats.mean_in_flight()), (0.0, 0.0));
    }
}
