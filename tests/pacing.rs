//! The engine against servers that limit, fail and vanish, on paused time: pace, breaker, rates. Not the real sockets.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::collections::HashMap;
use std::future::pending;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_asyncio_bridge::bridge::Bridge;
use tokio_asyncio_bridge::call::{Attempt, CallError, FailureKind, PredictorError};
use tokio_asyncio_bridge::engine::{Clock, Engine, EngineSettings};
use tokio_asyncio_bridge::event::{Event, LimitedFor};
use tokio_asyncio_bridge::policy::rate::{Rates, RequestsACall};
use tokio_asyncio_bridge::policy::retry::RetryPolicy;
use tokio_asyncio_bridge::policy::stop::StopReason;
use tokio_asyncio_bridge::row::{Answer, Outcome, Row, RowHash, Usage, Value};

const SECOND: Duration = Duration::from_secs(1);
const LATENCY: Duration = Duration::from_millis(50);

type Reply = Result<(), CallError>;

/// Answers as its script says by the time of arrival: what is refused at once, what is answered after [`LATENCY`], what
/// never (a timeout).
struct Server<F> {
    started: Instant,
    script: Mutex<F>,
    /// When each request came, whose it was, and whether it was answered.
    log: Arc<Mutex<Vec<(Duration, u64, bool)>>>,
    usage: Option<Usage>,
}

impl<F: FnMut(Duration, u64) -> Reply + Send + 'static> Bridge for Server<F> {
    async fn call(&self, attempt: Attempt) -> Result<Answer, CallError> {
        attempt.clock.begin();
        let now = self.started.elapsed();
        let reply = (self.script.lock().unwrap())(now, attempt.row);
        self.log.lock().unwrap().push((now, attempt.row, reply.is_ok()));
        if let Err(CallError::Timeout(_)) = reply {
            pending::<()>().await;
        }
        sleep(if reply.is_ok() { LATENCY } else { Duration::from_millis(2) }).await;
        // The further parts of a program.
        for _ in 1..self.usage.filter(|_| reply.is_ok()).map_or(1, |usage| usage.calls) {
            self.log.lock().unwrap().push((self.started.elapsed(), attempt.row, true));
            sleep(LATENCY).await;
        }
        attempt.clock.end();
        reply.map(|()| Answer {
            fields: Vec::new(),
            usage: self.usage,
            first_chunk: None,
            finish_reason: None,
        })
    }

    fn stalled(&self) -> Duration {
        Duration::ZERO
    }

    fn stalled_now(&self) -> Duration {
        Duration::ZERO
    }
}

fn error(kind: FailureKind, retry_after: Option<Duration>) -> CallError {
    CallError::Predictor(Box::new(PredictorError {
        class: format!("{kind:?}").into(),
        message: "scripted".to_owned(),
        kind,
        status: None,
        retry_after,
        usage: None,
        unanswered: None,
        traceback: None,
    }))
}

fn down() -> Reply {
    Err(error(FailureKind::Unavailable, None))
}

fn hung() -> Reply {
    Err(CallError::Timeout(Duration::ZERO))
}

/// A fixed window of so many requests every two seconds, as mocklimit has it: Retry-After in whole seconds, or none.
fn window(requests: u32, tells: bool) -> impl FnMut(Duration, u64) -> Reply + Send {
    let mut window = (0, 0);
    move |now, _| {
        let current = now.as_millis() / 2_000;
        if window.0 != current {
            window = (current, 0);
        }
        if window.1 < requests {
            window.1 += 1;
            return Ok(());
        }
        let reset = Duration::from_millis((2_000 - now.as_millis() % 2_000) as u64);
        let seconds = Duration::from_secs(reset.as_secs_f64().ceil() as u64);
        Err(error(FailureKind::Throttled, tells.then_some(seconds)))
    }
}

fn settings(concurrency: usize) -> EngineSettings {
    EngineSettings {
        concurrency,
        timeout: 60 * SECOND,
        clock: Clock::Handover,
        row_timeout: None,
        stuck_after: 10 * SECOND,
        retry: RetryPolicy { retries: 3, base: SECOND, cap: 60 * SECOND },
        rates: Rates::default(),
        requests: RequestsACall::ONE,
        seed: 7,
    }
}

struct Ended {
    outcomes: HashMap<u64, Outcome>,
    log: Vec<(Duration, u64, bool)>,
    took: Duration,
    limited: LimitedFor,
    unreachable: Option<StopReason>,
}

impl Ended {
    fn answered(&self) -> usize {
        self.outcomes.values().filter(|outcome| outcome.result.is_ok()).count()
    }

    fn requests_a_row(&self) -> f64 {
        self.log.len() as f64 / self.outcomes.len() as f64
    }
}

/// Runs the rows with twice the concurrency in hand, until all have ended or the server counts as unreachable.
async fn run<F>(script: F, settings: EngineSettings, rows: u64, usage: Option<Usage>) -> Ended
where
    F: FnMut(Duration, u64) -> Reply + Send + 'static,
{
    let (log, started) = (Arc::default(), Instant::now());
    let server = Server { started, script: Mutex::new(script), log: Arc::clone(&log), usage };
    let engine = Arc::new(Engine::new(Arc::new(server), settings));
    let (sender, mut events) = mpsc::channel(16);
    let mut next = 0..rows;
    let spawn = |id: Option<u64>| {
        let Some(id) = id else { return engine.all_asked() };
        let arguments = vec![("question".into(), Value::Text(format!("question {id}")))];
        let row = Row { id, line: id + 1, hash: RowHash(id), arguments: Ok(Arc::new(arguments)) };
        tokio::spawn(Arc::clone(&engine).run(row, sender.clone()));
    };
    (0..2 * settings.concurrency).for_each(|_| spawn(next.next()));
    let mut outcomes = HashMap::new();
    let mut unreachable = None;
    let mut in_hand = 2 * settings.concurrency;
    while (outcomes.len() as u64) < rows && unreachable.is_none() {
        tokio::select! {
            event = events.recv() => {
                if let Some(Event::Finished(outcome)) = event {
                    assert!(outcomes.insert(outcome.row, *outcome).is_none());
                    engine.recorded(1);
                    in_hand -= 1;
                }
                while in_hand < 2 * settings.concurrency + engine.wants_fresh() {
                    spawn(next.next());
                    in_hand += 1;
                }
            }
            () = sleep(SECOND / 10) => unreachable = engine.unreachable(),
        }
    }
    engine.kill();
    let log = log.lock().unwrap().clone();
    Ended { outcomes, log, took: started.elapsed(), limited: engine.limited_for(), unreachable }
}

#[tokio::test(start_paused = true)]
async fn a_429_storm_costs_few_refusals_and_no_window_is_left_unused() {
    for offset in [0, 300, 700, 1_100, 1_900] {
        let mut window = window(50, true);
        let shifted = move |now, row| window(now + Duration::from_millis(offset), row);
        let ended = run(shifted, settings(64), 400, None).await;
        assert_eq!(ended.answered(), 400);
        assert!(ended.requests_a_row() <= 1.1, "{offset}: {}", ended.requests_a_row());
        assert!(ended.took < 17 * SECOND, "{offset}: {:?}", ended.took);
        assert!(ended.limited.server > 10 * SECOND, "{:?}", ended.limited);
    }
}

#[tokio::test(start_paused = true)]
async fn no_request_is_made_before_a_retry_after() {
    let ended = run(window(50, true), settings(64), 400, None).await;
    for (refused, _, _) in ended.log.iter().filter(|(_, _, ok)| !ok) {
        let reset = refused.as_millis() % 2_000;
        let until = *refused + if reset < 1_000 { 2 * SECOND } else { SECOND };
        // Calls that had left when the refusal came are no news.
        let told = *refused + Duration::from_millis(3);
        assert!(ended.log.iter().all(|(at, _, _)| *at <= told || *at >= until), "{refused:?} to {until:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_retry_after_a_storm_is_lived_through_at_fewer_in_flight() {
    let ended = run(window(50, false), settings(64), 400, None).await;
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
        let resumed = ended.log.iter().find(|(at, _, ok)| *at > end && *ok).unwrap().0;
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
        // Those in flight, those that went on until it was noticed, and a probe a minute.
        let wasted = ended.log.len() - rows as usize;
        assert!(wasted <= 2 * concurrency + 12, "at {concurrency}: {wasted}");
        let resumed = ended.log.iter().find(|(at, _, ok)| *at > end && *ok).unwrap().0;
        assert!(resumed < end + 70 * SECOND, "at {concurrency}: {resumed:?}");
        // At one call at a time a row waits for the probe as for any call.
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
        assert!(after.0.saturating_sub(first.0) >= Duration::from_millis(59_998));
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
            let minute = after.0.saturating_sub(first.0);
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
