//! Asks Python what is known, before any call, of the requests that a predictor sends to its model.

use pyo3::prelude::*;

use super::helpers;
use crate::bridge::Metered;
use crate::policy::budget::Price;

/// The number of tokens that a price is for.
const MILLION: f64 = 1e6;

/// The facts about a loaded predictor. None if its calls do not tell their tokens.
pub(super) fn metered(call: &Bound<'_, PyAny>) -> PyResult<Option<Metered>> {
    type Told = (Option<String>, Option<f64>, Option<f64>, Option<u64>, u64, bool, Option<u64>);
    let told = helpers::module(call.py(), "metered")?.call_method1("metered", (call,))?;
    let Some((model, input, output, max_tokens, requests, requests_may_differ, prompt_characters)) =
        told.extract::<Option<Told>>()?
    else {
        return Ok(None);
    };
    let price =
        input.zip(output).map(|(input, output)| Price { input: input * MILLION, output: output * MILLION });
    Ok(Some(Metered { model, price, max_tokens, requests, requests_may_differ, prompt_characters }))
}
