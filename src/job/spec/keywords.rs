//! Reads options that another program gives by name, with the groups of the command line: units, ranges and messages
//! are the same. Variables of the environment give none of them.

use std::path::Path;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Args, Command, ValueEnum};

/// Why an option cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{name}=` {reason}")]
pub struct KeywordError {
    /// The name of the option, as an identifier.
    pub name: String,
    /// What is wrong, to follow the name.
    pub reason: String,
}

/// The command line of a group of options, which takes nothing from the environment.
pub(super) fn command<P: Args>() -> Command {
    let command = Command::new("job").no_binary_name(true).args_override_self(true);
    P::augment_args(command).mut_args(|argument| argument.env(None::<&str>))
}

/// Reads a group of options. Each is an identifier, such as `row_timeout`, and the value that the command line takes.
/// An option that can be repeated may be given several times. A switch is `true` or `false`.
///
/// # Errors
///
/// Fails if there is no such option, or if a value does not fit.
pub fn keywords<P: Args>(given: &[(String, String)]) -> Result<P, KeywordError> {
    let is_given = |name: &str| given.iter().any(|(option, _)| option == name);
    for (one, other) in [("limit", "range"), ("ray", "workers")] {
        if is_given(one) && is_given(other) {
            let reason = format!("cannot be given with `{other}=`");
            return Err(KeywordError { name: one.to_owned(), reason });
        }
    }
    let command = command::<P>()
        .mut_args(|argument| if is_switch(&argument) { argument.num_args(1) } else { argument });
    let flags: Vec<_> = command
        .get_arguments()
        .filter(|argument| is_flag(argument))
        .map(|flag| flag.get_id().clone())
        .collect();
    let words = given.iter().filter_map(|(name, value)| {
        let (is_flag, long) = (flags.iter().any(|flag| flag == name), name.replace('_', "-"));
        match value.as_str() {
            "false" if is_flag => None,
            _ if is_flag => Some(format!("--{long}")),
            _ => Some(format!("--{long}={value}")),
        }
    });
    let refused = |error: clap::Error| refused(&error, given);
    let matches = command.try_get_matches_from(words).map_err(refused)?;
    P::from_arg_matches(&matches).map_err(refused)
}

/// Reads the value of an option that is one of a few words.
///
/// # Errors
///
/// Fails if it is none of them.
pub fn keyword<T: ValueEnum>(name: &str, value: &str) -> Result<T, KeywordError> {
    T::from_str(value, false).map_err(|_| {
        let words: Vec<_> = T::value_variants().iter().filter_map(T::to_possible_value).collect();
        let words: Vec<_> = words.iter().map(|word| format!("`{}`", word.get_name())).collect();
        let reason = format!("cannot be `{value}`: expected {}", words.join(" or "));
        KeywordError { name: name.to_owned(), reason }
    })
}

/// The words of a command line that would start the same session: what was called, the file that it was given, and its
/// options. `object` is the name of the predictor, if it is a Python object.
pub fn argv(called: &str, file: &Path, given: &[(String, String)], object: Option<&str>) -> Vec<String> {
    let options = given.iter().map(|(name, value)| (&**name, &**value));
    let options = options.chain(object.map(|object| ("predictor", object)));
    let words = options.map(|(name, value)| format!("--{}={value}", name.replace('_', "-")));
    [called.to_owned(), file.to_string_lossy().into_owned()].into_iter().chain(words).collect()
}

/// Whether an option is a switch that can only be turned on, such as `force` or `no_html`.
fn is_flag(argument: &Arg) -> bool {
    matches!(argument.get_action(), ArgAction::SetTrue)
}

/// Whether an option is a switch that can be turned off again, such as `private`.
fn is_switch(argument: &Arg) -> bool {
    !is_flag(argument) && argument.get_num_args().is_some_and(|values| values.max_values() == 0)
}

fn refused(error: &clap::Error, given: &[(String, String)]) -> KeywordError {
    let texts = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => vec![text.clone()],
        Some(ContextValue::Strings(texts)) => texts.clone(),
        _ => Vec::new(),
    };
    // An argument is told as `--timeout <DURATION>`.
    let told = texts(ContextKind::InvalidArg).into_iter().next().unwrap_or_default();
    let name = told.trim_start_matches('-').split([' ', '=']).next().unwrap_or_default().replace('-', "_");
    // The arguments of a model may be secrets, and so may what is given in place of a variable's name.
    let is_shown = !["lm", "ray_env"].contains(&&*name);
    let value = given.iter().find(|(option, _)| *option == name && is_shown).map(|(_, value)| value);
    let cannot = value.map_or_else(|| "cannot be taken".to_owned(), |value| format!("cannot be `{value}`"));
    let reason = match error.kind() {
        ErrorKind::UnknownArgument => "is not an option of this function".to_owned(),
        ErrorKind::MissingRequiredArgument => {
            // Only the two prices need each other.
            let given = if name == "price_in" { "price_out" } else { "price_in" };
            return KeywordError { name: given.to_owned(), reason: format!("also needs `{name}=`") };
        }
        _ => {
            let valid =
                texts(ContextKind::ValidValue).iter().map(|value| format!("`{value}`")).collect::<Vec<_>>();
            match std::error::Error::source(error) {
                Some(why) => format!("{cannot}: {why}"),
                None if valid.is_empty() => cannot,
                None => format!("{cannot}: expected {}", valid.join(" or ")),
            }
        }
    };
    KeywordError { name, reason }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::job::spec::{LoopChoice, WholePatch};

    fn read(given: &[(&str, &str)]) -> Result<WholePatch, String> {
        let given: Vec<_> =
            given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        keywords(&given).map_err(|error| error.to_string())
    }

    #[test]
    fn options_are_read_as_the_command_line_reads_them() {
        let given = [
            ("row_timeout", "1500ms"),
            ("lm", "stop=--"),
            ("lm", "top_p=1"),
            ("no_html", "true"),
            ("private", "false"),
            ("event_loop", "uvloop"),
            ("retries", "0"),
            ("column", ""),
        ];
        let patch = read(&given).unwrap();
        assert_eq!(patch.shared.time.row_timeout, Some(Duration::from_millis(1500)));
        let pairs = [("stop", "--"), ("top_p", "1")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(patch.shared.predictor.lm.as_deref(), Some(&pairs[..]));
        assert_eq!((patch.page.wanted(), patch.shared.access.private), (Some(false), Some(false)));
        assert_eq!(patch.shared.predictor.event_loop, Some(LoopChoice::Uvloop));
        assert_eq!((patch.shared.retry.retries, patch.shared.rows.column.as_deref()), (Some(0), Some("")));
        assert_eq!(read(&[("private", "true")]).unwrap().shared.access.private, Some(true));
    }

    #[test]
    fn options_are_told_as_words_of_the_command_line() {
        let given = [("row_timeout".to_owned(), "5s".to_owned())];
        let words = argv("tokio_asyncio_bridge.process", "q.csv".as_ref(), &given, Some("app:answer"));
        let expected =
            ["tokio_asyncio_bridge.process", "q.csv", "--row-timeout=5s", "--predictor=app:answer"];
        assert_eq!(words, expected);
    }

    #[test]
    fn one_of_a_few_words_is_read_or_refused_with_all_of_them() {
        assert_eq!(keyword("event_loop", "uvloop"), Ok(LoopChoice::Uvloop));
        let error = keyword::<LoopChoice>("event_loop", "trio").unwrap_err().to_string();
        assert_eq!(error, "`event_loop=` cannot be `trio`: expected `auto` or `asyncio` or `uvloop`");
    }

    #[test]
    fn what_does_not_fit_is_told_by_the_option_and_the_reason() {
        let faults: [&[(&str, &str)]; 8] = [
            &[("timeout", "0s")],
            &[("retries", "-1")],
            &[("event_loop", "trio")],
            &[("lm", "=sk-1")],
            &[("price_in", "1")],
            &[("limit", "1"), ("range", "0:2")],
            &[("timout", "1s")],
            &[("concurrency", "0")],
        ];
        let told = faults.map(|given| read(given).unwrap_err()).join("\n");
        insta::assert_snapshot!(told, @r"
        `timeout=` cannot be `0s`: a duration of zero leaves no time for anything
        `retries=` cannot be `-1`: -1 is not in 0..=4294967295
        `event_loop=` cannot be `trio`: expected `auto` or `asyncio` or `uvloop`
        `lm=` cannot be taken: expected `NAME=VALUE`
        `price_in=` also needs `price_out=`
        `limit=` cannot be given with `range=`
        `timout=` is not an option of this function
        `concurrency=` cannot be `0`: at least one call must be allowed
        ");
    }
}
