//! Decides how many calls may be in flight while the server refuses some of them with 429.
//!
//! Some servers refuse by chance: a gateway with many replicas answers one call in a hundred with 429 because one
//! replica is busy. Others enforce a limit, and then refuse whatever is sent next, too. One refusal does not tell
//! which, so a refusal costs little at first and more as the evidence grows:
//!
//! - **One refusal** lowers the limit of calls in flight by one, and an answer raises it by an eighth. So one refusal
//!   in nine costs next to nothing, and the limit of a server that takes a fixed number of calls at once is found
//!   without a pause.
//! - **A storm** is eight or more refusals among the last 32 replies, or a limit that has fallen below one. If the
//!   server sent Retry-After, no call is made before the latest time it asked for. If not, the limit is halved, at most
//!   once a round trip, and when it falls below one, a backoff follows that doubles.
//! - **After a storm** with Retry-After, the server is assumed to count requests in windows, and the next window is
//!   expected to take as many as the last one did. One call goes first; its answer lets as many follow as are expected,
//!   and then one more. If that one is refused, the window is full and all calls wait for the next one, so that a
//!   window costs one refusal. If it is answered, the server takes more, and the limit grows again from two.
//!
//! A row whose refusal came with a Retry-After is not called before then (see `policy::retry`), whatever the others do.

use std::time::Duration;

/// How much an answer raises the limit after a refusal has lowered it by one.
const REFUND: f64 = 0.125;
/// How much an answer raises the limit once the server has taken more calls than expected.
const GROWTH: f64 = 0.25;
/// How much it raises the limit while nothing is known of the server: slow start, RFC 5681.
const SLOW_START: f64 = 1.0;
/// This many refusals among the last 32 replies are a storm,
const STORM: u32 = 8;
/// but only if they have lowered the limit to this share of the ceiling: of many calls begun at once, the refused ones
/// may end first.
const CROWDED: f64 = 0.9;
/// A refusal means that a window is full if the window has taken this share of what the last one took,
const NEARLY: f64 = 0.9;
/// or no more than this multiple of it.
const HARDLY_MORE: f64 = 1.5;
/// How many requests are counted after a storm, in case another follows.
const COUNTED: u64 = 1_000;

/// The limit of calls in flight, and until when there must be none. Times are durations since any one origin.
#[derive(Debug)]
pub(crate) struct Pace {
    /// The concurrency that was asked for.
    ceiling: f64,
    backoff: Backoff,
    /// How many calls may be in flight.
    limit: f64,
    /// How much an answer raises the limit. It is raised by at least one for a round trip of answers.
    growth: f64,
    /// No call is made before then.
    until: Duration,
    /// The latest time that a Retry-After asked for.
    latest: Duration,
    /// Since when the limit has held. Calls begun earlier say nothing about it.
    since: Duration,
    /// The last 32 replies, one bit each; refusals are set.
    replies: u32,
    window: Option<Window>,
    /// How many backoffs there have been since the last answer.
    waits: u32,
}

/// How long to wait if the server does not say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backoff {
    /// The first wait. It doubles with each further one.
    pub base: Duration,
    /// Upper bound of every wait, including a Retry-After of the server.
    pub cap: Duration,
}

/// The requests sent since the last pause for a storm.
#[derive(Debug)]
struct Window {
    sent: u64,
    refused: u64,
    /// How many the last window took.
    expected: Option<u64>,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The window is full. Calls pause, or have not begun again.
    Full,
    /// One call goes first.
    First,
    /// As many as expected follow.
    Expected,
    /// One more follows. It began at this time.
    Beyond(Duration),
    /// That one was answered, so the server takes more than expected.
    Larger,
    /// The limit has reached the expected number and keeps growing. Requests are still counted.
    Counted,
}

/// Whether a call may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admits {
    /// Yes, now.
    Now,
    /// Not before this time.
    At(Duration),
    /// Not before a call in flight has ended.
    Full,
}

impl Pace {
    /// No limit below `ceiling` until the server refuses a call.
    pub(crate) fn new(ceiling: usize, backoff: Backoff) -> Self {
        let ceiling = ceiling as f64;
        Self {
            ceiling,
            backoff,
            limit: ceiling,
            growth: SLOW_START,
            until: Duration::ZERO,
            latest: Duration::ZERO,
            since: Duration::ZERO,
            replies: 0,
            window: None,
            waits: 0,
        }
    }

    /// Whether nothing is limited, so that calls and answers need not be reported.
    pub(crate) fn is_free(&self, now: Duration) -> bool {
        self.window.is_none() && self.limit >= self.ceiling && now >= self.until
    }

    /// Whether one more call may be made beside the `in_flight` others.
    pub(crate) fn admits(&self, now: Duration, in_flight: usize) -> Admits {
        if now < self.until {
            return Admits::At(self.until);
        }
        let admitted = match &self.window {
            // That call may never get a reply, so the next one may go once none is in flight.
            Some(Window { stage: Stage::Beyond(_), .. }) => in_flight == 0,
            Some(window) if window.is_used_up() => (in_flight as f64) < self.ceiling,
            _ => (in_flight as f64) < self.limit.floor(),
        };
        if admitted { Admits::Now } else { Admits::Full }
    }

    /// Notes that a call is made.
    pub(crate) fn sent(&mut self, now: Duration) {
        let Some(window) = &mut self.window else { return };
        if window.stage == Stage::Full {
            // This is the first call after a pause. What the server took before the pause is expected of the next
            // window.
            let took = Some(window.sent.saturating_sub(window.refused)).filter(|took| *took > 0);
            let expected = took.or(window.expected);
            let stage = if expected.is_some() { Stage::First } else { Stage::Larger };
            *window = Window { sent: 0, refused: 0, expected, stage };
            (self.limit, self.growth, self.since) = (1.0, SLOW_START, now);
        } else if window.is_used_up() || matches!(window.stage, Stage::Beyond(_)) {
            window.stage = Stage::Beyond(now);
        }
        window.sent += 1;
    }

    /// Notes that a call, begun at that time, has ended and was not refused.
    pub(crate) fn answered(&mut self, begun: Duration) {
        self.replies <<= 1;
        if begun < self.since {
            return;
        }
        self.waits = 0;
        self.limit = (self.limit + self.growth.max(1.0 / self.limit)).min(self.ceiling);
        let Some(window) = &mut self.window else { return };
        match window.stage {
            Stage::First => {
                (self.limit, self.growth) = (self.ceiling, REFUND);
                window.stage = Stage::Expected;
            }
            Stage::Beyond(beyond) if begun >= beyond => {
                (self.limit, self.growth, self.since) = (self.ceiling.min(2.0), SLOW_START, beyond);
                window.stage = Stage::Larger;
            }
            Stage::Larger
                if self.limit >= window.expected.map_or(self.ceiling, |it| self.ceiling.min(it as f64)) =>
            {
                self.growth = self.growth.min(GROWTH);
                window.stage = Stage::Counted;
            }
            Stage::Counted if self.limit >= self.ceiling && window.sent >= COUNTED => self.window = None,
            _ => {}
        }
    }

    /// Notes that a call, begun at that time, was refused. `asked` is the Retry-After, `in_flight` the number of other
    /// calls in flight.
    pub(crate) fn refused(
        &mut self,
        now: Duration,
        begun: Duration,
        asked: Option<Duration>,
        in_flight: usize,
    ) {
        self.replies = self.replies << 1 | 1;
        let asked = asked.filter(|asked| !asked.is_zero()).map(|asked| asked.min(self.backoff.cap));
        self.latest = asked.map_or(self.latest, |asked| self.latest.max(now + asked));
        if let Some(window) = &mut self.window {
            window.refused += 1;
            if window.stage == Stage::Full {
                self.pause(self.latest);
                return;
            }
        }
        if begun < self.since {
            return;
        }
        self.limit -= 1.0;
        self.growth = REFUND;
        let spent = self.limit < 1.0;
        let full = self.window.as_ref().is_some_and(Window::is_full);
        let storm = self.replies.count_ones() >= STORM && self.limit <= self.ceiling * CROWDED;
        if asked.is_some() && (spent || full || storm) {
            let fresh = || Window { sent: in_flight as u64, refused: 0, expected: None, stage: Stage::Full };
            self.window.get_or_insert_with(fresh).stage = Stage::Full;
            self.pause(self.latest);
        } else if storm && !spent {
            (self.limit, self.since) = ((self.limit / 2.0).max(1.0), now);
        } else if spent {
            let wait = self.backoff.base.saturating_mul(1 << self.waits.min(16));
            self.waits += 1;
            self.hold_until(now + wait.min(self.backoff.cap));
        }
    }

    fn pause(&mut self, until: Duration) {
        self.until = self.until.max(until);
        self.since = self.until;
        self.limit = 1.0;
    }

    /// Makes no call before that time, and starts again from one in flight.
    pub(crate) fn hold_until(&mut self, until: Duration) {
        self.window = None;
        self.pause(until);
    }

    /// Starts again from one in flight, in slow start up to the ceiling.
    pub(crate) fn restart(&mut self, now: Duration) {
        (self.limit, self.growth, self.since) = (1.0, SLOW_START, now);
    }
}

impl Window {
    /// Whether as many as expected have been sent and none beyond them has been answered.
    fn is_used_up(&self) -> bool {
        matches!(self.stage, Stage::First | Stage::Expected | Stage::Beyond(_)) && self.share() >= 1.0
    }

    /// Whether a refusal now means that the window is full.
    fn is_full(&self) -> bool {
        match self.stage {
            Stage::First | Stage::Expected | Stage::Beyond(_) => self.share() >= NEARLY,
            Stage::Larger => self.share() <= HARDLY_MORE,
            Stage::Full | Stage::Counted => false,
        }
    }

    /// The number sent, as a share of the number expected.
    fn share(&self) -> f64 {
        self.expected.map_or(f64::INFINITY, |expected| self.sent as f64 / expected as f64)
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

    /// One that has seen 64 calls at once, of which 14 were refused: the window took 50. The pause ends at two seconds.
    fn full() -> Pace {
        let mut pace = pace(64);
        (0..14).for_each(|refused| pace.refused(SECOND, MS, Some(SECOND), 63 - refused));
        pace
    }

    #[test]
    fn one_refusal_takes_one_off_the_number_in_flight_and_eight_answers_give_it_back() {
        for asked in [None, Some(60 * SECOND)] {
            let mut pace = pace(24);
            pace.refused(SECOND, MS, asked, 23);
            assert_eq!((pace.admits(SECOND, 22), pace.admits(SECOND, 23)), (Admits::Now, Admits::Full));
            (0..7).for_each(|_| pace.answered(2 * MS));
            assert!(!pace.is_free(SECOND));
            pace.answered(2 * MS);
            assert!(pace.is_free(SECOND), "{pace:?}");
        }
    }

    #[test]
    fn eight_refusals_among_the_last_32_replies_hold_every_call_until_the_latest_retry_after() {
        let mut pace = pace(64);
        for refusal in 0..8 {
            assert_eq!(pace.admits(SECOND, 0), Admits::Now);
            // In turn with answers.
            pace.answered(MS);
            pace.refused(SECOND, MS, Some((9 - refusal) * SECOND), 50);
        }
        assert_eq!(pace.admits(SECOND, 0), Admits::At(10 * SECOND));
        pace.refused(2 * SECOND, MS, Some(10 * SECOND), 40);
        assert_eq!(pace.admits(10 * SECOND, 0), Admits::At(12 * SECOND), "one that was still in flight");
    }

    #[test]
    fn a_few_that_are_told_first_of_many_calls_begun_at_once_are_no_storm() {
        let mut pace = pace(256);
        (0..20).for_each(|refused| pace.refused(2 * MS, MS, Some(SECOND), 255 - refused));
        assert_eq!(pace.admits(3 * MS, 0), Admits::Now);
        (20..40).for_each(|refused| pace.refused(2 * MS, MS, Some(SECOND), 255 - refused));
        assert!(matches!(pace.admits(3 * MS, 0), Admits::At(_)));
    }

    #[test]
    fn at_one_in_flight_one_refusal_holds_it_until_a_retry_after_which_is_capped() {
        let mut pace = pace(1);
        pace.refused(SECOND, SECOND, Some(1_000_000 * SECOND), 0);
        pace.refused(SECOND, SECOND, Some(SECOND), 0);
        assert_eq!(pace.admits(2 * SECOND, 0), Admits::At(61 * SECOND));
        assert_eq!(pace.admits(61 * SECOND, 0), Admits::Now);
    }

    #[test]
    fn after_a_storm_one_goes_first_then_as_many_as_the_last_window_took_then_one_more() {
        let mut pace = full();
        let now = 2 * SECOND;
        assert_eq!((pace.admits(now, 0), pace.admits(now, 1)), (Admits::Now, Admits::Full));
        pace.sent(now);
        assert_eq!(pace.admits(now, 1), Admits::Full);
        pace.answered(now);
        for sent in 1..=50 {
            assert_eq!(pace.admits(now, sent), Admits::Now, "{sent}");
            pace.sent(now + sent as u32 * MS);
        }
        assert_eq!(pace.admits(now, 50), Admits::Full, "the one beyond them is on its way");
        assert_eq!(pace.admits(now, 0), Admits::Now, "it came to no reply");
        pace.refused(3 * SECOND, now + 50 * MS, Some(SECOND), 49);
        assert_eq!(pace.admits(3 * SECOND, 0), Admits::At(4 * SECOND), "one refusal is a full window");
    }

    #[test]
    fn a_server_that_takes_more_than_expected_is_given_more_until_nothing_is_limited() {
        let mut pace = full();
        for call in 0..2_000 {
            let now = 2 * SECOND + call * MS;
            assert_eq!(pace.admits(now, 0), Admits::Now);
            pace.sent(now);
            pace.answered(now);
        }
        assert!(pace.is_free(5 * SECOND), "{pace:?}");
    }

    #[test]
    fn a_storm_without_a_retry_after_halves_the_number_in_flight_once_a_round_trip() {
        let mut pace = pace(64);
        (0..20).for_each(|_| pace.refused(10 * MS, MS, None, 63));
        assert_eq!((pace.admits(11 * MS, 27), pace.admits(11 * MS, 28)), (Admits::Now, Admits::Full));
        pace.refused(20 * MS, 11 * MS, None, 31);
        assert_eq!((pace.admits(21 * MS, 12), pace.admits(21 * MS, 13)), (Admits::Now, Admits::Full));
        (0..10_000).for_each(|_| pace.answered(30 * MS));
        assert!(pace.is_free(31 * MS));
    }

    #[test]
    fn refusals_at_one_in_flight_are_waited_out_ever_longer_up_to_the_cap() {
        let mut pace = pace(1);
        let mut now = SECOND;
        let mut waits = Vec::new();
        for _ in 0..8 {
            pace.refused(now, now, Some(Duration::ZERO).filter(|_| waits.len() % 2 == 0), 0);
            let Admits::At(until) = pace.admits(now, 0) else { panic!("{pace:?}") };
            waits.push(until.saturating_sub(now).as_secs());
            now = until;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
    }
}
