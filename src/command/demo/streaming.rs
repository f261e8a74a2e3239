//! Example 7, streaming: an async generator. Its chunks are joined, and the time to the first one is kept.

use std::time::Instant;

use super::stage::{Stage, question};
use crate::report::text::duration;

pub(super) async fn run(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    let generator = stage.function("recite")?;
    let asked = "How do you answer?";

    let started = Instant::now();
    let answer = generator.submit(question(asked)).await?;
    let took = started.elapsed();

    stage.answered(asked, &answer, took)?;
    if let Some(first) = answer.first_chunk {
        stage.detail("First chunk after", &duration(first))?;
    }
    Ok(())
}
