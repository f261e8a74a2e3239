//! What is known, before any call, of the requests a predictor makes of its model. Not what they come to.

use std::num::NonZeroU32;

use pyo3::prelude::*;

use super::helpers;
use crate::policy::budget::Price;
use crate::policy::rate::RequestsACall;

/// Tokens in a price.
const MILLION: f64 = 1e6;

/// A predictor whose calls tell their tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct Metered {
    /// The model's name as DSPy has it.
    pub model: Option<String>,
    /// What its tokens cost.
    pub price: Option<Price>,
    /// The most tokens of an answer, where the user set it.
    pub max_tokens: Option<u64>,
    /// Requests to the model a call makes, if its parts are asked once each.
    pub requests: u64,
    /// Whether its own code decides how often its parts are asked.
    pub requests_may_differ: bool,
    /// Characters of all their prompts without the inputs.
    pub prompt_characters: Option<u64>,
}

impl Metered {
    /// The facts of a loaded predictor; none for one that does not tell its tokens.
    pub(super) fn of(call: &Bound<'_, PyAny>) -> PyResult<Option<Self>> {
        type Told = (Option<String>, Option<f64>, Option<f64>, Option<u64>, u64, bool, Option<u64>);
        let told = helpers::module(call.py(), "metered")?.call_method1("metered", (call,))?;
        let Some((model, input, output, max_tokens, requests, requests_may_differ, prompt_characters)) =
            told.extract::<Option<Told>>()?
        else {
            return Ok(None);
        };
        let price = input
            .zip(output)
            .map(|(input, output)| Price { input: input * MILLION, output: output * MILLION });
        Ok(Some(Self { model, price, max_tokens, requests, requests_may_differ, prompt_characters }))
    }

    /// What `--rpm` counts, before calls have told.
    pub fn requests_a_call(&self) -> RequestsACall {
        let likely = u32::try_from(self.requests).ok().and_then(NonZeroU32::new);
        RequestsACall { likely: likely.unwrap_or(NonZeroU32::MIN), may_differ: self.requests_may_differ }
    }
}
