//! One engine with its default settings against servers that refuse by chance and servers that limit, ten seeds each,
//! on paused time. `benches/storm.rs` prints the same figures as a table.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod simulated;

use std::time::Duration;

use simulated::servers::{self, Faults, gateway};
use simulated::{Ended, Request, SECOND, Script, run_to_end, settings};
use tokio_asyncio_bridge::engine::EngineSettings;
use tokio_asyncio_bridge::error::FailureKind;

/// Rows, and how many of them at once.
const STRAYS: (u64, usize) = (800, 24);
const STORM: (u64, usize) = (400, 64);

/// Ten runs, each of which answered every row and asked none again before its Retry-After.
fn ten<S: Script>((rows, concurrency): (u64, usize), server: impl Fn(u64) -> S) -> Vec<Ended> {
    let settings = EngineSettings { timeout: 3 * SECOND, ..settings(concurrency) };
    let run = |seed| {
        let ended = run_to_end(server(seed), settings, rows);
        assert_eq!(ended.outcomes.len() as u64, rows);
        assert_eq!(ended.early(), None, "a row was asked again before its Retry-After");
        ended
    };
    (0..10).map(run).collect()
}

/// Checks that the median keeps the bound and the worst exceeds it by 15 % at most.
#[track_caller]
fn assert_within(bound: f64, runs: &[Ended], figure: impl Fn(&Ended) -> f64) {
    let mut figures: Vec<f64> = runs.iter().map(figure).collect();
    figures.sort_by(f64::total_cmp);
    let median = f64::midpoint(figures[4], figures[5]);
    assert!(median <= bound && figures[9] <= 1.15 * bound, "{bound}: {figures:?}");
}

fn wall(ended: &Ended) -> f64 {
    ended.took.as_secs_f64()
}

fn requests(ended: &Ended) -> f64 {
    ended.log.len() as f64
}

/// When a request was made although at least 8 of the last 32 replies were refusals and the latest Retry-After of all
/// had not passed, if one was.
fn made_in_a_storm(log: &[Request]) -> Option<Duration> {
    let mut replies: Vec<&Request> = log.iter().collect();
    replies.sort_by_key(|request| request.replied);
    let made_too_soon = |at: Duration| {
        let told = &replies[..replies.partition_point(|reply| reply.replied < at)];
        let last = &told[told.len().saturating_sub(32)..];
        let latest = told.iter().filter_map(|reply| Some(reply.replied + reply.retry_after?)).max();
        last.iter().filter(|reply| reply.refused).count() >= 8 && latest.is_some_and(|latest| at < latest)
    };
    log.iter().map(|request| request.at).find(|at| made_too_soon(*at))
}

#[test]
fn one_429_in_100_at_random_costs_less_than_a_third_more_and_one_in_20_less_than_twice() {
    for (refused, most) in [(0.01, 13.0), (0.05, 20.0)] {
        for (tells, late) in [(true, false), (true, true), (false, false), (false, true)] {
            let runs =
                ten(STRAYS, |seed| gateway(Faults { refused, tells, late, ..Faults::default() }, seed));
            assert_within(most, &runs, wall);
            assert!(runs.iter().all(|run| run.answered() == 800));
        }
    }
}

#[test]
fn strays_cost_as_little_at_one_call_at_a_time_and_at_many() {
    for tells in [true, false] {
        let server = |seed| gateway(Faults { refused: 0.05, tells, ..Faults::default() }, seed);
        // Without refusals these take 60 s (and each refusal adds a second), 9.4 s and 30 s.
        assert_within(80.0, &ten((200, 1), server), wall);
        assert_within(2.0 * 9.4, &ten((8_000, 256), server), wall);
        assert_within(1.3 * 30.0, &ten((400, 4), server), wall);
    }
}

#[test]
fn a_mix_of_429s_5xx_bad_bodies_and_timeouts_costs_less_than_twice_what_it_must() {
    for tells in [true, false] {
        let faults =
            Faults { refused: 0.014, tells, failed: 0.081, bad: 0.024, silent: 0.022, ..Faults::default() };
        // The replies take 11 s and the timeouts 2.2 s.
        assert_within(2.0 * 13.2, &ten(STRAYS, |seed| gateway(faults, seed)), wall);
    }
}

#[test]
fn a_window_aligned_to_the_clock_is_used_up_and_few_requests_are_wasted() {
    let runs = ten(STORM, |seed| servers::aligned_window(true, seed));
    assert_within(15.0, &runs, wall);
    assert_within(440.0, &runs, requests);
    assert!(runs.iter().all(|run| run.answered() == 400 && made_in_a_storm(&run.log).is_none()));
}

#[test]
fn a_window_that_begins_with_the_first_request_is_used_up_and_few_requests_are_wasted() {
    let runs = ten(STORM, |seed| servers::window_of_the_first(true, seed));
    assert_within(15.5, &runs, wall);
    assert_within(450.0, &runs, requests);
    assert!(runs.iter().all(|run| run.answered() == 400 && made_in_a_storm(&run.log).is_none()));
    // With fewer calls in flight than the window takes, what it took is counted from the first pause on.
    let runs = ten((400, 16), |seed| servers::window_of_the_first(true, seed));
    assert_within(16.5, &runs, wall);
    assert_within(450.0, &runs, requests);
}

#[test]
fn a_token_bucket_is_emptied_and_a_server_of_16_at_once_kept_busy() {
    let runs = ten(STORM, |seed| servers::token_bucket(true, seed));
    assert_within(15.5, &runs, wall);
    assert_within(480.0, &runs, requests);
    for tells in [true, false] {
        // 800 rows of 0.3 s, 16 at once: 15 s.
        let runs = ten((800, 64), |seed| servers::at_most_at_once(16, tells, seed));
        assert_within(20.0, &runs, wall);
        assert_within(1_000.0, &runs, requests);
    }
}

#[test]
fn rows_that_wait_for_a_long_retry_after_leave_their_place_to_others() {
    let server = |seed| gateway(Faults { refused: 0.05, tells: true, ..Faults::default() }, seed);
    let minute = |seed| {
        let mut server = server(seed);
        move |now: Duration, row: u64| match server(now, row) {
            (Err(_), after) => (Err(simulated::error(FailureKind::Throttled, Some(20 * SECOND))), after),
            answer => answer,
        }
    };
    // 40 of 800 rows wait for 20 s, a few twice, while the others take 10 s.
    assert_within(52.0, &ten(STRAYS, minute), wall);
    let last_fresh = |ended: &Ended| ended.log.iter().find(|request| request.row == 799).unwrap().at;
    assert_within(14.0, &ten(STRAYS, minute), |ended| last_fresh(ended).as_secs_f64());
}
