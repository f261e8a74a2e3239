//! The engine on the scripted bridge, on paused time: permits, timeouts, retries, lanes that die or stall, stopping.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use proptest::prelude::*;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_asyncio_bridge::bridge::scripted::{Script, ScriptedBridge};
use tokio_asyncio_bridge::bridge::{Attempt, Bridge, Call, Description, Health, Lane, LaneHealth};
use tokio_asyncio_bridge::engine::{Clock, Engine, EngineSettings, Rates, RequestsACall, RetryPolicy, Since};
use tokio_asyncio_bridge::error::{BridgeError, Failure};
use tokio_asyncio_bridge::job::Event;
use tokio_asyncio_bridge::outcome::{Answer, Outcome};
use tokio_asyncio_bridge::row::{Row, RowHash, Value};

const SECOND: Duration = Duration::from_secs(1);

fn settings() -> EngineSettings {
    let retry = RetryPolicy { retries: 3, base: SECOND, cap: 60 * SECOND };
    EngineSettings {
        concurrency: 10,
        timeout: 60 * SECOND,
        clock: Clock::Handover,
        row_timeout: None,
        stuck_after: 10 * SECOND,
        retry,
        rates: Rates::default(),
        requests: RequestsACall::ONE,
        seed: 7,
    }
}

fn row(id: u64) -> Row {
    let arguments = vec![("question".into(), Value::Text(format!("question {id}")))];
    Row { id, line: id + 1, hash: RowHash(id), arguments: Ok(Arc::new(arguments)) }
}

/// A row that is read now is the first to be called.
fn now() -> Since {
    Since { read: Instant::now(), first_call: Instant::now() }
}

#[derive(Default)]
struct Ended {
    outcomes: HashMap<u64, Outcome>,
    unfinished: Vec<u64>,
    panicked: Vec<(u64, String)>,
    /// The row and the error's class of each attempt that was tried again.
    retried: Vec<(u64, Arc<str>)>,
    took: Duration,
}

/// Runs the rows at once, as a dispatcher without bounds would; `act` may stop the engine meanwhile.
async fn run<F>(
    script: Script,
    settings: EngineSettings,
    rows: u64,
    act: impl FnOnce(Arc<Engine>) -> F,
) -> Ended
where
    F: Future<Output = ()> + Send + 'static,
{
    let engine = Arc::new(Engine::new(Arc::new(ScriptedBridge::new(script)), settings));
    let (sender, mut events) = mpsc::channel(16);
    let started = Instant::now();
    for id in 0..rows {
        tokio::spawn(Arc::clone(&engine).run(row(id), now(), sender.clone()));
    }
    drop(sender);
    tokio::spawn(act(Arc::clone(&engine)));
    let mut ended = Ended::default();
    while let Some(event) = events.recv().await {
        match event {
            Event::Retrying { attempt, .. } => ended.retried.push((attempt.row, attempt.failure.class)),
            Event::Finished { outcome, .. } => {
                assert!(ended.outcomes.insert(outcome.row, *outcome).is_none());
            }
            Event::Blocked { blockage, .. } => panic!("{blockage:?}"),
            Event::Broken { error, .. } => panic!("{error}"),
            Event::Unfinished { row, .. } => ended.unfinished.push(row),
            Event::Panicked { row, text } => ended.panicked.push((row, text)),
        }
    }
    ended.took = started.elapsed();
    assert!(engine.gauges.most_in_flight.load(Ordering::Relaxed) <= settings.concurrency);
    assert_eq!(engine.gauges.in_flight.load(Ordering::Relaxed), 0);
    ended
}

async fn nothing(_: Arc<Engine>) {}

fn latency(duration: Duration) -> Script {
    Script { min: duration, max: duration, ..Script::default() }
}

#[tokio::test(start_paused = true)]
async fn a_hundred_rows_of_one_second_at_ten_at_once_take_ten_seconds() {
    let ended = run(latency(SECOND), settings(), 100, nothing).await;
    assert_eq!(ended.outcomes.len(), 100);
    assert!(ended.took >= 10 * SECOND && ended.took < 11 * SECOND, "{:?}", ended.took);
    let queued: Duration = ended.outcomes.values().map(|outcome| outcome.timing.queued).sum();
    assert!(queued > 400 * SECOND, "{queued:?}");
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_told_with_its_row_and_keeps_no_permit() {
    let script = Script { panic: 25, ..latency(SECOND) };
    let settings = EngineSettings { concurrency: 1, ..settings() };
    let ended = run(script, settings, 100, nothing).await;
    let panicked: Vec<_> = ended.panicked.iter().map(|(row, text)| (*row, &**text)).collect();
    assert_eq!(panicked, [24, 49, 74, 99].map(|row| (row, "as the script says")));
    assert_eq!(ended.outcomes.len(), 96);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_over_its_timeout_fails_as_a_timeout_and_is_retried() {
    let settings = EngineSettings { timeout: 2 * SECOND, ..settings() };
    let ended = run(Script { hang: 1.0, ..Script::default() }, settings, 1, nothing).await;
    let outcome = &ended.outcomes[&0];
    let failure = outcome.failure().unwrap();
    assert_eq!((&*failure.class, &*failure.message), ("timeout", "no answer within 2s"));
    assert_eq!((outcome.attempts, ended.retried.len()), (4, 3));
    assert!(outcome.timing.running >= 8 * SECOND, "{:?}", outcome.timing);
}

#[tokio::test(start_paused = true)]
async fn a_row_timeout_bounds_all_attempts_together() {
    let settings = EngineSettings { row_timeout: Some(5 * SECOND), timeout: 2 * SECOND, ..settings() };
    let ended = run(Script { hang: 1.0, ..Script::default() }, settings, 1, nothing).await;
    assert!(ended.took <= 5 * SECOND + SECOND / 10, "{:?}", ended.took);
    assert!(ended.outcomes[&0].result.is_err());
}

/// A bridge that makes a call like this.
struct Calling(fn(Attempt) -> Call);

impl Bridge for Calling {
    fn describe(&self) -> &Description {
        unreachable!("the engine does not ask")
    }

    fn submit(&self, attempt: Attempt) -> Call {
        (self.0)(attempt)
    }

    fn health(&self) -> Health {
        Health::default()
    }

    fn close(&self, _: Duration) -> bool {
        true
    }
}

#[tokio::test(start_paused = true)]
async fn a_row_timeout_holds_also_for_a_call_that_does_not_begin() {
    let settings = EngineSettings { clock: Clock::Begin, row_timeout: Some(5 * SECOND), ..settings() };
    let never_begins = Calling(|_| Call::driven(std::future::pending()));
    let engine = Arc::new(Engine::new(Arc::new(never_begins), settings));
    let (sender, mut events) = mpsc::channel(16);
    let started = Instant::now();
    tokio::spawn(Arc::clone(&engine).run(row(0), now(), sender));
    let event = tokio::time::timeout(60 * SECOND, events.recv()).await.unwrap();
    assert!(matches!(event, Some(Event::Finished { outcome, .. }) if outcome.result.is_err()));
    assert!(started.elapsed() < 6 * SECOND, "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn the_parts_add_up_also_where_a_call_is_said_to_have_ended_after_its_reply_came() {
    let measured_elsewhere = Calling(|attempt| {
        Call::driven(async move {
            tokio::time::sleep(3 * SECOND).await;
            attempt.clock.begun_after(2 * SECOND);
            attempt.clock.ended_after(4 * SECOND);
            Ok(Answer::default())
        })
    });
    let engine = Arc::new(Engine::new(Arc::new(measured_elsewhere), settings()));
    let (sender, mut events) = mpsc::channel(16);
    tokio::spawn(Arc::clone(&engine).run(row(0), now(), sender));
    let Some(Event::Finished { outcome, .. }) = events.recv().await else { panic!("it has no outcome") };
    let timing = outcome.timing;
    assert_eq!((timing.running, timing.bridge), (2 * SECOND, SECOND));
}

#[tokio::test(start_paused = true)]
async fn a_lost_call_is_tried_again_at_once_and_uses_up_no_retry() {
    let retry = RetryPolicy { retries: 0, ..settings().retry };
    let once = EngineSettings { retry, ..settings() };
    let ended = run(Script { lost: 0.5, ..latency(SECOND) }, once, 100, nothing).await;
    assert!(ended.retried.len() > 50 && ended.outcomes.len() == 100);
    assert!(ended.retried.iter().all(|(_, class)| &**class == "lost"));
    // Some 200 calls at ten a time: no row waited for a backoff.
    assert!(ended.took < 30 * SECOND, "{:?}", ended.took);
    // No row pays for the calls of others that were lost.
    for (id, outcome) in &ended.outcomes {
        let lost = ended.retried.iter().filter(|(row, _)| row == id).count();
        assert!(outcome.result.is_ok() && outcome.attempts as usize == lost + 1, "{outcome:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_row_whose_calls_are_always_lost_ends_some_day_and_says_nothing_of_the_server() {
    let ended = run(Script { lost: 1.0, ..latency(SECOND) }, settings(), 100, async |engine| {
        tokio::time::sleep(SECOND * 20).await;
        assert!(engine.admission.outage().is_none());
    })
    .await;
    let lost = |outcome: &Outcome| outcome.failure().is_some_and(|failure| &*failure.class == "lost");
    // Those that are excused, the retries, and the last.
    assert!(ended.outcomes.values().all(|it| lost(it) && it.attempts == 20 + 3 + 1 && !it.abandoned));
    assert_eq!(ended.retried.len(), 100 * 23);
}

#[tokio::test(start_paused = true)]
async fn a_row_that_ends_its_process_or_blocks_its_loop_is_not_tried_again_and_only_the_first_is_set_aside() {
    let ended = run(Script { crash: 0.3, blocked: 0.3, ..latency(SECOND) }, settings(), 100, nothing).await;
    assert_eq!(ended.retried, []);
    let mut seen = HashMap::<String, usize>::new();
    for outcome in ended.outcomes.values() {
        let class = outcome.failure().map_or_else(String::new, |failure| failure.class.to_string());
        assert_eq!((outcome.attempts, outcome.set_aside), (1, class == "crash"), "{outcome:?}");
        assert_eq!(outcome.failure().is_some_and(Failure::is_untold), !class.is_empty(), "it may be billed");
        *seen.entry(class).or_default() += 1;
    }
    assert!(["", "crash", "blocked"].iter().all(|class| seen[*class] > 10), "{seen:?}");
}

/// A lane that does not turn in one span of the test's time.
#[derive(Debug)]
struct Stalls {
    origin: Instant,
    span: std::ops::Range<Duration>,
}

impl Lane for Stalls {
    fn stalled_by(&self, _: std::time::Instant) -> Duration {
        self.origin.elapsed().min(self.span.end).saturating_sub(self.span.start)
    }

    fn stalled_now(&self) -> Duration {
        if self.origin.elapsed() < self.span.end {
            self.stalled_by(std::time::Instant::now())
        } else {
            Duration::ZERO
        }
    }
}

/// Two lanes: a row's first attempt runs on that of its number, the second on the other one. Nothing is answered on the
/// first, and whatever the other one is asked, unless it hangs.
struct TwoLanes {
    lanes: [Arc<Stalls>; 2],
    hangs: bool,
}

#[derive(Debug, Default)]
struct OnTwoLanes {
    /// In the order of their ends, and when these were.
    outcomes: Vec<(Outcome, Duration)>,
    retried: Vec<(u64, Arc<str>)>,
    broken: Vec<BridgeError>,
}

impl TwoLanes {
    fn stalled(spans: [std::ops::Range<Duration>; 2], hangs: bool) -> Self {
        Self { lanes: spans.map(|span| Arc::new(Stalls { origin: Instant::now(), span })), hangs }
    }

    /// What rows 0 and 1 come to.
    async fn run(self, settings: EngineSettings) -> OnTwoLanes {
        let engine = Arc::new(Engine::new(Arc::new(self), settings));
        let (sender, mut events) = mpsc::channel(16);
        let started = Instant::now();
        for id in 0..2 {
            tokio::spawn(Arc::clone(&engine).run(row(id), now(), sender.clone()));
        }
        drop(sender);
        let mut ended = OnTwoLanes::default();
        while let Some(event) = events.recv().await {
            match event {
                Event::Finished { outcome, .. } => ended.outcomes.push((*outcome, started.elapsed())),
                Event::Retrying { attempt, .. } => ended.retried.push((attempt.row, attempt.failure.class)),
                Event::Broken { error, .. } => ended.broken.push(error),
                _ => {}
            }
        }
        ended
    }
}

impl Bridge for TwoLanes {
    fn describe(&self) -> &Description {
        unreachable!("the engine does not ask")
    }

    fn submit(&self, attempt: Attempt) -> Call {
        let lane = (attempt.row as usize + attempt.number as usize - 1) % 2;
        attempt.clock.runs_on(Arc::clone(&self.lanes[lane]) as Arc<dyn Lane>);
        let hangs = lane == 0 || self.hangs;
        Call::driven(async move {
            if hangs {
                std::future::pending::<()>().await;
            }
            drop(attempt);
            Ok(Answer::default())
        })
    }

    fn health(&self) -> Health {
        let lane =
            |lane: &Arc<Stalls>| LaneHealth { stalled_now: lane.stalled_now(), ..LaneHealth::default() };
        Health { lanes: self.lanes.iter().map(lane).collect(), ..Health::default() }
    }

    fn close(&self, _: Duration) -> bool {
        true
    }
}

#[tokio::test(start_paused = true)]
async fn the_stall_of_a_loop_excuses_its_own_calls_and_no_others() {
    let retry = RetryPolicy { retries: 0, ..settings().retry };
    let settings = EngineSettings { timeout: 2 * SECOND, retry, ..settings() };
    let ended =
        TwoLanes::stalled([SECOND..4 * SECOND, Duration::ZERO..Duration::ZERO], true).run(settings).await;
    let [(first, after_two), (second, after_five)] = &ended.outcomes[..] else { panic!("{ended:?}") };
    assert_eq!((first.row, second.row), (1, 0));
    assert!([first, second].iter().all(|outcome| &*outcome.failure().unwrap().class == "timeout"));
    assert!(*after_two < 3 * SECOND, "{after_two:?}");
    assert!(*after_five >= 5 * SECOND && *after_five < 6 * SECOND, "{after_five:?}");
}

#[tokio::test(start_paused = true)]
async fn the_calls_of_a_stuck_loop_are_lost_where_another_loop_turns_and_else_the_bridge_is_broken() {
    let settings = EngineSettings { timeout: 2 * SECOND, ..settings() };
    let forever = || Duration::ZERO..100 * SECOND;
    let ended = TwoLanes::stalled([forever(), Duration::ZERO..Duration::ZERO], false).run(settings).await;
    let [(other, _), (held, _)] = &ended.outcomes[..] else { panic!("{ended:?}") };
    assert!(other.result.is_ok() && other.attempts == 1, "{other:?}");
    assert!(held.result.is_ok() && held.attempts == 2 && !held.abandoned, "{held:?}");
    assert_eq!(ended.retried, [(held.row, "lost".into())]);
    let ended = TwoLanes::stalled([forever(), forever()], true).run(settings).await;
    assert_eq!(ended.broken, [BridgeError::HandoverStuck; 2]);
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_permit_is_charged_to_no_timeout() {
    let settings =
        EngineSettings { concurrency: 1, timeout: 2 * SECOND, row_timeout: Some(2 * SECOND), ..settings() };
    let ended = run(latency(SECOND), settings, 50, nothing).await;
    assert!(ended.outcomes.values().all(|outcome| outcome.result.is_ok()));
}

#[tokio::test(start_paused = true)]
async fn a_row_that_waits_to_retry_holds_no_permit() {
    let retry = RetryPolicy { retries: 1, base: 1000 * SECOND, cap: 1000 * SECOND };
    let settings = EngineSettings { concurrency: 1, retry, ..settings() };
    let script = Script { transient: 0.5, ..latency(SECOND) };
    let ended = run(script, settings, 100, nothing).await;
    // Were the permit kept, some 50 waits of up to 1000 s would stand in line.
    assert!(ended.retried.len() > 20 && ended.took < 1200 * SECOND, "{:?}", ended.took);
}

#[tokio::test(start_paused = true)]
async fn the_next_call_waits_until_the_last_outcome_is_recorded() {
    let settings = EngineSettings { concurrency: 1, ..settings() };
    let engine = Arc::new(Engine::new(Arc::new(ScriptedBridge::new(latency(SECOND))), settings));
    let (sender, mut events) = mpsc::channel(16);
    for id in 0..2 {
        tokio::spawn(Arc::clone(&engine).run(row(id), now(), sender.clone()));
    }
    let first = events.recv().await;
    assert!(matches!(first, Some(Event::Finished { permit: Some(_), .. })));
    let next = tokio::time::timeout(100 * SECOND, events.recv()).await;
    assert!(next.is_err(), "{next:?}");
    drop(first);
    assert!(matches!(events.recv().await, Some(Event::Finished { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_stopped_engine_finishes_what_is_in_flight_and_leaves_the_rest_unfinished() {
    let ended = run(latency(10 * SECOND), settings(), 100, async |engine| {
        tokio::time::sleep(SECOND).await;
        engine.stop();
    })
    .await;
    assert_eq!((ended.outcomes.len(), ended.unfinished.len()), (10, 90));
    assert!(ended.took <= 11 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_killed_engine_leaves_everything_at_once() {
    let ended = run(latency(10 * SECOND), settings(), 100, async |engine| {
        tokio::time::sleep(SECOND).await;
        engine.kill();
    })
    .await;
    assert_eq!((ended.outcomes.len(), ended.unfinished.len()), (0, 100));
    assert!(ended.took < 2 * SECOND);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Rows in = answered + failed + unfinished, each once, whatever happens and whenever the run is stopped.
    #[test]
    fn no_row_is_lost_or_ended_twice(
        seed: u64, rows in 0u64..200, concurrency in 1usize..40, transient in 0.0..0.6f64, permanent in 0.0..0.3f64,
        hang in 0.0..0.2f64, stop_after in proptest::option::of(0u64..20_000), kill: bool,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let script = Script { seed, max: 3 * SECOND, transient, permanent, hang, ..Script::default() };
        let settings = EngineSettings { concurrency, timeout: 5 * SECOND, seed, ..settings() };
        let ended = runtime.block_on(run(script, settings, rows, async move |engine| {
            if let Some(after) = stop_after {
                tokio::time::sleep(Duration::from_millis(after)).await;
                if kill { engine.kill() } else { engine.stop() }
            }
        }));
        let mut seen: Vec<u64> = ended.outcomes.keys().copied().chain(ended.unfinished.iter().copied()).collect();
        seen.sort_unstable();
        prop_assert_eq!(seen, (0..rows).collect::<Vec<_>>());
        for (id, outcome) in &ended.outcomes {
            match &outcome.result {
                Ok(answer) => prop_assert_eq!(&answer.fields[0].1, &Value::Text(format!("question {id}"))),
                Err(_) => prop_assert!(outcome.attempts >= 1),
            }
        }
        if stop_after.is_none() {
            prop_assert!(ended.unfinished.is_empty());
        }
    }
}
