//! Example 1, one call: a Python coroutine awaited like any Rust future. The GIL is not held meanwhile.

use std::time::Instant;

use super::stage::{Stage, question};

pub(super) async fn run(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    let model = stage.model().await?;
    let asked = "What is the capital of France?";

    let started = Instant::now();
    let answer = model.submit(question(asked)).await?;

    stage.answered(asked, &answer, started.elapsed())
}
