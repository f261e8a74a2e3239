//! A bridge without Python, with seeded latencies and a script of failures. It tests the engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{Bridge, Call, Description, Health, LaneHealth, Reply};
use crate::call::Attempt;
use crate::error::{BridgeError, CallError, Failure, FailureKind};
use crate::input::Parameter;
use crate::outcome::Answer;
use crate::row::Value;

/// How the scripted predictor behaves. Parsed from `--bridge fake:KEY=VALUE,…`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Script {
    /// The seed of everything random.
    pub seed: u64,
    /// The shortest latency.
    pub min: Duration,
    /// The longest latency. Latencies are uniform between the two.
    pub max: Duration,
    /// The share of attempts that fail transiently, 0 to 1.
    pub transient: f64,
    /// The share of rows all of whose attempts fail permanently, 0 to 1.
    pub permanent: f64,
    /// The share of attempts that never end, 0 to 1.
    pub hang: f64,
    /// The share of attempts whose lane dies, 0 to 1.
    pub lost: f64,
    /// The share of rows that are found to end the process that calls them, 0 to 1.
    pub crash: f64,
    /// The share of rows that block their event loop until it is ended, 0 to 1.
    pub blocked: f64,
    /// The calls of every Nth row panic: with 10, those of rows 9, 19 and so on. 0 for none.
    pub panic: u64,
    /// How many workers it says that it has, among which the rows go round. 0 for none.
    pub workers: u64,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            seed: 0,
            min: Duration::ZERO,
            max: Duration::ZERO,
            transient: 0.0,
            permanent: 0.0,
            hang: 0.0,
            lost: 0.0,
            crash: 0.0,
            blocked: 0.0,
            panic: 0,
            workers: 0,
        }
    }
}

impl std::str::FromStr for Script {
    type Err = String;

    /// `seed=1,min=5ms,max=20ms,transient=0.1,permanent=0.01,hang=0.001,lost=0.001,crash=0.01,blocked=0.01,panic=100,
    /// workers=2`, each optional.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut script = Self::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').ok_or_else(|| format!("`{part}` is no `KEY=VALUE`"))?;
            let duration = || humantime::parse_duration(value).map_err(|error| format!("`{part}`: {error}"));
            let share = || value.parse::<f64>().map_err(|error| format!("`{part}`: {error}"));
            match key {
                "seed" => script.seed = value.parse().map_err(|error| format!("`{part}`: {error}"))?,
                "min" => script.min = duration()?,
                "max" => script.max = duration()?,
                "transient" => script.transient = share()?,
                "permanent" => script.permanent = share()?,
                "hang" => script.hang = share()?,
                "lost" => script.lost = share()?,
                "crash" => script.crash = share()?,
                "blocked" => script.blocked = share()?,
                "panic" => script.panic = value.parse().map_err(|error| format!("`{part}`: {error}"))?,
                "workers" => script.workers = value.parse().map_err(|error| format!("`{part}`: {error}"))?,
                _ => return Err(format!("the fake bridge has no setting `{key}`")),
            }
        }
        script.max = script.max.max(script.min);
        Ok(script)
    }
}

/// Answers every call with its first argument, as its script says.
#[derive(Debug)]
pub struct ScriptedBridge {
    script: Script,
    description: Description,
    answer: Arc<str>,
    lanes: Vec<Arc<Lane>>,
    closed: CancellationToken,
}

/// What its lane counts. Each call that has not ended holds one more reference.
#[derive(Debug, Default)]
struct Lane {
    made: AtomicU64,
    answered: AtomicU64,
    deaths: AtomicU64,
}

impl ScriptedBridge {
    /// A bridge that follows the script.
    pub fn new(script: Script) -> Self {
        let description = Description {
            bridge: "fake".to_owned(),
            workers: script.workers,
            event_loop: "none".to_owned(),
            spec: "fake".to_owned(),
            kind: "the fake bridge".to_owned(),
            parameters: vec![Parameter { name: "question".to_owned(), required: true, kind: None }],
            ..Description::default()
        };
        Self {
            script,
            description,
            answer: "answer".into(),
            lanes: (0..script.workers.max(1)).map(|_| Arc::default()).collect(),
            closed: CancellationToken::new(),
        }
    }
}

fn failure(class: &str, kind: FailureKind) -> CallError {
    CallError::Predictor(Box::new(Failure::new(class, kind, "as the script says")))
}

impl Script {
    /// One call.
    async fn call(self, attempt: Attempt, field: Arc<str>, lane: Arc<Lane>) -> Reply {
        lane.made.fetch_add(1, Ordering::Relaxed);
        // One generator for the row and one for the attempt, so that the script does not depend on the order of the
        // calls.
        let row_seed = self.seed ^ attempt.row.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut row = fastrand::Rng::with_seed(row_seed);
        let mut rng = fastrand::Rng::with_seed(row_seed.rotate_left(17) ^ u64::from(attempt.number));
        // By Tokio's clock, which tests pause.
        let handed_over = Instant::now();
        attempt.clock.begun_after(Duration::ZERO);
        if self.max > Duration::ZERO {
            let spread = self.max.saturating_sub(self.min).mul_f64(rng.f64());
            sleep(self.min + spread).await;
        }
        assert!(self.panic == 0 || attempt.row % self.panic != self.panic - 1, "as the script says");
        if rng.f64() < self.hang {
            std::future::pending::<()>().await;
        }
        // These are drawn only if they are asked for, so that other draws stay the same.
        if self.lost > 0.0 && rng.f64() < self.lost {
            lane.deaths.fetch_add(1, Ordering::Relaxed);
            return Err(CallError::Lost("the lane died, as the script says".to_owned()));
        }
        if self.crash > 0.0 && row.f64() < self.crash {
            lane.deaths.fetch_add(1, Ordering::Relaxed);
            return Err(CallError::Crash("the process that called it died, as the script says".to_owned()));
        }
        if self.blocked > 0.0 && row.f64() < self.blocked {
            let failure =
                Failure::blocked(Duration::from_secs(65), "predictor.py:7 in ask: while True: pass");
            return Err(CallError::Predictor(Box::new(failure)));
        }
        attempt.clock.ended_after(handed_over.elapsed());
        if row.f64() < self.permanent {
            return Err(failure("ScriptedPermanent", FailureKind::Permanent));
        }
        if rng.f64() < self.transient {
            return Err(failure("ScriptedTransient", FailureKind::Transient));
        }
        let value =
            attempt.arguments.first().map_or_else(|| Value::Text(String::new()), |(_, value)| value.clone());
        lane.answered.fetch_add(1, Ordering::Relaxed);
        Ok(Answer { fields: vec![(field, value)], ..Answer::default() })
    }
}

impl Bridge for ScriptedBridge {
    fn describe(&self) -> &Description {
        &self.description
    }

    fn submit(&self, attempt: Attempt) -> Call {
        let lane = &self.lanes[attempt.row as usize % self.lanes.len()];
        let call = self.script.call(attempt, Arc::clone(&self.answer), Arc::clone(lane));
        let closed = self.closed.clone();
        Call::driven(async move {
            closed.run_until_cancelled(call).await.unwrap_or_else(|| Err(BridgeError::LoopStopped.into()))
        })
    }

    fn health(&self) -> Health {
        let lane = |lane: &Arc<Lane>| LaneHealth {
            calls: Arc::strong_count(lane) as u64 - 1,
            made: lane.made.load(Ordering::Relaxed),
            answered: lane.answered.load(Ordering::Relaxed),
            deaths: lane.deaths.load(Ordering::Relaxed),
            ..LaneHealth::default()
        };
        Health { lanes: self.lanes.iter().map(lane).collect(), ..Health::default() }
    }

    /// The calls end when they are next polled, so that there is nothing to wait for.
    fn close(&self, _: Duration) -> bool {
        self.closed.cancel();
        true
    }
}

impl Drop for ScriptedBridge {
    fn drop(&mut self) {
        self.closed.cancel();
    }
}
