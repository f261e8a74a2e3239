//! Environment variables that give options: the values of switches, and warnings about variables that no option reads.

use std::ffi::OsString;

use clap::{ArgAction, Command};

use super::near::nearest;
use crate::environment;
use crate::job::spec::WholePatch;

/// The prefix of all variables.
const PREFIX: &str = "TAB_";
/// Names of variables for options that are taken on the command line only.
const WITHOUT: [&str; 3] = ["TAB_FORCE", "TAB_BRIDGE", "TAB_OUTPUT"];

/// Lets the variable of each switch be `1`, `true`, `yes` or `on`, or their opposites.
pub(super) fn with_switches(command: Command) -> Command {
    command.mut_subcommands(|command| {
        command.mut_args(|argument| match argument.get_action() {
            ArgAction::SetTrue => argument.value_parser(switch),
            ArgAction::Count => argument.value_parser(count),
            _ => argument,
        })
    })
}

/// Parses the value of a switch.
fn switch(text: &str) -> Result<bool, String> {
    match text.to_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "" | "0" | "false" | "no" | "off" => Ok(false),
        _ => Err("expected `true` or `false`".to_owned()),
    }
}

/// Parses the value of a switch that can be given several times.
fn count(text: &str) -> Result<u8, String> {
    let number = text.parse().or_else(|_| switch(text).map(u8::from));
    number.map_err(|_| "expected `true`, `false` or a number".to_owned())
}

/// Variables of switches that come in pairs. A flag overrides both variables of its pair.
pub(super) const SWITCHES: [&str; 4] = ["TAB_SEQUENTIAL", "TAB_CONCURRENT", "TAB_HTML", "TAB_NO_HTML"];

/// Takes switches that come in pairs from the environment, if no flag of the pair was given.
pub(super) fn switch_on(patch: &mut WholePatch) -> Result<(), String> {
    let [sequential, concurrent, html, no_html] = SWITCHES.map(switched_on);
    if patch.pace.mode().is_none() {
        (patch.pace.sequential, patch.pace.concurrent) =
            opposites("TAB_SEQUENTIAL", sequential?, "TAB_CONCURRENT", concurrent?)?;
    }
    if patch.page.wanted().is_none() {
        (patch.page.html, patch.page.no_html) = opposites("TAB_HTML", html?, "TAB_NO_HTML", no_html?)?;
    }
    Ok(())
}

/// Refuses two switches that are both on.
fn opposites(one: &str, is_on: bool, other: &str, other_is_on: bool) -> Result<(bool, bool), String> {
    if is_on && other_is_on {
        return Err(format!("`{one}` and `{other}` cannot both be set"));
    }
    Ok((is_on, other_is_on))
}

/// Whether an environment variable turns a switch on.
fn switched_on(name: &str) -> Result<bool, String> {
    let value = environment::variable(name).and_then(|value| value.into_string().ok()).unwrap_or_default();
    switch(&value).map_err(|expected| format!("`{name}={value}`: {expected}"))
}

/// A warning for each variable that begins with the prefix and belongs to no option. `further` are known variables that
/// `command` does not have.
pub(super) fn unknown(
    command: &Command,
    further: &[&str],
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Vec<String> {
    let arguments = command.get_subcommands().flat_map(Command::get_arguments);
    let shown = arguments.filter(|argument| !argument.is_hide_set());
    let hidden = command.get_subcommands().flat_map(Command::get_arguments).filter(|it| it.is_hide_set());
    let name = |argument: &clap::Arg| argument.get_env().map(|name| name.to_string_lossy().into_owned());
    let mut known: Vec<String> = shown.filter_map(name).collect();
    known.extend(further.iter().map(|name| (*name).to_owned()));
    let hidden: Vec<String> = hidden.filter_map(name).collect();
    let mut unknown: Vec<String> = variables
        .into_iter()
        .map(|(name, _)| name.to_string_lossy().into_owned())
        .filter(|name| name.starts_with(PREFIX) && !known.contains(name) && !hidden.contains(name))
        .collect();
    unknown.sort();
    let told = |name: String| match nearest(&name, known.iter().map(String::as_str)) {
        _ if WITHOUT.contains(&name.as_str()) => {
            format!("`{name}` has no effect\nhint: the option is taken on the command line only")
        }
        Some(likely) => format!("`{name}` belongs to no option\nhint: did you mean `{likely}`?"),
        None => format!("`{name}` belongs to no option"),
    };
    unknown.into_iter().map(told).collect()
}

#[cfg(test)]
mod tests {
    use clap::Arg;

    use super::*;

    #[test]
    fn a_variable_of_no_option_is_told_with_the_likely_one_which_is_never_hidden() {
        let options = [
            Arg::new("one").long("concurrency").env("TAB_CONCURRENCY"),
            Arg::new("two").long("stuck-after").env("TAB_STUCK_AFTER").hide(true),
        ];
        let command = Command::new("tab").subcommand(Command::new("process").args(options));
        let names = [
            "TAB_CONCURENCY",
            "TAB_STUCK_AFTR",
            "TAB_CONCURRENCY",
            "TAB_STUCK_AFTER",
            "TAB_HTML",
            "TAB_FORCE",
            "TABLE",
        ];
        let variables = names.map(|name| (name.into(), OsString::new()));
        insta::assert_snapshot!(unknown(&command, &["TAB_HTML"], variables).join("\n"), @r"
        `TAB_CONCURENCY` belongs to no option
        hint: did you mean `TAB_CONCURRENCY`?
        `TAB_FORCE` has no effect
        hint: the option is taken on the command line only
        `TAB_STUCK_AFTR` belongs to no option
        ");
    }

    #[test]
    fn a_switch_is_written_as_people_write_it() {
        let on = ["1", "true", "YES", "on"].map(switch);
        let off = ["", "0", "False", "no", "off"].map(switch);
        assert!(on.iter().all(|it| *it == Ok(true)) && off.iter().all(|it| *it == Ok(false)));
        assert!(switch("maybe").is_err() && count("maybe").is_err());
        assert_eq!(["2", "true", "no"].map(count), [Ok(2), Ok(1), Ok(0)]);
    }
}
