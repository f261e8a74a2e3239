//! What a predictor is and takes, as data that can be sent to another process.

use std::num::NonZeroU32;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::input::Parameter;
use crate::policy::budget::Price;
use crate::policy::rate::RequestsACall;
use crate::prompt::Prompt;

/// What a predictor is and takes: columns are bound by it, and the user is told of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Description {
    /// The name by which the bridge is chosen.
    pub bridge: String,
    /// How many processes of their own make the calls; 0 if this process does.
    pub workers: u64,
    /// The event loop that runs the calls: `asyncio`, `uvloop` or `none`.
    pub event_loop: String,
    /// The SPEC that it was loaded from, or the name of the object that it is.
    pub spec: String,
    /// `async function`, `async generator`, `function on threads`, `dspy.Module …`.
    pub kind: String,
    /// What is passed by name, without `row_id` and `attempt`.
    pub parameters: Vec<Parameter>,
    /// Whether it takes `**row`.
    pub takes_all: bool,
    /// The file that it was loaded from.
    pub source: Option<PathBuf>,
    /// Whether it runs on threads, where no call can be cancelled.
    pub threaded: bool,
    /// What is known of its requests to a model, if it reports its tokens.
    pub metered: Option<Metered>,
    /// The fields of its answers; empty if they are not known before a call.
    pub outputs: Vec<String>,
    /// What may send more than one request for one attempt by itself, and how many at most.
    pub repeating: Vec<(String, u64)>,
    /// Its prompts and source files; none where the bridge cannot tell.
    pub prompt: Option<Prompt>,
    /// Further warnings about what stands between a call and the model, each with its remedy.
    pub cautions: Vec<String>,
}

impl Description {
    /// How the predictor differs from one that was loaded later from the same place, in words; `None` if it is the same.
    pub fn difference(&self, later: &Self) -> Option<String> {
        let (was, is) = (self.prompt.as_ref(), later.prompt.as_ref());
        if let Some((was, is)) = was.zip(is) {
            let changed: Vec<_> = was.changed_sources(is).map(|file| format!("`{file}`")).collect();
            if !changed.is_empty() {
                return Some(format!("{} changed", changed.join(", ")));
            }
            if let Some(difference) = was.differences(is).first() {
                return Some(format!("the {difference} changed"));
            }
        }
        let of = |one: &Self| (one.kind.clone(), one.parameters.clone(), one.takes_all, one.outputs.clone());
        (of(self) != of(later)).then(|| "what it takes and returns changed".to_owned())
    }
}

/// What is known, before any call, of the requests of a predictor whose calls report their tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metered {
    /// The model's name, as DSPy writes it.
    pub model: Option<String>,
    /// What its tokens cost; none if that is unknown.
    pub price: Option<Price>,
    /// The most tokens of an answer, if the user set it.
    pub max_tokens: Option<u64>,
    /// Requests to the model in one call, if each of its parts is asked once.
    pub requests: u64,
    /// Whether code of its own decides how often its parts are asked.
    pub requests_may_differ: bool,
    /// Characters of the prompts of all its parts, without the inputs.
    pub prompt_characters: Option<u64>,
}

impl Metered {
    /// How many requests `--rpm` counts for a call, before calls have reported any.
    pub fn requests_a_call(&self) -> RequestsACall {
        let likely = u32::try_from(self.requests).ok().and_then(NonZeroU32::new);
        RequestsACall { likely: likely.unwrap_or(NonZeroU32::MIN), may_differ: self.requests_may_differ }
    }
}
