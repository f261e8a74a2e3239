//! `demo`: the examples from which the bridge is learned, one file each, run live. Only what was just measured is
//! printed. Read `basic_call.rs` first.

mod basic_call;
mod concurrent_calls;
mod custom_function;
mod error_handling;
mod patient;
mod sequential_vs_concurrent;
mod stage;
mod streaming;
mod timeout;

use std::time::Duration;

use anyhow::Context;
use clap::Args;

use self::stage::Stage;
use super::signals::Signals;
use super::streams::Streams;
use crate::command::show::ShowOptions;
use crate::job::spec::values::duration;
use crate::job::spec::{PredictorPatch, PredictorSpec};
use crate::policy::stop::StopReason;
use crate::run::control::Control;

/// How long the examples may take to take a signal.
const GRACE: Duration = Duration::from_secs(5);

const TITLES: [&str; 7] = [
    "Basic call",
    "Concurrent calls",
    "Timeout",
    "Error handling",
    "Sequential vs concurrent",
    "Custom async function",
    "Streaming",
];

/// The options of `demo`.
#[derive(Debug, Clone, Args)]
pub struct DemoOptions {
    /// Only this example: 1 basic call, 2 concurrent calls, 3 timeout, 4 error handling, 5 sequential vs concurrent,
    /// 6 custom async function, 7 streaming
    #[arg(value_name = "EXAMPLE", value_parser = clap::value_parser!(u8).range(1..=TITLES.len() as i64))]
    pub example: Option<u8>,
    /// For each call to the model; an example whose call takes longer fails, and the next one is run
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "60s", env = "TAB_TIMEOUT")]
    pub timeout: Duration,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub predictor: PredictorPatch,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub show: ShowOptions,
}

impl DemoOptions {
    /// The program that answers.
    fn predictor(&self) -> PredictorSpec {
        let mut predictor = PredictorSpec::default();
        predictor.lay(self.predictor.clone());
        predictor
    }
}

/// Runs `demo`: exit code 1 if an example fails.
pub async fn demo(options: &DemoOptions, streams: &mut Streams) -> anyhow::Result<u8> {
    let control = Control::new();
    let _signals = Signals::forward(&control, GRACE, streams.last_words(None))?;
    let mut stage = Stage::new(options, streams).await?;
    let code = tokio::select! {
        code = examples(options.example, &mut stage) => code?,
        signal = control.next() => return Ok(StopReason::Signal(signal).exit_code()),
    };
    stage.close();
    Ok(code)
}

async fn examples(only: Option<u8>, stage: &mut Stage<'_>) -> anyhow::Result<u8> {
    stage.banner("Tokio-AsyncIO Bridge Example")?;
    let mut code = 0;
    for (number, title) in (1..).zip(TITLES) {
        if only.is_some_and(|only| only != number) {
            continue;
        }
        stage.say(&format!("\nExample {number}: {title}"))?;
        let result = match number {
            1 => basic_call::run(stage).await,
            2 => concurrent_calls::run(stage).await,
            3 => timeout::run(stage).await,
            4 => error_handling::run(stage).await,
            5 => sequential_vs_concurrent::run(stage).await,
            6 => custom_function::run(stage).await,
            _ => streaming::run(stage).await,
        };
        if let Err(error) = result {
            stage.failed(&error).context("failed to say what went wrong")?;
            code = 1;
        }
    }
    Ok(code)
}
