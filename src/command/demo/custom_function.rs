//! Example 6, a custom async function, and the textbook bridge by hand: what `pyo3_asyncio::tokio::into_future` does,
//! in full. The other examples' bridge does it in batches, and cancels what is dropped.

use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3_asyncio::TaskLocals;

use super::stage::{FUNCTIONS, Stage};
use crate::bridge::python::event_loop::{EventLoop, LoopKind};
use crate::report::text::duration;
use crate::secret::Secrets;

pub(super) async fn run(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    // asyncio runs on another thread; its locals say on which event loop a coroutine is to run.
    let set_up = |event_loop: &Bound<'_, PyAny>, _: &_| {
        let function = event_loop.py().import(FUNCTIONS)?.getattr("shout")?;
        Ok((function.unbind(), TaskLocals::new(event_loop.clone()).copy_context(event_loop.py())?))
    };
    let (event_loop, (function, locals)) =
        EventLoop::start(LoopKind::Auto, Secrets::from_environment(), set_up)?;

    let asked = "Any async function?";
    let started = Instant::now();
    let answer = ask(&function, &locals, asked).await?;
    let took = started.elapsed();

    stage.done(&format!("Question: {asked}"))?;
    stage.detail("Answer", &answer)?;
    stage.detail("Time", &duration(took))?;
    event_loop.shut_down(Duration::from_secs(1));
    Ok(())
}

/// Attach, make a coroutine, make it a Rust future, detach; only then await. Holding the GIL across the `.await` would
/// deadlock: the event loop needs it to run the coroutine.
async fn ask(function: &Py<PyAny>, locals: &TaskLocals, question: &str) -> PyResult<String> {
    let future = Python::attach(|py| {
        let coroutine = function.bind(py).call1((question,))?;
        pyo3_asyncio::into_future_with_locals(locals, coroutine)
    })?;
    let answer = future.await?;
    Python::attach(|py| answer.extract(py))
}
