//! The options of a run as the journal keeps them, so that `resume` starts from what `process` was given.

use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Command};

use super::options::Mode;
use crate::secret::without_credentials;

/// Options that belong to one session only, or that the journal says otherwise.
const NOT_KEPT: [&str; 11] = [
    "output",
    "force",
    "dry_run",
    "progress",
    "quiet",
    "verbose",
    "color",
    "sequential",
    "concurrent",
    "only",
    "allow_changed",
];

/// The options that were given, by flag or (with `environment`) by variable, as arguments that give them again.
/// Secrets are among them: see [`without_secrets`].
pub fn given(command: &Command, matches: &ArgMatches, environment: bool) -> Vec<String> {
    let mut given = Vec::new();
    for argument in command.get_arguments() {
        let id = argument.get_id().as_str();
        let Some(long) = argument.get_long().filter(|_| !NOT_KEPT.contains(&id)) else { continue };
        match matches.value_source(id) {
            Some(ValueSource::CommandLine) => {}
            Some(ValueSource::EnvVariable) if environment => {}
            _ => continue,
        }
        if matches!(argument.get_action(), ArgAction::Set | ArgAction::Append) {
            let values = matches.get_raw(id).into_iter().flatten().map(|value| value.to_string_lossy());
            given.extend(values.map(|value| format!("--{long}={value}")));
        } else if !matches!(argument.get_action(), ArgAction::SetTrue) || matches.get_flag(id) {
            given.push(format!("--{long}"));
        }
    }
    given
}

/// The same without the keys among `--lm` and the credentials of `--api-base`: they are never written down.
pub fn without_secrets(given: Vec<String>) -> Vec<String> {
    let is_secret = |option: &String| option.strip_prefix("--lm=").is_some_and(is_key);
    let strip = |option: String| match option.strip_prefix("--api-base=") {
        Some(url) => format!("--api-base={}", without_credentials(url)),
        None => option,
    };
    given.into_iter().filter(|option| !is_secret(option)).map(strip).collect()
}

/// The flag that gives a mode.
pub fn mode(mode: Mode) -> String {
    match mode {
        Mode::Sequential => "--sequential".to_owned(),
        Mode::Concurrent => "--concurrent".to_owned(),
    }
}

/// Whether an argument of the language model is a secret, by its name (`azure_ad_token` is, `max_tokens` is not).
pub fn is_key(pair: &str) -> bool {
    let key = pair.split('=').next().unwrap_or_default().to_lowercase();
    key.ends_with("token") || ["key", "secret", "password"].iter().any(|word| key.contains(word))
}
