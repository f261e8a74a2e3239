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
/// Keys among `--lm` and the credentials of `--api-base` are left out: they are never written down.
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
            let values = values.filter(|value| id != "lm" || !is_key(value));
            let values =
                values.map(|value| if id == "api_base" { without_credentials(&value).into() } else { value });
            given.extend(values.map(|value| format!("--{long}={value}")));
        } else {
            given.push(format!("--{long}"));
        }
    }
    given
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
