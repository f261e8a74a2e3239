//! What a predictor is and takes, as data that can be sent to another process. Not how it is loaded.

use std::num::NonZeroU32;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::input::Parameter;
use crate::policy::budget::Price;
use crate::policy::rate::RequestsACall;

/// What a predictor takes and what it is, for binding columns and for telling the user.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Description {
    /// The name that chooses the bridge.
    pub bridge: String,
    /// The event loop that runs the calls: `asyncio`, `uvloop` or `none`.
    pub event_loop: String,
    /// The SPEC it was loaded from.
    pub spec: String,
    /// `async function`, `async generator`, `function on threads`, `dspy.Module …`.
    pub kind: String,
    /// What is passed by name. `row_id` and `attempt` are not among them.
    pub parameters: Vec<Parameter>,
    /// Whether it takes `**row`.
    pub takes_all: bool,
    /// The file it was loaded from.
    pub source: Option<PathBuf>,
    /// Whether it runs on threads, which nothing can cancel.
    pub threaded: bool,
    /// What is known of its requests to a model, where it tells its tokens.
    pub metered: Option<Metered>,
    /// The fields of its answers; none where nothing tells before a call.
    pub outputs: Vec<String>,
    /// What sends more than one request an attempt by itself, and how many at most.
    pub repeating: Vec<(String, u64)>,
    /// What else stands unseen between a call and the model, a sentence each with its remedy.
    pub cautions: Vec<String>,
}

/// A predictor whose calls tell their tokens: what is known, before any call, of the requests it makes of its model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// What `--rpm` counts, before calls have told.
    pub fn requests_a_call(&self) -> RequestsACall {
        let likely = u32::try_from(self.requests).ok().and_then(NonZeroU32::new);
        RequestsACall { likely: likely.unwrap_or(NonZeroU32::MIN), may_differ: self.requests_may_differ }
    }
}
