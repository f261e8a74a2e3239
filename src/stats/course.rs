//! How a run went over time, for pictures: bounded, whatever the number of rows. Not the figures of the whole run.
//!
//! The sessions of a run follow each other without the time between them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::AddAssign;
use std::sync::Arc;
use std::time::Duration;

use super::{AttemptView, OutcomeView, Series};

/// So many error classes are followed by name, the rest together.
const CLASSES: usize = 16;
/// So many rows are kept one by one; of more, none is.
const SPANS: usize = 80;
/// So many of the slowest rows are kept.
const SLOWEST: usize = 10;
/// So many error classes have their first message kept, in so many characters.
const EXAMPLES: usize = 20;
const EXAMPLE: usize = 400;
/// So many beginnings of sessions are kept.
const SESSIONS: usize = 50;
/// Latencies are told apart to a quarter of a doubling, from a microsecond to some weeks.
const BINS_PER_DOUBLING: f64 = 4.0;
const MOST_BINS: usize = 164;

/// What happened in one stretch of time.
#[derive(Debug, Clone, Default)]
pub struct Moment {
    /// Rows answered.
    pub ok: u64,
    /// Rows that failed.
    pub failed: u64,
    /// Seconds of calls, summed.
    pub running_s: f64,
    /// Attempts after another of the row failed.
    pub retries: u64,
    /// Failed attempts by [`Course::classes`], those of further classes at the end.
    pub errors: Counts,
    /// Last attempts by latency: see [`latency_bin`].
    pub latencies: Counts,
}

/// Counts by a small number, as long as its greatest so far.
#[derive(Debug, Clone, Default)]
pub struct Counts(Vec<u64>);

impl Counts {
    fn add(&mut self, at: usize) {
        self.0.resize(self.0.len().max(at + 1), 0);
        self.0[at] += 1;
    }

    /// How many there are at a number.
    pub fn get(&self, at: usize) -> u64 {
        self.0.get(at).copied().unwrap_or_default()
    }

    /// The numbers that occur, and how often.
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

/// Where a latency is counted among [`Moment::latencies`].
pub fn latency_bin(latency: Duration) -> usize {
    let micros = (latency.as_secs_f64() * 1e6).max(1.0);
    ((micros.log2() * BINS_PER_DOUBLING) as usize).min(MOST_BINS - 1)
}

/// The least latency, in milliseconds, that is counted there.
pub fn latency_from(bin: usize) -> f64 {
    (bin as f64 / BINS_PER_DOUBLING).exp2() / 1e3
}

/// One row's way to its outcome.
#[derive(Debug, Clone)]
pub struct Span {
    /// The row.
    pub row: u64,
    /// When it was read.
    pub from: Duration,
    /// When its outcome was recorded.
    pub to: Duration,
    /// Waiting for its turn: being started, held back by a limit, without a permit.
    pub queued: Duration,
    /// Its last attempt.
    pub last: Duration,
    /// All its attempts.
    pub running: Duration,
    /// Waiting to retry.
    pub backoff: Duration,
    /// Calls.
    pub attempts: u32,
    /// When each attempt before the last began and ended; none where that is not recorded of all.
    pub earlier: Vec<(Duration, Duration)>,
    /// Class and message, if it failed.
    pub failure: Option<(Arc<str>, String)>,
}

impl Span {
    /// From being read to being recorded, all waits included.
    pub fn took(&self) -> Duration {
        self.to.saturating_sub(self.from)
    }
}

/// The course of a run over all its sessions.
#[derive(Debug, Default)]
pub struct Course {
    /// What happened when.
    pub moments: Series<Moment>,
    /// The error classes followed by name, in order of appearance.
    pub classes: Vec<Arc<str>>,
    /// Where each session ends and the next one begins.
    pub sessions: Vec<Duration>,
    /// The first failure of each class: class, row, message.
    pub examples: Vec<(Arc<str>, u64, String)>,
    spans: Vec<Span>,
    slowest: BinaryHeap<Reverse<BySlowness>>,
    outcomes: u64,
    begins: Duration,
    /// When the last attempt of the session that is going on had failed.
    last_failure: Duration,
}

impl Course {
    /// Takes in one outcome of the session that is going on.
    pub fn record(&mut self, row: u64, outcome: &OutcomeView<'_>) {
        let timing = &outcome.timing;
        let to = self.begins + timing.recorded;
        // A row may have been read before the session's first call.
        let from = to.saturating_sub(timing.row);
        let called = (from + timing.waited()).min(to);
        let last = to.saturating_sub(timing.latency);
        let counted = outcome.counted();
        let told = outcome.tried.as_ref().map_or(Duration::ZERO, |tried| tried.running);
        let earlier = timing.running.saturating_sub(timing.latency).saturating_sub(told).as_secs_f64();
        let moment = self.moments.at(to);
        if outcome.failure.is_none() {
            moment.ok += 1;
        } else {
            moment.failed += 1;
        }
        if outcome.attempts > 0 {
            moment.latencies.add(latency_bin(timing.latency));
        }
        if outcome.attempts > counted {
            self.moments.spread(last, to, |moment, seconds| moment.running_s += seconds);
        }
        if earlier > 0.0 && called < last {
            // Where these attempts lay is not recorded: they are spread over the time they had.
            let share = earlier / last.saturating_sub(called).as_secs_f64();
            self.moments.spread(called, last, |moment, seconds| moment.running_s += seconds * share);
        }
        let ended = |number: u32| called + to.saturating_sub(called) * number / outcome.attempts.max(number);
        for (number, class) in (1..).zip(outcome.errors.iter()).skip(counted as usize) {
            let class = self.class(class);
            self.moments.at(ended(number)).errors.add(class);
        }
        for number in (counted + 1).max(2)..=outcome.attempts {
            let began = if number == outcome.attempts { last } else { ended(number - 1) };
            self.moments.at(began).retries += 1;
        }
        self.note_example(row, outcome);
        self.note_span(row, outcome, from, to);
    }

    /// Takes in one failed attempt of a row that has no outcome.
    pub fn record_attempt(&mut self, attempt: &AttemptView<'_>) {
        self.last_failure = self.last_failure.max(attempt.to);
        self.moments.spread(attempt.from, attempt.to, |moment, seconds| moment.running_s += seconds);
        let class = self.class(attempt.class);
        self.moments.at(attempt.to).errors.add(class);
        self.moments.at(attempt.from).retries += u64::from(attempt.number > 1);
    }

    /// A time of the session that is going on, on the run's time.
    pub fn in_session(&self, time: Duration) -> Duration {
        self.begins + time
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

    fn note_example(&mut self, row: u64, outcome: &OutcomeView<'_>) {
        if let Some(class) = &outcome.failure
            && self.examples.len() < EXAMPLES
            && self.examples.iter().all(|(known, ..)| known != class)
        {
            self.examples.push((Arc::clone(class), row, excerpt(&outcome.message)));
        }
    }

    fn note_span(&mut self, row: u64, outcome: &OutcomeView<'_>, from: Duration, to: Duration) {
        let timing = &outcome.timing;
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
            row,
            from,
            to,
            queued: timing.waited(),
            last: timing.latency,
            running: timing.running,
            backoff: timing.backoff,
            attempts: outcome.attempts,
            earlier: outcome.tried.as_ref().map_or_else(Vec::new, |tried| tried.spans.clone()),
            failure: outcome.failure.as_ref().map(|class| (Arc::clone(class), excerpt(&outcome.message))),
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

    /// Ends a session of so much wall time, or of more where attempts failed after its last outcome: what comes now
    /// comes after it.
    pub fn close_session(&mut self, wall: Duration) {
        let wall = wall.max(self.last_failure.saturating_sub(self.begins));
        self.begins += wall;
        if !wall.is_zero() && self.sessions.len() < SESSIONS {
            self.sessions.push(self.begins);
        }
    }

    /// The time of all sessions ended.
    pub fn length(&self) -> Duration {
        self.begins
    }

    /// Outcomes, those of earlier sessions too.
    pub fn outcomes(&self) -> u64 {
        self.outcomes
    }

    /// Each row's way, in order of reading; none where there were too many rows.
    pub fn spans(&self) -> Vec<&Span> {
        let mut spans: Vec<_> = self.spans.iter().collect();
        spans.sort_by_key(|span| (span.from, span.row));
        spans
    }

    /// The rows that took longest, the slowest first.
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
mod tests {
    use super::*;
    use crate::row::Timing;
    use crate::stats::Tried;

    fn millis(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    /// Read at `from`, recorded at `to`, one call all the time.
    fn view(from: u64, to: u64) -> OutcomeView<'static> {
        let span = millis(to - from);
        let timing =
            Timing { running: span, latency: span, row: span, recorded: millis(to), ..Timing::default() };
        OutcomeView { attempts: 1, timing, ..OutcomeView::default() }
    }

    fn all(course: &Course) -> Moment {
        course.moments.at_most(1).1.remove(0)
    }

    #[test]
    fn calls_in_flight_are_where_the_calls_were() {
        let mut course = Course::default();
        course.record(0, &view(0, 10));
        course.record(1, &view(5, 20));
        let (width, moments) = course.moments.at_most(4);
        assert_eq!(width, millis(6));
        let in_flight = moments.iter().map(|moment| (moment.running_s / width.as_secs_f64() * 6.0).round());
        assert_eq!(in_flight.collect::<Vec<_>>(), [7.0, 10.0, 6.0, 2.0]);
    }

    #[test]
    fn failed_attempts_are_spread_over_their_row_and_the_last_is_at_its_end() {
        let errors = ["timeout".into(), "output".into(), "timeout".into()];
        let failure = Some("timeout".into());
        let mut course = Course::default();
        course.record(
            7,
            &OutcomeView { attempts: 3, errors: errors.as_slice().into(), failure, ..view(0, 90) },
        );
        let at: Vec<_> =
            (0..91).filter(|place| course.moments.at(millis(*place)).errors.iter().count() > 0).collect();
        assert_eq!(at, [30, 60, 90]);
        let all = all(&course);
        assert_eq!((all.retries, all.errors.get(0), all.errors.get(1)), (2, 2, 1));
        assert_eq!(course.classes.iter().map(AsRef::as_ref).collect::<Vec<&str>>(), ["timeout", "output"]);
        assert_eq!(course.examples.len(), 1);
    }

    #[test]
    fn attempts_told_of_one_by_one_are_where_they_were_and_count_once() {
        let (mut course, mut tried) = (Course::default(), Box::<Tried>::default());
        for (number, from, to) in [(1, 0, 10), (2, 20, 25)] {
            let (from, to) = (millis(from), millis(to));
            let view = AttemptView { number, class: "timeout", from, to, abandoned: 0, usage: None };
            course.record_attempt(&view);
            tried.add(&view);
        }
        let span = |latency| Timing { running: latency + millis(15), latency, ..view(0, 90).timing };
        let errors = ["timeout".into(), "timeout".into()];
        course.record(
            7,
            &OutcomeView {
                attempts: 3,
                errors: errors.as_slice().into(),
                timing: span(millis(50)),
                tried: Some(tried),
                ..OutcomeView::default()
            },
        );
        let at = |of: fn(&Moment) -> u64| -> Vec<u64> {
            let mut moments = course.moments.clone();
            (0..91).filter(|place| of(moments.at(millis(*place))) > 0).collect()
        };
        assert_eq!((at(|it| it.errors.get(0)), at(|it| it.retries)), (vec![10, 25], vec![20, 40]));
        let all = all(&course);
        assert_eq!((all.errors.get(0), all.retries, (all.running_s * 1e3).round()), (2, 2, 65.0));
        let earlier = course.spans().first().map(|span| span.earlier.clone());
        assert_eq!(earlier, Some(vec![(millis(0), millis(10)), (millis(20), millis(25))]));
    }

    #[test]
    fn a_session_in_which_no_row_was_done_has_its_time_too() {
        let mut course = Course::default();
        let (from, to) = (millis(0), millis(30));
        course.record_attempt(&AttemptView {
            number: 1,
            class: "timeout",
            from,
            to,
            abandoned: 0,
            usage: None,
        });
        course.close_session(Duration::ZERO);
        assert_eq!((course.length(), course.in_session(millis(1))), (millis(30), millis(31)));
    }

    #[test]
    fn sessions_follow_each_other() {
        let mut course = Course::default();
        course.record(0, &view(0, 50));
        course.close_session(millis(50));
        course.record(1, &view(0, 30));
        course.close_session(millis(30));
        assert_eq!(course.spans().last().map(|span| (span.from, span.to)), Some((millis(50), millis(80))));
        assert_eq!(course.sessions, [millis(50), millis(80)]);
    }

    #[test]
    fn of_many_rows_only_the_slowest_are_kept() {
        let mut course = Course::default();
        for row in 0..100_000 {
            let class = || Some(format!("Error{row}").into());
            let failure = if row % 1000 == 0 { class() } else { None };
            course.record(row, &OutcomeView { failure, ..view(row, row + 10 + row % 777) });
        }
        assert!(course.spans().is_empty());
        let slowest: Vec<_> = course.slowest().iter().map(|span| span.took().as_millis()).collect();
        assert_eq!(slowest, [786; SLOWEST]);
        assert_eq!((course.classes.len(), course.examples.len()), (0, EXAMPLES));
        assert_eq!(all(&course).ok + all(&course).failed, 100_000);
    }

    #[test]
    fn a_latency_is_counted_in_the_bin_that_holds_it() {
        for micros in [0, 1, 2, 3, 100, 12_345, 1_000_000, 604_800_000_000, u64::MAX] {
            let bin = latency_bin(Duration::from_micros(micros));
            let millis = (micros as f64 / 1e3).max(1e-3);
            assert!(latency_from(bin) <= millis * (1.0 + 1e-9), "{micros}");
            assert!(bin == MOST_BINS - 1 || millis < latency_from(bin + 1), "{micros}");
        }
    }
}
