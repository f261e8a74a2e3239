//! `demo`: runs the examples in `examples.rs`, which show how the bridge is used, and prints what each has measured.

mod examples;
mod stage;

use std::time::Duration;

use anyhow::Context;
use clap::Args;

use self::stage::Stage;
use super::signals::Signals;
use super::streams::Streams;
use crate::cli::command::show::ShowOptions;
use crate::job::spec::values::duration;
use crate::job::spec::{PredictorPatch, PredictorSpec};
use crate::policy::stop::StopReason;
use crate::run::control::Control;

/// How long the examples may take to end after a signal.
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
pub(crate) struct DemoOptions {
    /// Only this example: 1 basic call, 2 concurrent calls, 3 timeout, 4 error handling, 5 sequential vs concurrent,
    /// 6 custom async function, 7 streaming
    #[arg(value_name = "EXAMPLE", value_parser = clap::value_parser!(u8).range(1..=TITLES.len() as i64))]
    pub example: Option<u8>,
    /// The most time that a call to the model may take; an example whose call takes longer fails, and the next one runs
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "60s", env = "TAB_TIMEOUT")]
    pub timeout: Duration,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub predictor: PredictorPatch,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub show: ShowOptions,
}

/// Runs `demo`: exit code 1 if an example fails.
pub(crate) async fn demo(options: &DemoOptions, streams: &mut Streams) -> anyhow::Result<u8> {
    let control = Control::new();
    let _signals = Signals::forward(&control, GRACE, streams.last_words(None))?;
    let mut spec = PredictorSpec::default();
    spec.lay(options.predictor.clone());
    let mut stage = Stage::new(spec, options.timeout, streams, options.show.clone()).await?;
    let code = tokio::select! {
        code = run(options.example, &mut stage) => code?,
        signal = control.next() => return Ok(StopReason::Signal(signal).exit_code()),
    };
    stage.close();
    Ok(code)
}

async fn run(only: Option<u8>, stage: &mut Stage<'_>) -> anyhow::Result<u8> {
    stage.banner("Tokio-AsyncIO Bridge Example")?;
    let mut code = 0;
    for (number, title) in (1..).zip(TITLES) {
        if only.is_some_and(|only| only != number) {
            continue;
        }
        stage.say(&format!("\nExample {number}: {title}"))?;
        let result = match number {
            1 => examples::basic_call(stage).await,
            2 => examples::concurrent_calls(stage).await,
            3 => examples::time_out(stage).await,
            4 => examples::error_handling(stage).await,
            5 => examples::sequential_vs_concurrent(stage).await,
            6 => examples::custom_function(stage).await,
            _ => examples::streaming(stage).await,
        };
        if let Err(error) = result {
            stage.failed(&error).context("failed to say what went wrong")?;
            code = 1;
        }
    }
    Ok(code)
}
