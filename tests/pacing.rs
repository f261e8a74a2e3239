//! The engine against simulated servers that limit, fail and vanish, on paused time: the pace, the breaker, the rates.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod simulated;

use std::num::NonZeroU32;
use std::time::Duration;

use simulated::servers::window_at;
use simulated::{Ended, LATENCY, REFUSAL, Reply, SECOND, at_once, error, settings};
use tokio_asyncio_bridge::engine::{EngineSettings, Rates, RequestsACall};
use tokio_asyncio_bridge::error::{CallError, FailureKind};
use tokio_asyncio_bridge::job::LimitedFor;
use tokio_asyncio_bridge::usage::Usage;

fn down() -> Reply {
    Err(error(FailureKind::Unavailable, None))
}

fn hung() -> Reply {
    Err(CallError::Timeout(Duration::ZERO))
}

async fn run<F>(script: F, settings: EngineSettings, rows: u64, usage: Option<Usage>) -> Ended
where
    F: FnMut(Duration, u64) -> Reply + Send + 'static,
{
    simulated::run(at_once(script), settings, rows, usage).await
}

#[tokio::test(start_paused = true)]
async fn a_429_storm_costs_few_refusals_and_no_window_is_left_unused() {
    for offset in [0, 300, 700, 1_100, 1_900] {
        let server = window_at(Duration::from_millis(offset), true);
        let ended = simulated::run(server, settings(64), 400, None).await;
        assert_eq!(ended.answered(), 400);
        assert!(ended.requests_a_row() <= 1.1, "{offset}: {}", ended.requests_a_row());
        assert!(ended.took < 17 * SECOND, "{offset}: {:?}", ended.took);
        assert!(ended.limited.server > 10 * SECOND, "{:?}", ended.limited);
    }
}

#[tokio::test(start_paused = true)]
async fn without_retry_after_a_storm_is_lived_through_at_fewer_in_flight() {
    let ended = simulated::run(window_at(Duration::ZERO, false), settings(64), 400, None).await;
    assert_eq!(ended.answered(), 400);
    assert!(ended.requests_a_row() <= 1.6, "{}", ended.requests_a_row());
    assert!(ended.took < 30 * SECOND, "{:?}", ended.took);
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_a_minute_costs_few_calls_and_no_row() {
    for (concurrency, rows, most) in [(64, 2_000, 1.1), (16, 2_000, 1.05), (2, 400, 1.1), (1, 400, 1.1)] {
        let outage = SECOND / 2..60 * SECOND + SECOND / 2;
        let end = outage.end;
        let script = move |now: Duration, _| if outage.contains(&now) { down() } else { Ok(()) };
        let ended = run(script, settings(concurrency), rows, None).await;
        assert_eq!(ended.answered(), rows as usize, "at {concurrency}");
        assert!(ended.requests_a_row() <= most, "at {concurrency}: {}", ended.requests_a_row());
        let resumed = ended.log.iter().find(|it| it.at > end && it.answered).unwrap().at;
        assert!(resumed < end + 5 * SECOND, "at {concurrency}: {resumed:?}");
        let ideal = LATENCY * rows as u32 / concurrency as u32;
        assert!(ended.took < resumed + ideal + 2 * SECOND, "at {concurrency}: {:?}", ended.took);
        assert!(ended.limited.outage > 50 * SECOND, "{:?}", ended.limited);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_was_never_there_is_given_up_soon() {
    for concurrency in [1, 16, 256] {
        let ended = run(|_, _| down(), settings(concurrency), 2_000, None).await;
        assert!(ended.unreachable.as_ref().is_some_and(|reason| reason.to_string().contains("scripted")));
        assert!(ended.took < 30 * SECOND, "at {concurrency}: {:?}", ended.took);
        assert!(ended.log.len() <= 3 * concurrency + 20, "at {concurrency}: {}", ended.log.len());
        assert_eq!(ended.outcomes.len(), 0, "no row has failed for it");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_hangs_for_ten_minutes_costs_few_calls_and_no_row() {
    for (concurrency, rows) in [(64, 2_000), (16, 2_000), (2, 400), (1, 400)] {
        let outage = SECOND / 2..600 * SECOND;
        let end = outage.end;
        let script = move |now: Duration, _| if outage.contains(&now) { hung() } else { Ok(()) };
        let ended = run(script, settings(concurrency), rows, None).await;
        assert_eq!(ended.answered(), rows as usize, "at {concurrency}");
        // The calls in flight, those made until the outage was noticed, and a probe a minute.
        let wasted = ended.log.len() - rows as usize;
        assert!(wasted <= 2 * concurrency + 12, "at {concurrency}: {wasted}");
        let resumed = ended.log.iter().find(|it| it.at > end && it.answered).unwrap().at;
        assert!(resumed < end + 70 * SECOND, "at {concurrency}: {resumed:?}");
        // With one call at a time, a row waits for the probe as for any other call.
        assert!(concurrency == 1 || ended.limited.outage > 400 * SECOND, "{:?}", ended.limited);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_answers_is_given_up_soon_however_many_wait_for_it() {
    for concurrency in [1, 4, 16, 256] {
        let ended = run(|_, _| hung(), settings(concurrency), 2_000, None).await;
        let reason = ended.unreachable.as_ref().unwrap().to_string();
        assert!(reason.contains("no answer within 1m") && reason.contains("`--timeout`"), "{reason}");
        assert!(ended.took < 1_100 * SECOND, "at {concurrency}: {:?}", ended.took);
        assert!(ended.log.len() <= 2 * concurrency + 16, "at {concurrency}: {}", ended.log.len());
        assert_eq!(ended.outcomes.len(), 0, "no row has failed for it");
    }
}

#[tokio::test(start_paused = true)]
async fn rows_that_hang_among_others_fail_alone_also_where_they_are_all_that_is_left() {
    for concurrency in [1, 4, 16, 64] {
        let script = |_, row| if row % 50 == 7 { hung() } else { Ok(()) };
        let ended = run(script, settings(concurrency), 1_000, None).await;
        assert_eq!((ended.answered(), ended.outcomes.len()), (980, 1_000));
        assert!(ended.outcomes.values().all(|it| it.attempts == if it.row % 50 == 7 { 4 } else { 1 }));
        assert_eq!(ended.limited.outage, Duration::ZERO, "at {concurrency}");
    }
}

#[tokio::test(start_paused = true)]
async fn rows_that_hang_in_front_hold_up_none_behind() {
    for (concurrency, slow) in [(1, 5), (2, 7), (16, 9)] {
        let ended =
            run(move |_, row| if row < slow { hung() } else { Ok(()) }, settings(concurrency), 200, None)
                .await;
        assert_eq!((ended.answered() as u64, ended.outcomes.len()), (200 - slow, 200), "at {concurrency}");
    }
}

#[tokio::test(start_paused = true)]
async fn rows_that_hang_behind_fail_by_their_own_retries() {
    for (concurrency, slow) in [(1, 5), (16, 20)] {
        let script = move |_, row| if row >= 200 - slow { hung() } else { Ok(()) };
        let ended = run(script, settings(concurrency), 200, None).await;
        assert_eq!((ended.answered() as u64, ended.outcomes.len()), (200 - slow, 200), "at {concurrency}");
        assert!(ended.took < 2_400 * SECOND, "at {concurrency}: {:?}", ended.took);
    }
}

#[tokio::test(start_paused = true)]
async fn rows_that_all_hang_in_the_end_do_not_hang_the_run_for_ever() {
    let script = |_, row| if row >= 500 { hung() } else { Ok(()) };
    let ended = run(script, settings(16), 1_000, None).await;
    let reason = ended.unreachable.as_ref().unwrap().to_string();
    assert!(reason.contains("every call has timed out for 60 minutes"), "{reason}");
    assert!(ended.took < 3_900 * SECOND, "{:?}", ended.took);
    assert_eq!((ended.answered(), ended.outcomes.len()), (500, 500));
}

#[tokio::test(start_paused = true)]
async fn one_broken_row_fails_alone_and_slows_no_other() {
    for concurrency in [1, 4, 64] {
        let script = |_, row| if row == 100 { down() } else { Ok(()) };
        let ended = run(script, settings(concurrency), 400, None).await;
        assert_eq!(ended.answered(), 399);
        assert_eq!(ended.outcomes[&100].attempts, 4);
        assert_eq!(ended.limited.outage, Duration::ZERO);
        assert!(ended.took < LATENCY * 400 / concurrency as u32 + 8 * SECOND, "{:?}", ended.took);
    }
}

#[tokio::test(start_paused = true)]
async fn a_broken_row_at_the_end_ends_too() {
    let ended = run(|_, row| if row >= 38 { down() } else { Ok(()) }, settings(1), 40, None).await;
    assert_eq!((ended.answered(), ended.outcomes.len()), (38, 40));
    assert!(ended.took < 300 * SECOND, "{:?}", ended.took);
}

#[tokio::test(start_paused = true)]
async fn a_few_failures_by_chance_open_no_breaker_and_cost_no_time() {
    let mut rng = fastrand::Rng::with_seed(5);
    let script = move |_, _| if rng.f64() < 0.05 { down() } else { Ok(()) };
    let ended = run(script, settings(64), 4_000, None).await;
    assert_eq!(ended.answered(), 4_000);
    assert_eq!(ended.limited, LimitedFor::default());
    assert!(ended.took < LATENCY * 4_000 / 64 + 6 * SECOND, "{:?}", ended.took);
}

#[tokio::test(start_paused = true)]
async fn refusals_by_chance_do_not_bring_the_run_down_to_one_at_a_time() {
    let mut rng = fastrand::Rng::with_seed(5);
    let refusal = || Err(error(FailureKind::Throttled, Some(SECOND)));
    let script = move |_, _| if rng.f64() < 0.1 { refusal() } else { Ok(()) };
    let ended = run(script, settings(64), 2_000, None).await;
    assert_eq!(ended.answered(), 2_000);
    assert!(ended.took < 60 * SECOND, "{:?}", ended.took);
}

#[tokio::test(start_paused = true)]
async fn rpm_is_never_exceeded_and_used_up() {
    let rates = Rates { rpm: NonZeroU32::new(600), tpm: None };
    let ended = run(|_, _| Ok(()), EngineSettings { rates, ..settings(64) }, 1_200, None).await;
    for (first, after) in ended.log.iter().zip(&ended.log[600..]) {
        assert!(after.at.saturating_sub(first.at) >= Duration::from_millis(59_998));
    }
    assert!(ended.took < 122 * SECOND, "{:?}", ended.took);
    assert!(ended.limited.rpm > 110 * SECOND, "{:?}", ended.limited);
}

#[tokio::test(start_paused = true)]
async fn rpm_counts_every_request_of_a_program_from_the_first_minute_on() {
    let rates = Rates { rpm: NonZeroU32::new(600), tpm: None };
    for (parts, likely) in [(2, 2), (2, 1), (3, 1), (1, 3)] {
        let usage = Some(Usage { input: 100, output: 10, calls: parts, cost_usd: None });
        let requests = RequestsACall { likely: NonZeroU32::new(likely).unwrap(), may_differ: true };
        let settings = EngineSettings { rates, requests, ..settings(64) };
        let rows = 1_200 / parts;
        let ended = run(|_, _| Ok(()), settings, rows, usage).await;
        assert_eq!(ended.log.len(), 1_200);
        for (first, after) in ended.log.iter().zip(&ended.log[600..]) {
            let minute = after.at.saturating_sub(first.at);
            assert!(minute + 2 * LATENCY >= 60 * SECOND, "{parts} of {likely}: 600 in {minute:?}");
        }
        assert!(ended.took < 122 * SECOND, "{parts} of {likely}: {:?}", ended.took);
    }
}

#[tokio::test(start_paused = true)]
async fn tpm_is_settled_by_what_the_calls_really_used() {
    let rates = Rates { rpm: None, tpm: NonZeroU32::new(60_000) };
    let usage = Some(Usage { input: 1_500, output: 500, calls: 1, cost_usd: None });
    let ended = run(|_, _| Ok(()), EngineSettings { rates, ..settings(64) }, 120, usage).await;
    // 240,000 tokens.
    assert!((ended.took.as_secs_f64() - 240.0).abs() < 10.0, "{:?}", ended.took);
    assert!(ended.limited.tpm > 200 * SECOND, "{:?}", ended.limited);
}

#[tokio::test(start_paused = true)]
async fn a_row_timeout_bounds_the_rows_that_an_outage_holds_back() {
    let script = |now: Duration, _| if (SECOND..60 * SECOND).contains(&now) { down() } else { Ok(()) };
    let settings = EngineSettings { row_timeout: Some(10 * SECOND), ..settings(8) };
    let ended = run(script, settings, 400, None).await;
    let failed = ended.outcomes.values().filter(|outcome| outcome.result.is_err()).count();
    assert!((1..=32).contains(&failed), "{failed} of the rows in hand");
    assert_eq!(ended.answered() + failed, 400);
}

/// Answers each row from the given one on with an error the first time, and then as it should.
fn failing_first(from: u64, kind: FailureKind) -> impl FnMut(Duration, u64) -> Reply {
    let mut seen = std::collections::HashSet::new();
    move |_, row| if row >= from && seen.insert(row) { Err(error(kind, None)) } else { Ok(()) }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_answers_each_row_the_second_time_is_not_taken_for_gone() {
    for latency in [REFUSAL, LATENCY, 4 * LATENCY] {
        for concurrency in [1, 4, 16, 64] {
            let mut took = Vec::new();
            for answered in [0, 40] {
                let rows = 100 + answered;
                let mut script = failing_first(answered, FailureKind::Unavailable);
                let server = move |now, row| (script(now, row), latency);
                let ended = simulated::run(server, settings(concurrency), rows, None).await;
                assert_eq!(ended.answered() as u64, rows, "at {concurrency}");
                assert_eq!(ended.log.len() as u64, rows + 100, "at {concurrency}");
                took.push(ended.took);
            }
            let most = if concurrency < 16 { 20 * SECOND + 200 * latency } else { 10 * SECOND };
            assert!(took.iter().all(|took| *took <= most), "at {concurrency}: {took:?}");
            let with_those_40 = took[0] + latency * 40 / concurrency as u32 + SECOND;
            assert!(took[1] <= with_those_40, "40 answered before slow it down at {concurrency}: {took:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn rows_in_front_that_always_fail_hold_up_none_behind() {
    for (concurrency, bad) in [(1, 3), (4, 5), (16, 17), (64, 65)] {
        let script = move |_, row| if row < bad { down() } else { Ok(()) };
        let ended = run(script, settings(concurrency), 400, None).await;
        assert_eq!((ended.answered() as u64, ended.outcomes.len()), (400 - bad, 400), "at {concurrency}");
        let first = ended.log.iter().find(|it| it.answered).unwrap().at;
        assert!(first < 20 * SECOND, "at {concurrency}: {first:?}");
    }
}
