//! Options of which only one can hold, whatever gives them: a flag beats the variable of its opposite. Not the modes,
//! which say so themselves.

use clap::ArgMatches;
use clap::parser::ValueSource::{CommandLine, EnvVariable};

/// Clap's own conflicts do not tell a flag from a variable.
const OPPOSITES: [(&str, &str); 1] = [("limit", "range")];

/// The options whose variables are beaten by a flag. Refuses two flags, or two variables.
pub fn beaten(matches: &ArgMatches) -> Result<Vec<&'static str>, String> {
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

/// Leaves out the arguments (`--option=VALUE`) whose opposite is among those that come later.
pub fn give_way<'a>(earlier: &'a [String], later: &[String]) -> impl Iterator<Item = &'a String> {
    let is = |argument: &str, id: &str| {
        argument.strip_prefix("--").and_then(|rest| rest.split('=').next()).is_some_and(|name| name == id)
    };
    let among_later = |id| later.iter().any(|argument| is(argument, id));
    let beaten: Vec<&str> = OPPOSITES
        .iter()
        .flat_map(|(one, other)| [(*one, *other), (*other, *one)])
        .filter_map(|(id, opposite)| among_later(opposite).then_some(id))
        .collect();
    earlier.iter().filter(move |argument| !beaten.iter().any(|id| is(argument, id)))
}
