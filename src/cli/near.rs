//! Finds the known name that was probably meant by an unknown one.

use strsim::osa_distance;

/// A name may differ from a known one by one typo for this many characters, and by at least one.
const A_SLIP_IN: usize = 4;

/// The nearest known name, if it is near enough to be meant.
pub(super) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase();
    let slips = |known: &str| osa_distance(&name, &known.to_lowercase());
    let near = known.into_iter().map(|known| (slips(known), known));
    let near = near.filter(|(slips, known)| *slips <= (known.chars().count() / A_SLIP_IN).max(1));
    near.min_by_key(|(slips, _)| *slips).map(|(_, known)| known)
}

/// Arguments of language models, as DSPy and `LiteLLM` take them.
const OF_MODELS: [&str; 49] = [
    "allowed_openai_params",
    "api_base",
    "api_key",
    "api_version",
    "azure_ad_token",
    "base_url",
    "cache",
    "callbacks",
    "custom_llm_provider",
    "drop_params",
    "extra_body",
    "extra_headers",
    "frequency_penalty",
    "guided_json",
    "headers",
    "launch_kwargs",
    "logit_bias",
    "logprobs",
    "max_completion_tokens",
    "max_retries",
    "max_tokens",
    "metadata",
    "min_p",
    "min_tokens",
    "modalities",
    "model_type",
    "num_retries",
    "organization",
    "parallel_tool_calls",
    "presence_penalty",
    "provider",
    "reasoning_effort",
    "repetition_penalty",
    "response_format",
    "rollout_id",
    "safety_settings",
    "seed",
    "service_tier",
    "stop",
    "temperature",
    "thinking",
    "timeout",
    "tool_choice",
    "top_a",
    "top_k",
    "top_logprobs",
    "top_p",
    "user",
    "verbosity",
];

/// A warning about an argument of the language model that is probably misspelt. Such an argument is sent, and has no
/// effect.
pub(super) fn misspelt(name: &str) -> Option<String> {
    let meant = argument_meant(name)?;
    Some(format!("`--lm {name}=…` is not a known argument\nhint: did you mean `{meant}`?"))
}

/// The argument of a language model that was probably meant; `None` if the name is known, or near to no other.
fn argument_meant(key: &str) -> Option<&'static str> {
    nearest(key, OF_MODELS).filter(|meant| *meant != key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_seen_and_what_is_known_or_like_nothing_is_left_alone() {
        let meant = ["temprature", "max_token", "Temperature", "top-p", "tempreature"].map(argument_meant);
        let [temperature, max_tokens, top_p] = ["temperature", "max_tokens", "top_p"].map(Some);
        assert_eq!(meant, [temperature, max_tokens, temperature, top_p, temperature]);
        let left = ["temperature", "n", "top_k", "min_p", "adapter", "lora_name", "tools", "x"];
        assert_eq!(left.map(argument_meant), [None; 8]);
    }
}
