//! Example 3, timeout: Tokio's own, around the call. Dropping the call's future cancels the Python task, which the
//! call's clock tells: it is over once nothing of the call is left running.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::time::timeout;

use super::stage::{Stage, question};
use crate::call::{Attempt, call_clock};
use crate::report::text::duration;

const TOO_SHORT: Duration = Duration::from_millis(200);
const LONG_ENOUGH: Duration = Duration::from_secs(5);

pub(super) async fn run(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    let function = stage.function("wait_a_second")?;
    let asked = "Are you there?";
    let (clock, watch) = call_clock(Instant::now());

    let started = Instant::now();
    if timeout(TOO_SHORT, function.submit(Attempt { clock, ..question(asked) })).await.is_ok() {
        bail!("a call of one second was answered within {}", duration(TOO_SHORT));
    }
    let waited = started.elapsed();

    let cancelling = Instant::now();
    timeout(LONG_ENOUGH, watch.over()).await.context("the Python task was not cancelled")?;
    let cancelled = cancelling.elapsed();

    stage.done(&format!("Question: {asked} (at most {})", duration(TOO_SHORT)))?;
    stage.detail("Timed out after", &duration(waited))?;
    stage.detail("Python task cancelled after another", &duration(cancelled))?;

    let started = Instant::now();
    let answer = timeout(LONG_ENOUGH, function.submit(question(asked))).await??;
    stage.answered(&format!("{asked} (at most {})", duration(LONG_ENOUGH)), &answer, started.elapsed())
}
