//! Options that exclude each other, as flags or as variables of the environment. A flag overrides the variable of the
//! other option. The switches that come in pairs are in `variables.rs`.

use clap::ArgMatches;
use clap::parser::ValueSource::{CommandLine, EnvVariable};

use crate::job::spec::RayAddress;

/// Pairs of options that exclude each other. Clap's own conflicts do not distinguish flags from variables.
const OPPOSITES: [(&str, &str); 2] = [("limit", "range"), ("ray", "workers")];

/// The options whose variables are overridden by a flag. Refuses two flags, and two variables.
pub(super) fn beaten(matches: &ArgMatches) -> Result<Vec<&'static str>, String> {
    let given = |id| matches.ids().any(|known| known == id).then(|| matches.value_source(id)).flatten();
    let mut beaten = Vec::new();
    for (one, other) in OPPOSITES {
        match (given(one), given(other)) {
            (Some(CommandLine), Some(EnvVariable)) => beaten.push(other),
            (Some(EnvVariable), Some(CommandLine)) => beaten.push(one),
            (Some(CommandLine), Some(CommandLine)) => {
                return Err(format!("`--{one}` cannot be used with `--{other}`"));
            }
            (Some(EnvVariable), Some(EnvVariable)) => {
                let [one, other] = [one, other].map(|id| format!("TAB_{}", id.to_uppercase()));
                return Err(format!("`{one}` and `{other}` cannot both be set"));
            }
            _ => {}
        }
    }
    Ok(beaten)
}

/// The options of `--ray` that were given, where the calls are made without it. A variable may be set for other jobs.
pub(super) fn idle_ray(matches: &ArgMatches, recorded: Option<&RayAddress>) -> Vec<String> {
    let Some((_, options)) = matches.subcommand() else { return Vec::new() };
    let ids = || options.ids().map(clap::Id::as_str);
    let given = ids().any(|id| id == "ray").then(|| options.get_one::<RayAddress>("ray")).flatten();
    if given.or(recorded).is_some_and(|address| *address != RayAddress::None) {
        return Vec::new();
    }
    ids()
        .filter(|id| id.starts_with("ray_") && options.value_source(id) == Some(CommandLine))
        .map(|id| format!("--{}", id.replace('_', "-")))
        .collect()
}

/// The value of `-c`, if it was given together with `--sequential`.
pub(super) fn idle_concurrency(matches: &ArgMatches) -> Option<usize> {
    let (_, options) = matches.subcommand()?;
    let given = |id| options.value_source(id) == Some(CommandLine);
    let idle = given("concurrency") && given("sequential") && options.get_flag("sequential");
    idle.then(|| options.get_one("concurrency").copied()).flatten()
}
