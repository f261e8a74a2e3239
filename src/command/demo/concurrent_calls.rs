//! Example 2, concurrent calls: one Tokio task a question, a semaphore that bounds how many ask at once. All coroutines
//! run on one asyncio event loop, and the answers come in the order in which they are ready.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::stage::{Stage, question};
use crate::report::text::duration;

const QUESTIONS: [&str; 3] = [
    "What is the largest planet in our solar system?",
    "Who painted the Mona Lisa?",
    "What is the capital of Japan?",
];

const AT_ONCE: usize = 2;

pub(super) async fn run(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    let model = stage.model().await?;
    let permits = Arc::new(Semaphore::new(AT_ONCE.min(stage.at_once())));

    let started = Instant::now();
    let mut calls = JoinSet::new();
    for asked in QUESTIONS {
        let (model, permits) = (Arc::clone(&model), Arc::clone(&permits));
        calls.spawn(async move {
            let _permit = permits.acquire().await?;
            let started = Instant::now();
            let answer = model.submit(question(asked)).await?;
            anyhow::Ok((asked, answer, started.elapsed()))
        });
    }

    let mut sum = Duration::ZERO;
    while let Some(called) = calls.join_next().await {
        let (asked, answer, took) = called??;
        stage.answered(asked, &answer, took)?;
        sum += took;
    }
    stage.say(&format!("Total time: {}", duration(started.elapsed())))?;
    stage.say(&format!("Average: {}", duration(sum / QUESTIONS.len() as u32)))
}
