//! How many calls may be in flight while a server refuses some for coming too fast. Not the waiting, nor `--rpm`.
//!
//! A 429 (or 503) with Retry-After pauses every slot until then. Servers that say so count requests in windows, so what
//! is learned is how many the last window took: after the pause calls come back in slow start (RFC 5681, section 3.1:
//! one more in flight for each answer), and once as many were sent as the last window took, one at a time again, until
//! the server refuses (the next window) or answers (the window is larger, and slow start goes on). So a full window
//! costs one refused request, as the probing of an adaptive client-side rate limiter does (AWS SDKs, retry mode
//! `adaptive`), without its having to guess a rate.
//!
//! A refusal without Retry-After halves the number in flight, at most once a round trip; it grows by one for each round
//! trip of answers (RFC 5681, AIMD). At one in flight there is only waiting left: backoff, doubled at each refusal.
//!
//! Whoever answers most of what was sent after a refused call refuses by chance, not for a full window: after the pause
//! calls come back all at once.

use std::time::Duration;

/// The number in flight, and until when there must be none. Times are told, from any one origin.
#[derive(Debug)]
pub struct Pace {
    ceiling: f64,
    backoff: Backoff,
    limit: f64,
    /// Below it the limit grows by one for each answer, above it by one for each round trip.
    threshold: f64,
    /// No call before.
    until: Duration,
    /// Since when the limit has held: what was begun earlier says nothing of it.
    since: Duration,
    window: Option<Window>,
    refusals_at_one: u32,
}

/// How long to wait where the server does not say, and at most.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    /// After the first refusal at one in flight.
    pub base: Duration,
    /// Bounds every wait, also that of a Retry-After.
    pub cap: Duration,
}

/// The requests since the last pause.
#[derive(Debug, Default)]
struct Window {
    sent: u64,
    refused: u64,
    /// When the first of the refused calls was begun.
    refused_since: Option<Duration>,
    /// Answers to calls begun after it.
    answered_since: u64,
    /// How many the window before took.
    expected: Option<u64>,
}

/// Whether a call may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Now.
    Now,
    /// Not before then.
    At(Duration),
    /// Not before one in flight has ended.
    Full,
}

impl Pace {
    /// At most `ceiling` in flight, all at once until the server objects.
    pub fn new(ceiling: usize, backoff: Backoff) -> Self {
        let ceiling = ceiling as f64;
        Self {
            ceiling,
            backoff,
            limit: ceiling,
            threshold: ceiling,
            until: Duration::ZERO,
            since: Duration::ZERO,
            window: None,
            refusals_at_one: 0,
        }
    }

    /// Whether nothing is limited, so that nothing need be told.
    pub fn is_free(&self, now: Duration) -> bool {
        self.window.is_none() && self.limit >= self.ceiling && now >= self.until
    }

    /// Whether one more call may be made beside those in flight.
    pub fn admits(&self, now: Duration, in_flight: usize) -> Admission {
        if now < self.until {
            Admission::At(self.until)
        } else if (in_flight as f64) < self.limit.floor() {
            Admission::Now
        } else {
            Admission::Full
        }
    }

    /// A call is made.
    pub fn sent(&mut self, now: Duration) {
        let Some(window) = &mut self.window else { return };
        if window.refused_since.is_some() {
            // The first after a pause: what the server took before it is what the next window is expected to take.
            let took = window.sent.saturating_sub(window.refused);
            let by_chance = window.answered_since > 2 * window.refused;
            let expected = match took {
                _ if by_chance => None,
                0 => window.expected,
                took => Some(took),
            };
            *window = Window { expected, ..Window::default() };
            self.limit = if by_chance { self.ceiling } else { 1.0 };
            self.since = now;
        }
        window.sent += 1;
        if window.expected == Some(window.sent) {
            (self.limit, self.since) = (1.0, now + Duration::from_nanos(1));
        }
    }

    /// A call begun then came to an end that is no refusal.
    pub fn answered(&mut self, begun: Duration) {
        if let Some(window) = &mut self.window {
            window.answered_since += u64::from(window.refused_since.is_some_and(|since| begun > since));
        }
        if begun < self.since {
            return;
        }
        self.refusals_at_one = 0;
        self.limit += if self.limit < self.threshold { 1.0 } else { 1.0 / self.limit };
        self.limit = self.limit.min(self.ceiling);
        let outgrown = |window: &Window| {
            window.refused_since.is_none() && window.expected.is_none_or(|expected| window.sent > expected)
        };
        if self.limit >= self.ceiling && self.window.as_ref().is_some_and(outgrown) {
            self.window = None;
        }
    }

    /// A call begun then was refused for coming too fast; `asked` is its Retry-After, `in_flight` what is left.
    pub fn refused(&mut self, now: Duration, begun: Duration, asked: Option<Duration>, in_flight: usize) {
        if let Some(asked) = asked {
            let before = || Window { sent: in_flight as u64 + 1, ..Window::default() };
            let window = self.window.get_or_insert_with(before);
            window.refused += 1;
            window.refused_since = Some(window.refused_since.map_or(begun, |since| since.min(begun)));
            self.until = self.until.max(now + asked.min(self.backoff.cap));
            self.threshold = self.ceiling;
            self.since = self.until;
        } else if begun >= self.since {
            self.halve(now, in_flight);
        }
    }

    fn halve(&mut self, now: Duration, in_flight: usize) {
        self.window = None;
        let at_one = self.limit < 2.0;
        self.limit = (self.limit.min(in_flight as f64 + 1.0) / 2.0).max(1.0);
        self.threshold = self.limit;
        self.since = now;
        if at_one {
            let wait = self.backoff.base.saturating_mul(1 << self.refusals_at_one.min(16));
            self.hold_until(now + wait.min(self.backoff.cap));
            self.refusals_at_one += 1;
        }
    }

    /// No call before then, and after it from one in flight on.
    pub fn hold_until(&mut self, until: Duration) {
        self.until = self.until.max(until);
        self.since = self.until;
        self.limit = 1.0;
    }

    /// From one in flight on in slow start, up to the ceiling.
    pub fn restart(&mut self, now: Duration) {
        (self.limit, self.threshold, self.since) = (1.0, self.ceiling, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const SECOND: Duration = Duration::from_secs(1);

    fn pace(ceiling: usize) -> Pace {
        Pace::new(ceiling, Backoff { base: SECOND, cap: 60 * SECOND })
    }

    #[test]
    fn a_retry_after_holds_every_slot_and_then_one_call_goes_first() {
        let mut pace = pace(64);
        pace.refused(SECOND, 999 * MS, Some(2 * SECOND), 63);
        assert_eq!(pace.admits(2 * SECOND, 0), Admission::At(3 * SECOND));
        assert_eq!(pace.admits(3 * SECOND, 0), Admission::Now);
        pace.sent(3 * SECOND);
        assert_eq!(pace.admits(3 * SECOND, 1), Admission::Full);
        pace.answered(3 * SECOND);
        assert_eq!(pace.admits(3 * SECOND, 1), Admission::Now);
    }

    #[test]
    fn a_huge_retry_after_is_capped_and_a_later_shorter_one_does_not_cut_the_pause() {
        let mut pace = pace(4);
        pace.refused(SECOND, SECOND, Some(1_000_000 * SECOND), 3);
        pace.refused(SECOND, SECOND, Some(SECOND), 2);
        assert_eq!(pace.admits(2 * SECOND, 0), Admission::At(61 * SECOND));
    }

    #[test]
    fn after_as_many_as_the_last_window_took_they_go_one_at_a_time() {
        let mut pace = pace(64);
        // 64 at once, 14 refused: the window took 50.
        (0..14).for_each(|refused| pace.refused(5 * MS, MS, Some(SECOND), 63 - refused));
        for call in 0..50 {
            let now = 2 * SECOND + call * MS;
            assert_eq!(pace.admits(now, 0), Admission::Now);
            pace.sent(now);
            pace.answered(now);
        }
        assert_eq!(pace.admits(3 * SECOND, 1), Admission::Full);
        (0..100).for_each(|call| {
            pace.sent(3 * SECOND + call * MS);
            pace.answered(3 * SECOND + call * MS);
        });
        assert!(pace.is_free(4 * SECOND), "a larger window is found: {pace:?}");
    }

    #[test]
    fn a_server_that_answers_most_of_what_came_after_the_refused_call_is_come_back_to_at_once() {
        let mut pace = pace(64);
        pace.refused(10 * MS, MS, Some(SECOND), 63);
        (0..15).for_each(|_| pace.answered(2 * MS));
        pace.sent(2 * SECOND);
        assert_eq!(pace.admits(2 * SECOND, 63), Admission::Now);
        assert_eq!(pace.admits(2 * SECOND, 64), Admission::Full);
    }

    #[test]
    fn without_a_retry_after_the_number_in_flight_is_halved_once_a_round_trip_and_grows_again() {
        let mut pace = pace(64);
        (0..20).for_each(|_| pace.refused(10 * MS, MS, None, 63));
        assert_eq!((pace.admits(11 * MS, 31), pace.admits(11 * MS, 32)), (Admission::Now, Admission::Full));
        pace.refused(20 * MS, 11 * MS, None, 31);
        assert_eq!((pace.admits(21 * MS, 15), pace.admits(21 * MS, 16)), (Admission::Now, Admission::Full));
        (0..17).for_each(|_| pace.answered(21 * MS));
        assert_eq!((pace.admits(22 * MS, 16), pace.admits(22 * MS, 17)), (Admission::Now, Admission::Full));
        (0..10_000).for_each(|_| pace.answered(30 * MS));
        assert!(pace.is_free(31 * MS));
    }

    #[test]
    fn refusals_at_one_in_flight_are_waited_out_ever_longer_up_to_the_cap() {
        let mut pace = pace(1);
        let mut now = SECOND;
        let mut waits = Vec::new();
        for _ in 0..8 {
            pace.refused(now, now, None, 0);
            let Admission::At(until) = pace.admits(now, 0) else { panic!("{pace:?}") };
            waits.push(until.saturating_sub(now).as_secs());
            now = until;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
    }
}
