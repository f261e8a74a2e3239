//! The examples, made to be read from top to bottom. The Python functions that they call are in
//! `examples/functions.py`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use pyo3::prelude::*;
use pyo3_asyncio::TaskLocals;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::stage::{FUNCTIONS, Predictor, Stage, question};
use crate::bridge::python::event_loop::{EventLoop, LoopKind};
use crate::call::{Attempt, call_clock};
use crate::error::CallError;
use crate::outcome::Answer;
use crate::report::text::{counted, duration, figure};
use crate::secret::Secrets;

/// Example 1: a Python coroutine is awaited like any Rust future. The GIL is not held meanwhile.
pub(super) async fn basic_call(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    let model = stage.model().await?;
    let asked = "What is the capital of France?";

    let started = Instant::now();
    let answer = model.ask(asked).await?;

    stage.answered(asked, &answer, started.elapsed())
}

/// Example 2: a Tokio task for each question, and a semaphore that bounds how many ask at once. All coroutines run on
/// one asyncio event loop, and the answers come in the order in which they are ready.
pub(super) async fn concurrent_calls(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    const QUESTIONS: [&str; 3] = [
        "What is the largest planet in our solar system?",
        "Who painted the Mona Lisa?",
        "What is the capital of Japan?",
    ];
    let model = stage.model().await?;

    let started = Instant::now();
    let mut calls = ask_all(&model, &QUESTIONS, 2.min(model.calls));
    let mut sum = Duration::ZERO;
    while let Some(call) = calls.join_next().await {
        let (asked, answer, took) = call??;
        stage.answered(asked, &answer, took)?;
        sum += took;
    }

    stage.say(&format!("Total time: {}", duration(started.elapsed())))?;
    stage.say(&format!("Average: {}", duration(sum / QUESTIONS.len() as u32)))
}

type Called = anyhow::Result<(&'static str, Answer, Duration)>;

/// Asks each question in a task of its own, at most `at_once` at a time.
fn ask_all(predictor: &Predictor, questions: &[&'static str], at_once: usize) -> JoinSet<Called> {
    let permits = Arc::new(Semaphore::new(at_once));
    let ask = |asked: &&'static str| {
        let (asked, predictor, permits) = (*asked, predictor.clone(), Arc::clone(&permits));
        async move {
            let _permit = permits.acquire().await?;
            let started = Instant::now();
            let answer = predictor.ask(asked).await?;
            Ok((asked, answer, started.elapsed()))
        }
    };
    questions.iter().map(ask).collect()
}

/// Example 3: Tokio's own timeout around the call. Dropping the call's future cancels the Python task. The call's clock
/// tells when nothing of the call is left running.
pub(super) async fn time_out(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    const TOO_SHORT: Duration = Duration::from_millis(200);
    const LONG_ENOUGH: Duration = Duration::from_secs(5);
    let function = stage.function("wait_a_second")?;
    let asked = "Are you there?";
    let (clock, watch) = call_clock(Instant::now());

    let started = Instant::now();
    let call = function.bridge.submit(Attempt { clock, ..question(asked) });
    if timeout(TOO_SHORT, call).await.is_ok() {
        bail!("a call of one second was answered within {}", duration(TOO_SHORT));
    }
    let waited = started.elapsed();
    let cancelling = Instant::now();
    timeout(LONG_ENOUGH, watch.over()).await.context("the Python task was not cancelled")?;
    let cancelled = cancelling.elapsed();

    let details =
        [("Timed out after", duration(waited)), ("Python task cancelled after another", duration(cancelled))];
    stage.show(&format!("Question: {asked} (at most {})", duration(TOO_SHORT)), &details)?;

    let started = Instant::now();
    let answer = timeout(LONG_ENOUGH, function.ask(asked)).await??;
    stage.answered(&format!("{asked} (at most {})", duration(LONG_ENOUGH)), &answer, started.elapsed())
}

/// Example 4: what goes wrong in Python arrives as a Rust error of its own type, and the event loop goes on.
pub(super) async fn error_handling(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    match stage.function("raise_value_error")?.ask("Why?").await {
        Err(CallError::Predictor(exception)) => {
            let details = [("Class", exception.class.to_string()), ("Message", exception.message)];
            stage.show("A Python exception: `CallError::Predictor`", &details)?;
        }
        other => bail!("expected an exception, got {other:?}"),
    }
    match stage.function("not_a_predictor") {
        Err(refusal) => {
            let details = [("Message", refusal.to_string())];
            stage.show("An invalid object, refused before any call: `LoadError`", &details)?;
        }
        Ok(_) => bail!("a number was taken for a predictor"),
    }
    match stage.function("return_a_complex_number")?.ask("How many?").await {
        Err(CallError::Output(what)) => stage.show("A wrong type: `CallError::Output`", &[("Message", what)]),
        other => bail!("expected a wrong type, got {other:?}"),
    }
}

/// Example 5: the same questions one after the other, then all at once. First to a function that takes one second, then
/// to the model, whose own limits decide.
pub(super) async fn sequential_vs_concurrent(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    let function = stage.function("wait_a_second")?;
    compare(stage, &function, "an async function of 1 s").await?;

    let model = stage.model().await?;
    // A model reads faster what it has read before: both ways come after this.
    time_all(&model, 1).await?;
    let longest = compare(stage, &model, "the model").await?;
    let limit = if model.calls < FIVE.len() {
        format!(
            "the local model, which answers {} at once on this machine; the others wait in its queue",
            counted(model.calls as u64, "question")
        )
    } else {
        format!("the slowest call: {}", duration(longest))
    };
    stage.detail("Limited by", &limit)
}

const FIVE: [&str; 5] = [
    "What is the capital of Spain?",
    "What is the highest mountain on Earth?",
    "How many days are there in a leap year?",
    "Who wrote Romeo and Juliet?",
    "What is the largest ocean?",
];

/// Asks all questions both ways, shows the times, and returns that of the longest of the concurrent calls.
async fn compare(stage: &mut Stage<'_>, predictor: &Predictor, name: &str) -> anyhow::Result<Duration> {
    let (sequential, _) = time_all(predictor, 1).await?;
    let (concurrent, longest) = time_all(predictor, FIVE.len()).await?;
    let speedup = figure(sequential.as_secs_f64() / concurrent.as_secs_f64());
    let details = [
        ("Sequential", duration(sequential)),
        ("Concurrent", duration(concurrent)),
        ("Speedup", format!("{speedup}x")),
    ];
    stage.show(&format!("{} to {name}", counted(FIVE.len() as u64, "question")), &details)?;
    Ok(longest)
}

/// The time that all questions took together, and that of the longest call.
async fn time_all(predictor: &Predictor, at_once: usize) -> anyhow::Result<(Duration, Duration)> {
    let started = Instant::now();
    let mut calls = ask_all(predictor, &FIVE, at_once);
    let mut longest = Duration::ZERO;
    while let Some(call) = calls.join_next().await {
        let (_, _, took) = call??;
        longest = longest.max(took);
    }
    Ok((started.elapsed(), longest))
}

/// Example 6: any async function, called through the textbook bridge, `pyo3_asyncio::tokio::into_future`, by hand. The
/// bridge of the other examples does the same for many calls at a time, and cancels what is dropped.
pub(super) async fn custom_function(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    // asyncio runs on another thread. The locals say on which event loop a coroutine is to run.
    let set_up = |event_loop: &Bound<'_, PyAny>, _: &_| {
        let function = event_loop.py().import(FUNCTIONS)?.getattr("shout")?;
        Ok((function.unbind(), TaskLocals::new(event_loop.clone()).copy_context(event_loop.py())?))
    };
    let (event_loop, (function, locals)) =
        EventLoop::start(LoopKind::Auto, Secrets::from_environment(), set_up)?;
    let asked = "Any async function?";

    let started = Instant::now();
    // Attach, make a coroutine, make it a Rust future, detach; only then await. Holding the GIL across the `.await`
    // would deadlock, since the event loop needs it to run the coroutine.
    let future = Python::attach(|py| {
        let coroutine = function.bind(py).call1((asked,))?;
        pyo3_asyncio::into_future_with_locals(&locals, coroutine)
    })?;
    let answer = future.await?;
    let answer: String = Python::attach(|py| answer.extract(py))?;
    let took = duration(started.elapsed());

    stage.show(&format!("Question: {asked}"), &[("Answer", answer), ("Time", took)])?;
    event_loop.shut_down(Duration::from_secs(1));
    Ok(())
}

/// Example 7: an async generator. Its chunks are joined, and the time to the first one is kept.
pub(super) async fn streaming(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    let generator = stage.function("recite")?;
    let asked = "How do you answer?";

    let started = Instant::now();
    let answer = generator.ask(asked).await?;

    stage.answered(asked, &answer, started.elapsed())?;
    match answer.first_chunk {
        Some(first) => stage.detail("First chunk after", &duration(first)),
        None => Ok(()),
    }
}
