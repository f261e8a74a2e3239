//! A circuit breaker: decides when to assume an outage, when to probe the server, and when to give it up.
//!
//! It is fed with the errors of a server that cannot be reached, and with the timeouts of rows that no later call has
//! overtaken; a row that later calls have overtaken is slow by itself.
//!
//! - **Opening.** Failures draw on a budget of tokens, as in tower's `TpsBudget` and in the `standard` retry mode of
//!   the AWS SDKs. A failure takes one token and an answer returns a quarter, so that up to one failure in five is
//!   tolerated. The answer to a row that had failed returns a whole token, since all that the row needed was a retry.
//!   When the budget is used up, the breaker opens.
//! - **Open.** Only one call at a time is made, as a probe, at growing intervals. Any answer closes the breaker, even
//!   the answer to a call that began earlier.
//! - **Timeouts** open the breaker only if as many rows time out with no answer at all in between, because a slow
//!   server is not an absent one. They do so only while there are rows that have never been called: without such rows,
//!   a server that hangs cannot be told from rows that are slow.

use std::collections::HashSet;
use std::time::Duration;

/// What an answer returns to the budget.
const REFUND: f64 = 0.25;
/// The least budget, so that a handful of failures does not open the breaker. It is less with one call at a time: then
/// two rows are in flight, and the budget must be used up before the retries of either are.
const LEAST_BUDGET: f64 = 4.0;
/// How long after the breaker has opened the first probe is made. The interval doubles with each probe.
const FIRST_PROBE: Duration = Duration::from_millis(500);
/// The longest interval between probes, so that the end of an outage is noticed soon.
const LONGEST_INTERVAL: Duration = Duration::from_secs(4);
/// A server that has never answered is given up when probes have failed for this long,
const NEVER_THERE: Duration = Duration::from_millis(11_500);
/// at least this many of them and, if they timed out, with this many rows: the first few may just be slow.
const FEWEST_PROBES: u32 = 2;
const FEWEST_SILENT: usize = 10;
/// The most rows wanted for probes beyond those in flight.
const MOST_FRESH: usize = 100;
/// A server that has answered before is given up when every probe has timed out for this long. Then the rows are more
/// likely too slow than the server gone.
const LONGEST_SILENCE: Duration = Duration::from_secs(3_600);

/// The budget and the breaker. Times are durations since any one origin.
#[derive(Debug)]
pub(crate) struct Breaker {
    budget: f64,
    tokens: f64,
    /// The row that failed last. Its failures count once, since a row that fails again and again says nothing of
    /// others.
    last_row: Option<u64>,
    /// The rows that have timed out since the last answer.
    silent: HashSet<u64>,
    open: Option<Open>,
    answered: bool,
    /// Whether every row has been called.
    all_asked: bool,
}

#[derive(Debug)]
struct Open {
    since: Duration,
    interval: Duration,
    probes: u32,
    /// When the last probe failed.
    last_probe: Duration,
    /// Since when all probes have timed out.
    silent_since: Duration,
    /// Whether the last call timed out.
    hangs: bool,
}

/// Why the server is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hopeless {
    /// For how long every call has timed out; `None` if the server has never answered.
    pub silent_for: Option<Duration>,
    /// Whether the last call timed out.
    pub hangs: bool,
}

impl Breaker {
    /// A closed breaker for a run with at most `concurrency` calls in flight.
    pub(crate) fn new(concurrency: usize) -> Self {
        let calls = concurrency as f64;
        let budget = (calls / 2.0).max(LEAST_BUDGET.min(2.0 * calls));
        let (last_row, silent, open, answered, all_asked) = Default::default();
        Self { budget, tokens: budget, last_row, silent, open, answered, all_asked }
    }

    /// Whether an outage is assumed.
    pub(crate) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Why the server is to be given up, once it has been probed for long enough.
    pub(crate) fn hopeless(&self) -> Option<Hopeless> {
        let open = self.open.as_ref().filter(|open| open.probes >= FEWEST_PROBES)?;
        let silence = open.last_probe.saturating_sub(open.silent_since);
        let silent_for = self.answered.then_some(silence);
        let never_there = !self.answered
            && open.last_probe.saturating_sub(open.since) >= NEVER_THERE
            && (!open.hangs || self.silent.len() >= FEWEST_SILENT);
        (never_there || open.hangs && silence >= LONGEST_SILENCE)
            .then_some(Hopeless { silent_for, hangs: open.hangs })
    }

    /// How many rows are wanted beyond those in flight, because rows that were never called show whether the server or
    /// the rows are at fault. Without them, a run with one call at a time would call the same two slow rows for ever.
    pub(crate) fn wants_fresh(&self) -> usize {
        self.silent.len() + self.open.as_ref().map_or(0, |open| open.probes as usize).min(MOST_FRESH)
    }

    /// Notes that every row has been called, so that from now on timeouts are put down to the rows. Returns whether
    /// that closes the breaker.
    pub(crate) fn all_asked(&mut self) -> bool {
        self.all_asked = true;
        self.silent.clear();
        self.open.take_if(|open| open.hangs).is_some()
    }

    /// Whether the next answer would change nothing, so that it need not be reported.
    pub(crate) fn is_full(&self) -> bool {
        self.answered && self.open.is_none() && self.tokens >= self.budget && self.silent.is_empty()
    }

    /// Notes that a call could not reach the server. `begun` is when the call began. Returns the time of the next probe
    /// if it changes.
    pub(crate) fn failed(&mut self, now: Duration, begun: Duration, row: u64) -> Option<Duration> {
        if let Some(open) = &mut self.open {
            return open.probe_failed(now, begun, false);
        }
        if self.last_row.replace(row) == Some(row) {
            return None;
        }
        self.tokens -= 1.0;
        if self.tokens >= 0.0 {
            return None;
        }
        Some(self.open(now, false))
    }

    /// Notes that a call timed out. `begun` is when the call began. Returns the time of the next probe if it changes.
    pub(crate) fn timed_out(&mut self, now: Duration, begun: Duration, row: u64) -> Option<Duration> {
        let hangs = !self.all_asked;
        if hangs {
            self.silent.insert(row);
        }
        match &mut self.open {
            Some(open) => open.probe_failed(now, begun, hangs),
            None => (self.silent.len() as f64 > self.budget).then(|| self.open(now, true)),
        }
    }

    fn open(&mut self, now: Duration, hangs: bool) -> Duration {
        let interval = FIRST_PROBE;
        self.open = Some(Open { since: now, interval, probes: 0, last_probe: now, silent_since: now, hangs });
        now + interval
    }

    /// Notes that the server answered a call, with an error or not. `begun` is when the call began, `again` says that
    /// the row's previous attempt failed. Returns whether that closes the breaker.
    pub(crate) fn answered(&mut self, begun: Duration, again: bool) -> bool {
        self.answered = true;
        self.silent.clear();
        let Some(open) = self.open.take() else {
            let refund = if again { 1.0 } else { REFUND };
            self.tokens = (self.tokens + refund).min(self.budget);
            return false;
        };
        // A call that was in flight when the breaker opened shows only that there was a server then, so the next
        // failure is to open it again.
        self.tokens = if begun <= open.since { 0.0 } else { self.budget };
        self.last_row = None;
        true
    }
}

impl Open {
    fn probe_failed(&mut self, now: Duration, begun: Duration, hangs: bool) -> Option<Duration> {
        if begun <= self.since {
            return None; // It was in flight when the breaker opened, and is no probe.
        }
        self.probes += 1;
        (self.last_probe, self.hangs) = (now, hangs);
        if !hangs {
            self.silent_since = now;
        }
        self.interval = (self.interval * 2).min(LONGEST_INTERVAL);
        Some(now + self.interval)
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
        assert!(
            breaker.answered(SECOND, false) && !breaker.is_open(),
            "an answer is proof of life, whenever it began"
        );
        assert!(breaker.failed(SECOND, SECOND, 8).is_some(), "but a late one is none of what follows");
        assert!(breaker.answered(2 * SECOND, false));
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
        assert_eq!(breaker.hopeless(), Some(Hopeless { silent_for: None, hangs: false }));
    }

    #[test]
    fn once_there_was_an_answer_no_outage_is_hopeless() {
        let mut breaker = Breaker::new(1);
        breaker.answered(Duration::ZERO, false);
        (0..100).for_each(|second| {
            breaker.failed(second * SECOND, second * SECOND, u64::from(second));
        });
        assert!(breaker.is_open() && breaker.hopeless().is_none());
    }

    #[test]
    fn timeouts_open_it_where_as_many_rows_time_out_and_none_is_answered_in_between() {
        for (concurrency, most) in [(1, 2), (2, 4), (16, 8), (64, 32)] {
            let mut breaker = Breaker::new(concurrency);
            assert!((0..most).all(|row| breaker.timed_out(SECOND, SECOND, row).is_none()));
            assert_eq!(breaker.timed_out(SECOND, SECOND, 0), None, "a row counts once");
            breaker.answered(SECOND, false);
            assert!((0..most).all(|row| breaker.timed_out(SECOND, SECOND, row).is_none()));
            assert!(breaker.timed_out(SECOND, SECOND, most).is_some() && breaker.is_open());
        }
    }

    #[test]
    fn timeouts_of_rows_after_which_there_are_no_more_are_their_own() {
        let mut breaker = Breaker::new(1);
        breaker.answered(Duration::ZERO, false);
        assert_eq!((0..9).filter_map(|row| breaker.timed_out(SECOND, SECOND, row)).count(), 1);
        assert!(breaker.is_open() && breaker.all_asked() && !breaker.is_open());
        assert!((0..99).all(|row| breaker.timed_out(2 * SECOND, 2 * SECOND, row).is_none()));
        let mut gone = opened(64);
        assert!(!gone.all_asked() && gone.is_open(), "a server that is not there is another matter");
    }

    #[test]
    fn a_server_that_hangs_is_given_up_soon_where_it_never_answered_and_after_an_hour_where_it_did() {
        for (answered, least, most) in [(false, 7 * 64, 7 * 64 + 1), (true, 3_600, 3_700)] {
            let mut breaker = Breaker::new(1);
            if answered {
                breaker.answered(Duration::ZERO, false);
            }
            assert_eq!((0..3).filter_map(|row| breaker.timed_out(60 * SECOND, SECOND, row)).count(), 1);
            let (mut now, mut row) = (60 * SECOND, 2);
            while breaker.hopeless().is_none() {
                let begun = now + 4 * SECOND;
                now = begun + 60 * SECOND;
                row += 1;
                breaker.timed_out(now, begun, row);
            }
            let took = now.as_secs() - 60;
            assert!((least..most).contains(&took), "{took}");
        }
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
                breaker.answered(SECOND, false);
            }
        }
    }
}
