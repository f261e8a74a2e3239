//! Options of which only one can hold, whatever gives them: a flag beats the variable of its opposite. Not the modes,
//! which say so themselves.

use clap::ArgMatches;
use clap::parser::ValueSource::{CommandLine, EnvVariable};

/// Clap's own conflicts do not tell a flag from a variable.
const OPPOSITES: [(&str, &str); 1] = [("limit", "range")];

/// The options whose variables are beaten by a flag. Refuses two flags, or two variables.
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
