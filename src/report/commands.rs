//! Commands of this program, written so that they can be pasted into a shell.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::path::Path;

use super::text::{argument, shell_word};

/// Subcommands that take the answers file as their only operand.
const OF_ANSWERS: [&str; 3] = ["resume", "export", "report"];
/// Subcommands that take other operands, or none.
const OTHERS: [&str; 7] = ["process", "compare", "merge", "verify", "doctor", "model", "demo"];

/// The name by which the program was called, and the job that its commands are about.
#[derive(Debug, Clone)]
pub(crate) struct Commands {
    program: String,
    answers: Option<String>,
}

impl Commands {
    /// Commands of the program as it was called, about the job with this answers file, named as the user names it; or
    /// about no job.
    pub(crate) fn new(program: &OsStr, answers: Option<&Path>) -> Self {
        Self { program: argument(program), answers: answers.map(|answers| shell_word(answers.as_os_str())) }
    }

    /// The command that continues the job.
    pub(crate) fn resume(&self) -> String {
        self.complete("resume", "")
    }

    /// Completes each command in a text's hints, so that a module that knows neither how the program was called nor
    /// where the answers are can write a hint as `` `resume --only failed` ``.
    pub(crate) fn in_hints<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if !text.contains("hint: ") {
            return Cow::Borrowed(text);
        }
        let lines = text.split('\n').map(|line| match line.strip_prefix("hint: ") {
            Some(hint) => Cow::Owned(format!("hint: {}", self.in_hint(hint))),
            None => Cow::Borrowed(line),
        });
        Cow::Owned(lines.collect::<Vec<_>>().join("\n"))
    }

    /// Completes the literals between backticks.
    fn in_hint(&self, hint: &str) -> String {
        let literal = |(place, part)| if place % 2 == 1 { self.literal(part) } else { Cow::Borrowed(part) };
        hint.split('`').enumerate().map(literal).collect::<Vec<_>>().join("`")
    }

    fn literal<'a>(&self, literal: &'a str) -> Cow<'a, str> {
        let (name, arguments) = literal.split_once(' ').unwrap_or((literal, ""));
        let has_operand = !arguments.is_empty() && !arguments.starts_with('-');
        match name {
            _ if OF_ANSWERS.contains(&name) && (has_operand || self.answers.is_some()) => {
                Cow::Owned(self.complete(name, arguments))
            }
            // A bare `process` only names the subcommand.
            _ if OTHERS.contains(&name) && (has_operand || name == "doctor") => {
                Cow::Owned(self.complete(name, arguments))
            }
            _ => Cow::Borrowed(literal),
        }
    }

    fn complete(&self, name: &str, arguments: &str) -> String {
        let answers = self.answers.as_deref().filter(|_| OF_ANSWERS.contains(&name));
        let answers = answers.filter(|_| arguments.is_empty() || arguments.starts_with('-'));
        let words = [&self.program, name, answers.unwrap_or_default(), arguments];
        words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_in_a_hint_is_completed_and_nothing_else_is() {
        let commands = Commands::new(OsStr::new("./my bin/tab"), Some(Path::new("my answers.csv")));
        let full = |text| commands.in_hints(text).into_owned();
        assert_eq!(
            full("`resume` failed\nhint: free some space; `resume` then continues"),
            "`resume` failed\nhint: free some space; `'./my bin/tab' resume 'my answers.csv'` then continues"
        );
        assert_eq!(
            full("x\nhint: `resume --only failed` or `export`"),
            "x\nhint: `'./my bin/tab' resume 'my answers.csv' --only failed` or `'./my bin/tab' export 'my answers.csv'`"
        );
        assert_eq!(full("x\nhint: `resume other.csv`"), "x\nhint: `'./my bin/tab' resume other.csv`");
        assert_eq!(
            full("x\nhint: an earlier `process`, `--force`"),
            "x\nhint: an earlier `process`, `--force`"
        );
        let none = Commands::new(OsStr::new("tab"), None);
        assert_eq!(none.in_hints("hint: `resume`, or `doctor`"), "hint: `resume`, or `tab doctor`");
    }
}
