//! A bridge without Python: seeded latencies and a failure script. Proves the engine, and nothing else.

use std::sync::Arc;
use std::time::Duration;

use super::Bridge;
use crate::call::{Attempt, CallError, FailureKind, PredictorError};
use crate::row::{Answer, Value};

/// How the fake predictor behaves. Parsed from `--bridge fake:KEY=VALUE,…`.
#[derive(Debug, Clone, PartialEq)]
pub struct Script {
    /// Seed of everything random.
    pub seed: u64,
    /// Shortest latency.
    pub min: Duration,
    /// Longest latency; latencies are uniform between the two.
    pub max: Duration,
    /// Share of attempts that fail transiently, 0 to 1.
    pub transient: f64,
    /// Share of rows of which every attempt fails permanently, 0 to 1.
    pub permanent: f64,
    /// Share of attempts that never end, 0 to 1.
    pub hang: f64,
    /// The calls of every row of so many panic: of 10, rows 9, 19 and so on; 0 for none.
    pub panic: u64,
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
            panic: 0,
        }
    }
}

impl std::str::FromStr for Script {
    type Err = String;

    /// `seed=1,min=5ms,max=20ms,transient=0.1,permanent=0.01,hang=0.001,panic=100`, each optional.
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
                "panic" => script.panic = value.parse().map_err(|error| format!("`{part}`: {error}"))?,
                _ => return Err(format!("the fake bridge has no setting `{key}`")),
            }
        }
        script.max = script.max.max(script.min);
        Ok(script)
    }
}

/// Answers every call with its first argument, as its script says.
#[derive(Debug)]
pub struct FakeBridge {
    script: Script,
    answer: Arc<str>,
}

impl FakeBridge {
    /// A bridge that follows the script.
    pub fn new(script: Script) -> Self {
        Self { script, answer: "answer".into() }
    }
}

fn failure(class: &str, kind: FailureKind) -> CallError {
    CallError::Predictor(Box::new(PredictorError {
        class: class.into(),
        message: "as the script says".to_owned(),
        kind,
        status: None,
        retry_after: None,
        usage: None,
        unanswered: None,
        traceback: None,
    }))
}

impl Bridge for FakeBridge {
    async fn call(&self, attempt: Attempt) -> Result<Answer, CallError> {
        let script = &self.script;
        // One generator a row and one an attempt: the script does not depend on the order of the calls.
        let row_seed = script.seed ^ attempt.row.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut row = fastrand::Rng::with_seed(row_seed);
        let mut rng = fastrand::Rng::with_seed(row_seed.rotate_left(17) ^ u64::from(attempt.number));
        attempt.clock.begin();
        if script.max > Duration::ZERO {
            let spread = script.max.saturating_sub(script.min).mul_f64(rng.f64());
            tokio::time::sleep(script.min + spread).await;
        }
        assert!(script.panic == 0 || attempt.row % script.panic != script.panic - 1, "as the script says");
        if rng.f64() < script.hang {
            std::future::pending::<()>().await;
        }
        attempt.clock.end();
        if row.f64() < script.permanent {
            return Err(failure("ScriptedPermanent", FailureKind::Permanent));
        }
        if rng.f64() < script.transient {
            return Err(failure("ScriptedTransient", FailureKind::Transient));
        }
        let value =
            attempt.arguments.first().map_or_else(|| Value::Text(String::new()), |(_, value)| value.clone());
        Ok(Answer {
            fields: vec![(Arc::clone(&self.answer), value)],
            usage: None,
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
