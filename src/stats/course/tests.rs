//! What the course of a run is made of, moment by moment.

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
    course.record(7, &OutcomeView { attempts: 3, errors: errors.as_slice().into(), failure, ..view(0, 90) });
    let at: Vec<_> =
        (0..91).filter(|place| course.moments.at(millis(*place)).errors.iter().count() > 0).collect();
    assert_eq!(at, [30, 60, 90]);
    assert!(course.spreads && !course.spans()[0].is_told());
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
        let view = AttemptView {
            row: 7,
            number,
            class: "timeout",
            message: None,
            status: None,
            from,
            to,
            abandoned: 0,
            unanswered: 0,
            usage: None,
        };
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
    assert!(!course.spreads && course.spans()[0].is_told());
    let earlier = course.spans().first().map(|span| span.earlier.clone());
    assert_eq!(earlier, Some(vec![(millis(0), millis(10)), (millis(20), millis(25))]));
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
