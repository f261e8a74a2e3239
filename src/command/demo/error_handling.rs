//! Example 4, error handling: whatever goes wrong in Python arrives as a Rust error of its own type. None of it ends the
//! event loop.

use anyhow::bail;

use super::stage::{Stage, question};
use crate::error::CallError;

pub(super) async fn run(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    let asked = question("Why?");
    let function = stage.function("raise_value_error")?;
    match function.submit(asked).await {
        Err(CallError::Predictor(exception)) => {
            stage.done("A Python exception: `CallError::Predictor`")?;
            stage.detail("Class", &exception.class)?;
            stage.detail("Message", &exception.message)?;
        }
        other => bail!("expected an exception, got {other:?}"),
    }

    match stage.function("not_a_predictor") {
        Err(refusal) => {
            stage.done("An invalid object, refused before any call: `LoadError`")?;
            stage.detail("Message", &refusal.to_string())?;
        }
        Ok(_) => bail!("a number was taken for a predictor"),
    }

    let function = stage.function("return_a_complex_number")?;
    match function.submit(question("How many?")).await {
        Err(CallError::Output(what)) => {
            stage.done("A wrong type: `CallError::Output`")?;
            stage.detail("Message", &what)
        }
        other => bail!("expected a wrong type, got {other:?}"),
    }
}
