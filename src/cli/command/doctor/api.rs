//! Checks of the model's API: whether its key is set, and whether it answers. The key's value is never shown.

use std::path::Path;

use super::check::Finding;
use super::python::{Inspected, Models, needs_dspy};
use crate::environment;
use crate::job::env_file::EnvFile;
use crate::job::spec::PredictorSpec;
use crate::report::text::seconds;

/// The environment variable of the provider's key, as DSPy names it.
fn variable(options: &PredictorSpec) -> Option<String> {
    let (provider, _) = options.model_name().split_once('/')?;
    Some(format!("{}_API_KEY", provider.to_uppercase()))
}

fn given(options: &PredictorSpec) -> Option<&str> {
    options.lm.given().find_map(|(name, value)| (name == "api_key").then_some(value))
}

/// The key that a run would send.
pub(super) fn secret_key(options: &PredictorSpec) -> Option<String> {
    let from_environment = || {
        let key = environment::variable(&variable(options)?)?.into_string().ok()?;
        (!key.is_empty()).then_some(key)
    };
    given(options).map(str::to_owned).or_else(from_environment)
}

/// The model about whose key `LiteLLM` is to be asked: one for which the options and the name do not tell enough.
pub(super) fn asked_about(options: &PredictorSpec) -> Option<&str> {
    let model = options.model_name();
    let is_plain = model == "local" || model.starts_with("openai/");
    (needs_dspy(options) && !is_plain && options.api_base.is_none() && given(options).is_none())
        .then_some(model)
}

/// Checks that the key is set where one may be needed; `None` where the model's provider is not known.
pub(super) fn key(inspected: &Inspected, options: &PredictorSpec) -> Option<Finding> {
    if !needs_dspy(options) {
        return None;
    }
    if given(options).is_some() {
        return Some(Ok("given by `--lm api_key=…`".to_owned()));
    }
    let model = options.model_name();
    if model == "local" {
        return Some(Ok("none needed by the local model".to_owned()));
    }
    let found = match (variable(options), secret_key(options)) {
        (Some(variable), Some(_)) => Ok(format!("`{variable}` is set")),
        (_, None) if options.api_base.is_some() => Ok("none is sent to `--api-base`".to_owned()),
        (Some(variable), None) if model.starts_with("openai/") => Err(needed(options, &[variable])),
        _ => match inspected.missing_keys()? {
            [] => Ok("nothing that LiteLLM would look for is missing".to_owned()),
            missing if missing.iter().all(|name| name.ends_with("_API_KEY")) => Err(needed(options, missing)),
            missing => Ok(format!(
                "{} not set, which is right where the provider is told otherwise",
                quoted(missing, ", ")
            )),
        },
    };
    Some(found)
}

/// A file in which many projects keep such variables. A run reads it only where `--env-file` names it.
const ENV_FILE: &str = ".env";

fn needed(options: &PredictorSpec, variables: &[String]) -> String {
    let (model, names) = (options.model_name(), quoted(variables, " or "));
    let file = options.env_file.is_none().then(|| EnvFile::read(Path::new(ENV_FILE)).ok()).flatten();
    let hint = match file {
        Some(file) if file.names().any(|name| variables.iter().any(|variable| variable == name)) => {
            format!("`{ENV_FILE}` sets it: add `--env-file {ENV_FILE}`")
        }
        _ => format!(
            "set {names}, or name a file that does with `--env-file`; or `--api-base` for a server without keys"
        ),
    };
    format!("`{model}` needs a key\nhint: {hint}")
}

/// Checks that `--env-file` can be read, and tells which variables it sets, without their values.
pub(super) fn env_file(options: &PredictorSpec) -> Option<Finding> {
    let path = options.env_file.as_deref()?;
    let told = |file: EnvFile| {
        let names: Vec<_> = file.names().map(str::to_owned).collect();
        let names = if names.is_empty() { "nothing".to_owned() } else { quoted(&names, ", ") };
        format!("`{}` names {names}", path.display())
    };
    Some(EnvFile::read(path).map(told).map_err(|error| error.to_string()))
}

fn quoted(names: &[String], joint: &str) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(joint)
}

/// Checks that `--api-base` answers and serves the model. It was asked for its list of models, which costs nothing.
pub(super) fn api(inspected: &Inspected, options: &PredictorSpec) -> Option<Finding> {
    let (url, models) = (options.api_base.as_deref()?, inspected.models()?);
    let url = url.trim_end_matches('/');
    let asked = format!("`{url}/models`");
    Some(match models {
        Models::Error { error } => Err(format!(
            "failed to reach {asked}: {error}\nhint: is the server running, and is `--api-base` right?"
        )),
        Models::Status { status: status @ (401 | 403), .. } => Err(format!(
            "{asked} refuses the key ({status})\nhint: check the value of {}",
            variable(options).map_or_else(|| "`--lm api_key=…`".to_owned(), |name| format!("`{name}`"))
        )),
        Models::Status { status: 404, .. } if is_openai(options) && !has_version(url) => {
            Err(format!("{asked} is not served (404)\nhint: did you mean `--api-base {url}/v1`?"))
        }
        Models::Status { status: status @ 500.., .. } => {
            Err(format!("{asked} fails ({status})\nhint: look into the server's own log"))
        }
        Models::Status { status: status @ 300..=399, .. } => {
            Err(format!("{asked} is somewhere else ({status})\nhint: give the URL it redirects to"))
        }
        Models::Status { status: 200..=299, seconds: took, names } => {
            let answered = format!("{asked} answered in {}", seconds(*took));
            match names.as_deref() {
                Some(names @ [_, ..]) if options.model_name() != "local" => {
                    listed(names, options.model_name(), &asked)
                        .map(|name| format!("{answered}, and lists `{name}`"))
                }
                _ => Ok(answered),
            }
        }
        Models::Status { status, .. } => Ok(format!("reached, though {asked} is not served ({status})")),
    })
}

/// Whether the server has the URLs of OpenAI's API; those of other providers have another shape.
fn is_openai(options: &PredictorSpec) -> bool {
    let provider = options.model_name().split('/').next().unwrap_or_default();
    ["openai", "hosted_vllm", "lm_studio", "litellm_proxy", "local"].contains(&provider)
}

/// Whether a URL has a path such as `/v1` in it.
fn has_version(url: &str) -> bool {
    let is_version = |part: &str| {
        part.strip_prefix('v').is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
    };
    url.split('/').skip(3).any(is_version)
}

/// Finds the model's name among those that a server lists.
fn listed(names: &[String], model: &str, asked: &str) -> Finding {
    let name = model.split_once('/').map_or(model, |(_, name)| name);
    // Names at Ollama have a tag, where a name without one means `latest`. Names at Gemini begin with `models/`.
    let is_it = |known: &&String| {
        [name, model].contains(&known.as_str())
            || [known.strip_suffix(":latest"), known.strip_prefix("models/")].contains(&Some(name))
    };
    names.iter().find(is_it).cloned().ok_or_else(|| {
        let first = quoted(&names[..names.len().min(NAMED)], ", ");
        let more = if names.len() > NAMED { ", …" } else { "" };
        format!("{asked} does not list `{name}`\nhint: it lists {first}{more}")
    })
}

/// The most models that are named where the one asked for is not among them.
const NAMED: usize = 8;
