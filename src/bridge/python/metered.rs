//! Asks Python what is known, before any call, of the requests a predictor makes of its model. Not what they come to.

use pyo3::prelude::*;

use super::helpers;
use crate::bridge::Metered;
use crate::policy::budget::Price;

/// Tokens in a price.
const MILLION: f64 = 1e6;

/// The facts of a loaded predictor; none for one that does not tell its tokens.
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
