//! Decides whether standard error is written for people or for programs, before the options are parsed.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::panic;

use crate::environment;
use crate::observe::Level;
use crate::report::progress::{Form, message_line};

/// The form of standard error, as far as it can be told before the options are parsed. Errors in the options are
/// written in this form, too.
pub(super) fn of(arguments: &[OsString]) -> Form {
    let words: Vec<_> = arguments.iter().map(|argument| argument.to_string_lossy()).collect();
    let last = (0..words.len()).rev().find_map(|at| match words[at].strip_prefix("--progress") {
        Some("") => words.get(at + 1).map(ToString::to_string),
        Some(value) => value.strip_prefix('=').map(str::to_owned),
        None => None,
    });
    let kind = last.or_else(|| environment::variable("TAB_PROGRESS")?.into_string().ok());
    if kind.as_deref() == Some("json") { Form::Json } else { Form::Text }
}

/// Makes panics appear as JSON lines if standard error is written for programs.
pub(super) fn tell_panics(form: Form) {
    if form == Form::Json {
        // The screen is not used, because it may have panicked itself, with its lock held.
        panic::set_hook(Box::new(|panic| {
            let _ = writeln!(io::stderr(), "{}", message_line(Level::Error, &panic.to_string()));
        }));
    }
}
