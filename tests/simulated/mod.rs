//! Runs the real engine on Tokio's paused clock against a simulated server, so that a minute takes milliseconds however
//! busy the machine is. `tests/pacing.rs`, `tests/strays.rs` and `benches/storm.rs` use it.
#![allow(dead_code, reason = "not everyone uses all of it")]

pub(crate) mod servers;

use std::collections::HashMap;
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_asyncio_bridge::bridge::{Attempt, Bridge, Call, Description, Health};
use tokio_asyncio_bridge::engine::{
    Clock, Engine, EngineSettings, Rates, RequestsACall, RetryPolicy, Since, StopReason,
};
use tokio_asyncio_bridge::error::{CallError, Failure, FailureKind};
use tokio_asyncio_bridge::job::{Event, LimitedFor};
use tokio_asyncio_bridge::outcome::{Answer, Outcome};
use tokio_asyncio_bridge::row::{Row, RowHash, Value};
use tokio_asyncio_bridge::usage::Usage;

pub(crate) const SECOND: Duration = Duration::from_secs(1);
/// How long an answer takes unless the server says otherwise.
pub(crate) const LATENCY: Duration = Duration::from_millis(50);
/// How long a refusal takes.
pub(crate) const REFUSAL: Duration = Duration::from_millis(2);

pub(crate) type Reply = Result<(), CallError>;

/// Decides on a row's request when it arrives: its reply, and how long that takes. A reply of a timeout never comes.
pub(crate) trait Script: FnMut(Duration, u64) -> (Reply, Duration) + Send + 'static {}
impl<F: FnMut(Duration, u64) -> (Reply, Duration) + Send + 'static> Script for F {}

/// One request that a server saw.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// When it came.
    pub(crate) at: Duration,
    /// When its reply arrived.
    pub(crate) replied: Duration,
    pub(crate) row: u64,
    pub(crate) answered: bool,
    /// Whether it was a 429.
    pub(crate) refused: bool,
    pub(crate) retry_after: Option<Duration>,
}

struct Server<F> {
    started: Instant,
    script: Mutex<F>,
    log: Arc<Mutex<Vec<Request>>>,
    usage: Option<Usage>,
}

/// A bridge to a server.
struct ToServer<F>(Arc<Server<F>>);

impl<F: Script> Server<F> {
    fn note(&self, row: u64, reply: &Reply, after: Duration) {
        let at = self.started.elapsed();
        let error = reply.as_ref().err();
        self.log.lock().unwrap().push(Request {
            at,
            replied: at + after,
            row,
            answered: reply.is_ok(),
            refused: error.is_some_and(|error| error.kind() == FailureKind::Throttled),
            retry_after: error.and_then(CallError::retry_after),
        });
    }

    async fn call(self: Arc<Self>, attempt: Attempt) -> Result<Answer, CallError> {
        attempt.clock.begin();
        let (reply, after) = (self.script.lock().unwrap())(self.started.elapsed(), attempt.row);
        self.note(attempt.row, &reply, after);
        if let Err(CallError::Timeout(_)) = reply {
            pending::<()>().await;
        }
        sleep(after).await;
        // A program of several parts makes further requests.
        for _ in 1..self.usage.filter(|_| reply.is_ok()).map_or(1, |usage| usage.calls) {
            self.note(attempt.row, &reply, after);
            sleep(after).await;
        }
        attempt.clock.end();
        reply.map(|()| Answer { usage: self.usage, ..Answer::default() })
    }
}

impl<F: Script> Bridge for ToServer<F> {
    fn describe(&self) -> &Description {
        unreachable!("the engine does not ask")
    }

    fn submit(&self, attempt: Attempt) -> Call {
        Call::driven(Arc::clone(&self.0).call(attempt))
    }

    fn health(&self) -> Health {
        Health::default()
    }

    fn close(&self, _: Duration) -> bool {
        true
    }
}

pub(crate) fn error(kind: FailureKind, retry_after: Option<Duration>) -> CallError {
    CallError::Predictor(Box::new(Failure {
        retry_after,
        ..Failure::new(format!("{kind:?}"), kind, "scripted")
    }))
}

/// A server that answers after [`LATENCY`] and refuses after [`REFUSAL`], as the script says.
pub(crate) fn at_once(mut script: impl FnMut(Duration, u64) -> Reply + Send + 'static) -> impl Script {
    move |now, row| {
        let reply = script(now, row);
        let after = if reply.is_ok() { LATENCY } else { REFUSAL };
        (reply, after)
    }
}

pub(crate) fn settings(concurrency: usize) -> EngineSettings {
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

/// How a run ended.
pub(crate) struct Ended {
    pub(crate) outcomes: HashMap<u64, Outcome>,
    pub(crate) log: Vec<Request>,
    pub(crate) took: Duration,
    pub(crate) limited: LimitedFor,
    pub(crate) unreachable: Option<StopReason>,
}

impl Ended {
    pub(crate) fn answered(&self) -> usize {
        self.outcomes.values().filter(|outcome| outcome.result.is_ok()).count()
    }

    pub(crate) fn requests_a_row(&self) -> f64 {
        self.log.len() as f64 / self.outcomes.len() as f64
    }

    pub(crate) fn refused(&self) -> usize {
        self.log.iter().filter(|request| request.refused).count()
    }

    /// The shortest time by which a row was asked again before the Retry-After that it had been given, if any was.
    pub(crate) fn early(&self) -> Option<Duration> {
        let mut until: HashMap<u64, Duration> = HashMap::new();
        let mut early = None;
        for Request { at, replied, row, retry_after, .. } in &self.log {
            if let Some(until) = until.get(row).filter(|until| at < until) {
                early = early.max(Some(until.saturating_sub(*at)));
            }
            if let Some(asked) = retry_after {
                until.insert(*row, *replied + *asked);
            }
        }
        early
    }
}

/// Runs the rows with twice the concurrency in hand, until all have ended or the server counts as unreachable.
pub(crate) async fn run(
    script: impl Script,
    settings: EngineSettings,
    rows: u64,
    usage: Option<Usage>,
) -> Ended {
    let (log, started) = (Arc::default(), Instant::now());
    let server = Server { started, script: Mutex::new(script), log: Arc::clone(&log), usage };
    let engine = Arc::new(Engine::new(Arc::new(ToServer(Arc::new(server))), settings));
    let (sender, mut events) = mpsc::channel(16);
    let mut next = 0..rows;
    let spawn = |id: Option<u64>| {
        let Some(id) = id else { return engine.admission.all_asked() };
        let arguments = vec![("question".into(), Value::Text(format!("question {id}")))];
        let row = Row { id, line: id + 1, hash: RowHash(id), arguments: Ok(Arc::new(arguments)) };
        let since = Since { read: Instant::now(), first_call: started };
        tokio::spawn(Arc::clone(&engine).run(row, since, sender.clone()));
    };
    (0..2 * settings.concurrency).for_each(|_| spawn(next.next()));
    let mut outcomes = HashMap::new();
    let mut unreachable = None;
    let mut in_hand = 2 * settings.concurrency;
    while (outcomes.len() as u64) < rows && unreachable.is_none() {
        tokio::select! {
            event = events.recv() => {
                if let Some(Event::Finished { outcome, permit }) = event {
                    assert!(outcomes.insert(outcome.row, *outcome).is_none());
                    drop(permit);
                    in_hand -= 1;
                }
                while in_hand < 2 * settings.concurrency + engine.wants_fresh() {
                    spawn(next.next());
                    in_hand += 1;
                }
            }
            () = sleep(SECOND / 10) => unreachable = engine.admission.unreachable(),
        }
    }
    engine.kill();
    let log = log.lock().unwrap().clone();
    Ended { outcomes, log, took: started.elapsed(), limited: engine.admission.limited_for(), unreachable }
}

/// Does the same where there is no runtime.
pub(crate) fn run_to_end(script: impl Script, settings: EngineSettings, rows: u64) -> Ended {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().unwrap();
    runtime.block_on(run(script, settings, rows, None))
}
