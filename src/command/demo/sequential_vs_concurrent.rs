//! Example 5, sequential against concurrent: the same five questions one after the other, then all at once. First to a
//! function that takes one second, then to the model, whose own limits decide.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::stage::{Stage, question};
use crate::bridge::Bridge;
use crate::report::text::{counted, duration, figure};

const QUESTIONS: [&str; 5] = [
    "What is the capital of Spain?",
    "What is the highest mountain on Earth?",
    "How many days are there in a leap year?",
    "Who wrote Romeo and Juliet?",
    "What is the largest ocean?",
];

pub(super) async fn run(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    let function = stage.function("wait_a_second")?;
    compare(stage, &function, "an async function of 1 s").await?;

    let model = stage.model().await?;
    // What a model has read once it reads faster the second time: both ways come after this.
    sequential(&model).await?;
    let longest = compare(stage, &model, "the model").await?;
    match stage.at_once() {
        calls if calls < QUESTIONS.len() => stage.detail(
            "Limited by",
            &format!(
                "the local model, which answers {} at once on this machine; the others wait in its queue",
                counted(calls as u64, "question")
            ),
        ),
        _ => stage.detail("Limited by", &format!("the slowest call: {}", duration(longest))),
    }
}

/// Asks all questions both ways, prints the totals and returns the longest of the concurrent calls.
async fn compare(stage: &mut Stage<'_>, bridge: &Arc<dyn Bridge>, name: &str) -> anyhow::Result<Duration> {
    let one_by_one = sequential(bridge).await?;
    let (at_once, longest) = concurrent(bridge).await?;
    let speedup = one_by_one.as_secs_f64() / at_once.as_secs_f64();
    stage.done(&format!("{} to {name}", counted(QUESTIONS.len() as u64, "question")))?;
    stage.detail("Sequential", &duration(one_by_one))?;
    stage.detail("Concurrent", &duration(at_once))?;
    stage.detail("Speedup", &format!("{}x", figure(speedup)))?;
    Ok(longest)
}

async fn sequential(bridge: &Arc<dyn Bridge>) -> anyhow::Result<Duration> {
    let started = Instant::now();
    for asked in QUESTIONS {
        bridge.submit(question(asked)).await?;
    }
    Ok(started.elapsed())
}

/// The time that all took together, and the longest call's.
async fn concurrent(bridge: &Arc<dyn Bridge>) -> anyhow::Result<(Duration, Duration)> {
    let started = Instant::now();
    let mut calls = JoinSet::new();
    for asked in QUESTIONS {
        let bridge = Arc::clone(bridge);
        calls.spawn(async move {
            let started = Instant::now();
            bridge.submit(question(asked)).await?;
            anyhow::Ok(started.elapsed())
        });
    }
    let mut longest = Duration::ZERO;
    while let Some(took) = calls.join_next().await {
        longest = longest.max(took??);
    }
    Ok((started.elapsed(), longest))
}
