//! What the course of a run is made of, moment by moment.

use super::*;
use crate::error::FailureKind;
use crate::outcome::{Answer, Timing};
use crate::row::RowHash;

fn millis(number: u64) -> Duration {
    Duration::from_millis(number)
}

/// Read at `from`, answered and recorded at `to`, one call all the time.
fn answered(row: u64, from: u64, to: u64) -> Outcome {
    let span = millis(to - from);
    let timing =
        Timing { running: span, latency: span, row: span, recorded: millis(to), ..Timing::default() };
    Outcome { timing, ..Outcome::new(row, RowHash(row), Ok(Answer::default())) }
}

fn failure(class: &str) -> Failure {
    Failure::new(class, FailureKind::Transient, "")
}

fn all(course: &Course) -> Moment {
    course.moments.at_most(1).1.remove(0)
}

#[test]
fn calls_in_flight_are_where_the_calls_were() {
    let mut course = Course::default();
    course.outcome(&answered(0, 0, 10));
    course.outcome(&answered(1, 5, 20));
    let (width, moments) = course.moments.at_most(4);
    assert_eq!(width, millis(6));
    let in_flight = moments.iter().map(|moment| (moment.running_s / width.as_secs_f64() * 6.0).round());
    assert_eq!(in_flight.collect::<Vec<_>>(), [7.0, 10.0, 6.0, 2.0]);
}

#[test]
fn attempts_are_where_they_were_and_count_once() {
    let mut course = Course::default();
    for (number, began, ended) in [(1, 0, 10), (2, 20, 25)] {
        let (began, ended) = (millis(began), millis(ended));
        let failure = failure("timeout");
        course.attempt(&FailedAttempt { row: 7, number, began, ended, abandoned: false, failure });
    }
    let timing = Timing { running: millis(65), latency: millis(50), ..answered(7, 0, 90).timing };
    course.outcome(&Outcome { attempts: 3, timing, ..answered(7, 0, 90) });
    let at = |of: fn(&Moment) -> u64| -> Vec<u64> {
        let mut moments = course.moments.clone();
        (0..91).filter(|place| of(moments.at(millis(*place))) > 0).collect()
    };
    assert_eq!((at(|it| it.errors.get(0)), at(|it| it.retries)), (vec![10, 25], vec![20, 40]));
    let all = all(&course);
    assert_eq!((all.errors.get(0), all.retries, (all.running_s * 1e3).round()), (2, 2, 65.0));
    assert!(course.spans()[0].is_told());
    let earlier = course.spans().first().map(|span| span.earlier.clone());
    assert_eq!(earlier, Some(vec![(millis(0), millis(10)), (millis(20), millis(25))]));
}

#[test]
fn a_last_attempt_that_failed_is_at_its_rows_end() {
    let mut course = Course::default();
    let timing = Timing { latency: millis(10), ..answered(7, 0, 90).timing };
    course.outcome(&Outcome { timing, attempts: 2, ..Outcome::new(7, RowHash(7), Err(failure("output"))) });
    let mut moments = course.moments.clone();
    assert_eq!((moments.at(millis(90)).errors.get(0), moments.at(millis(80)).retries), (1, 1));
    assert!(!course.spans()[0].is_told(), "its first attempt has no record");
    assert_eq!(course.examples.len(), 1);
}

#[test]
fn sessions_follow_each_other() {
    let mut course = Course::default();
    course.outcome(&answered(0, 0, 50));
    course.close_session(millis(50));
    course.outcome(&answered(1, 0, 30));
    course.close_session(millis(30));
    assert_eq!(course.spans().last().map(|span| (span.from, span.to)), Some((millis(50), millis(80))));
    assert_eq!(course.sessions, [millis(50), millis(80)]);
}

#[test]
fn of_many_rows_only_the_slowest_are_kept() {
    let mut course = Course::default();
    for row in 0..100_000 {
        let mut outcome = answered(row, row, row + 10 + row % 777);
        if row % 1000 == 0 {
            outcome.result = Err(failure(&format!("Error{row}")));
        }
        course.outcome(&outcome);
    }
    assert!(course.spans().is_empty());
    let slowest: Vec<_> = course.slowest().iter().map(|span| span.took().as_millis()).collect();
    assert_eq!(slowest, [786; SLOWEST]);
    assert_eq!((course.classes.len(), course.examples.len()), (CLASSES, EXAMPLES));
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
