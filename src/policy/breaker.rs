//! When an outage is assumed, and how it is probed. Not which errors count: those of a server that is not there.
//!
//! A retry budget as in tower's `TpsBudget` and the AWS SDKs' retry mode `standard`: a failure takes a token, an answer
//! gives a quarter back, so up to one failure in five passes. When the budget is dry the breaker opens: nothing is
//! called but one probe at a time, at growing intervals, until one is answered.

use std::time::Duration;

/// What an answer gives back.
const REFUND: f64 = 0.25;
/// The least budget, so that a handful of failures is none (one at a time it is less: there are two rows in hand, and
/// neither may use up its retries before it is dry).
const LEAST_BUDGET: f64 = 4.0;
/// The first probe comes so long after the breaker has opened; intervals double.
const FIRST_PROBE: Duration = Duration::from_millis(500);
/// The longest interval between probes, so that the end of an outage is seen soon.
const LONGEST_INTERVAL: Duration = Duration::from_secs(4);
/// Without any answer since the start the server counts as unreachable after so many probes (some 12 s).
const PROBES_BEFORE_ANY_ANSWER: u32 = 5;

/// The budget, and the breaker that opens when it is dry. Times are told, from any one origin.
#[derive(Debug)]
pub struct Breaker {
    budget: f64,
    tokens: f64,
    /// The row that failed last: one that fails again and again says nothing of the others.
    last_row: Option<u64>,
    open: Option<Open>,
    answered: bool,
}

#[derive(Debug)]
struct Open {
    since: Duration,
    interval: Duration,
    probes: u32,
}

impl Breaker {
    /// A closed one for so many calls in flight.
    pub fn new(concurrency: usize) -> Self {
        let calls = concurrency as f64;
        let budget = (calls / 2.0).max(LEAST_BUDGET.min(2.0 * calls));
        Self { budget, tokens: budget, last_row: None, open: None, answered: false }
    }

    /// Whether an outage is assumed.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Whether the server has never answered and was probed often enough.
    pub fn is_hopeless(&self) -> bool {
        !self.answered && self.open.as_ref().is_some_and(|open| open.probes >= PROBES_BEFORE_ANY_ANSWER)
    }

    /// Whether an answer need not be told.
    pub fn is_full(&self) -> bool {
        self.answered && self.open.is_none() && self.tokens >= self.budget
    }

    /// A row's call begun then found no server. Returns when the next probe may be made, where that changes.
    pub fn failed(&mut self, now: Duration, begun: Duration, row: u64) -> Option<Duration> {
        if let Some(open) = &mut self.open {
            if begun <= open.since {
                return None; // In flight when it opened.
            }
            open.probes += 1;
            open.interval = (open.interval * 2).min(LONGEST_INTERVAL);
            return Some(now + open.interval);
        }
        if self.last_row.replace(row) == Some(row) {
            return None;
        }
        self.tokens -= 1.0;
        if self.tokens >= 0.0 {
            return None;
        }
        self.open = Some(Open { since: now, interval: FIRST_PROBE, probes: 0 });
        Some(now + FIRST_PROBE)
    }

    /// A call begun then came to an end that a server made. Returns whether that closes the breaker.
    pub fn answered(&mut self, begun: Duration) -> bool {
        match &self.open {
            Some(open) if begun <= open.since => false,
            Some(_) => {
                self.answered = true;
                (self.open, self.tokens, self.last_row) = (None, self.budget, None);
                true
            }
            None => {
                self.answered = true;
                self.tokens = (self.tokens + REFUND).min(self.budget);
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn opened(concurrency: usize) -> Breaker {
        let mut breaker = Breaker::new(concurrency);
        let row = (0..1_000).find(|row| breaker.failed(SECOND, Duration::ZERO, *row).is_some());
        assert_eq!(row, Some((concurrency as u64 / 2).max(2)));
        breaker
    }

    #[test]
    fn it_opens_when_as_many_rows_fail_as_half_the_slots_and_closes_at_the_first_answer() {
        let mut breaker = opened(64);
        assert_eq!(breaker.failed(SECOND, SECOND, 7), None, "a call in flight is no probe");
        assert!(!breaker.answered(SECOND), "nor is a late answer");
        assert!(breaker.is_open());
        assert!(breaker.answered(2 * SECOND));
        assert!(!breaker.is_open() && breaker.is_full());
    }

    #[test]
    fn probes_come_at_growing_intervals_of_four_seconds_at_most() {
        let mut breaker = opened(1);
        let mut now = 2 * SECOND;
        let mut intervals = Vec::new();
        for _ in 0..5 {
            let next = breaker.failed(now, now, 0).unwrap();
            intervals.push(next.saturating_sub(now).as_secs());
            now = next;
        }
        assert_eq!(intervals, [1, 2, 4, 4, 4]);
        assert!(breaker.is_hopeless());
    }

    #[test]
    fn once_there_was_an_answer_no_outage_is_hopeless() {
        let mut breaker = Breaker::new(1);
        breaker.answered(Duration::ZERO);
        (0..100).for_each(|second| {
            breaker.failed(second * SECOND, second * SECOND, u64::from(second));
        });
        assert!(breaker.is_open() && !breaker.is_hopeless());
    }

    #[test]
    fn one_broken_row_or_a_few_failures_among_answers_do_not_open_it() {
        let mut breaker = Breaker::new(1);
        assert!((0..1_000).all(|_| breaker.failed(SECOND, SECOND, 7).is_none()));
        let mut breaker = Breaker::new(16);
        let mut rng = fastrand::Rng::with_seed(1);
        for row in 0..100_000 {
            if rng.f64() < 0.1 {
                assert_eq!(breaker.failed(SECOND, SECOND, row), None);
            } else {
                breaker.answered(SECOND);
            }
        }
    }
}
