//! What attempts and outcomes come to in the figures.

use super::*;
use crate::error::{CallError, FailureKind};
use crate::outcome::Answer;
use crate::row::RowHash;

fn outcome(result: Result<Answer, Failure>, attempts: u32) -> Outcome {
    let latency = Duration::from_millis(100);
    let timing = Timing { running: latency, latency, row: latency, ..Timing::default() };
    Outcome { attempts, timing, ..Outcome::new(7, RowHash(7), result) }
}

fn ok(attempts: u32) -> Outcome {
    outcome(Ok(Answer::default()), attempts)
}

fn failed(class: &str) -> Outcome {
    outcome(Err(failure(class)), 1)
}

fn failure(class: &str) -> Failure {
    Failure::new(class, FailureKind::Transient, "")
}

#[test]
fn attempts_and_the_outcome_after_them_add_up_each_counted_once() {
    let second = Duration::from_secs(1);
    let usage = Some(Usage { input: 10, output: 5, calls: 1, cost_usd: Some(0.25) });
    let attempt = |number, abandoned, failure| FailedAttempt {
        row: 7,
        number,
        began: number * second,
        ended: number * second + second / 4,
        abandoned,
        failure,
    };
    let mut stats = Stats::default();
    stats.attempt(&attempt(1, true, failure("timeout")));
    let refused = Failure { status: Some(429), usage, ..failure("RateLimitError") };
    stats.attempt(&attempt(2, false, refused));
    let answer = Answer { usage, first_chunk: Some(second / 10), ..Answer::default() };
    let timing = Timing {
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
    };
    stats.outcome(&Outcome { timing, ..outcome(Ok(answer), 3) }, false);
    stats.add_session(4 * second, 2);

    let counts = stats.attempts();
    assert_eq!((counts.total, counts.retries, counts.timeouts), (3, 2, 1));
    assert_eq!((counts.abandoned, counts.first_try_ok, counts.by_error.total()), (1, 0, 2));
    assert_eq!(counts.by_status, [(429, 1)].into());
    let Spent { usage, untold, .. } = stats.spent();
    assert_eq!((usage.tokens(), usage.calls, usage.cost_usd, *untold), (30, 2, Some(0.5), 1));
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
    assert_eq!((stats.mean_in_flight(), stats.most_in_flight(), stats.rows_per_s()), (0.25, 2, 0.25));
}

#[test]
fn an_outcome_whose_attempt_has_a_record_of_its_own_counts_it_no_more() {
    let mut stats = Stats::default();
    let (began, ended) = (Duration::ZERO, Duration::from_secs(1));
    let failure = failure("timeout");
    stats.attempt(&FailedAttempt { row: 7, number: 1, began, ended, abandoned: false, failure });
    stats.outcome(&Outcome { told_before: true, ..failed("timeout") }, false);
    assert_eq!((stats.spent().attempts, stats.spent().untold), (1, 1));
}

#[test]
fn a_row_never_called_fails_without_attempt_or_latency() {
    let mut stats = Stats::default();
    stats.outcome(&outcome(Err(CallError::Input("the question is blank".into()).into()), 0), false);
    assert_eq!((stats.spent(), stats.latency_failed().count), (&Spent::default(), 0));
}

#[test]
fn a_resumed_row_counts_once_while_its_attempts_add_up() {
    let mut stats = Stats::default();
    stats.outcome(&ok(1), false);
    stats.outcome(&failed("timeout"), false);
    stats.outcome(&failed("output"), false);
    stats.outcome(&ok(1), true);
    stats.outcome(&failed("timeout"), true);
    assert_eq!(stats.ok(), 2);
    assert_eq!((stats.attempts().total, stats.attempts().retries, stats.attempts().first_try_ok), (5, 0, 1));
    assert_eq!((stats.latency_ok().count, stats.latency_failed().count), (2, 3));
}

#[test]
fn sessions_add_up_in_wall_time_and_keep_the_greatest_concurrency() {
    let mut stats = Stats::default();
    (0..40).for_each(|_| stats.outcome(&ok(1), false));
    stats.add_session(Duration::from_secs(1), 8);
    stats.add_session(Duration::from_secs(3), 4);
    assert_eq!((stats.wall(), stats.most_in_flight()), (Duration::from_secs(4), 8));
    assert!((stats.rows_per_s() - 10.0).abs() < 1e-9 && (stats.mean_in_flight() - 1.0).abs() < 1e-9);
}

#[test]
fn a_run_of_no_length_has_no_rate() {
    let mut stats = Stats::default();
    stats.outcome(&ok(1), false);
    assert_eq!((stats.rows_per_s(), stats.mean_in_flight()), (0.0, 0.0));
}
