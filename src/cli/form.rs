//! For whom standard error is written, from the first moment on. Not what is written.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::panic;

use crate::observe::Level;
use crate::report::progress::{Form, message_line};

/// For whom standard error is written, as far as can be told before the options are read: what is wrong with them is
/// written so too.
pub(super) fn of(arguments: &[OsString]) -> Form {
    let words: Vec<_> = arguments.iter().map(|argument| argument.to_string_lossy()).collect();
    let last = (0..words.len()).rev().find_map(|at| match words[at].strip_prefix("--progress") {
        Some("") => words.get(at + 1).map(ToString::to_string),
        Some(value) => value.strip_prefix('=').map(str::to_owned),
        None => None,
    });
    let kind = last.or_else(|| std::env::var("TAB_PROGRESS").ok());
    if kind.as_deref() == Some("json") { Form::Json } else { Form::Text }
}

/// Has panics told to programs in their own form.
pub(super) fn tell_panics(form: Form) {
    if form == Form::Json {
        // Not by the screen: it may be what panicked, with its lock held.
        panic::set_hook(Box::new(|panic| {
            let _ = writeln!(io::stderr(), "{}", message_line(Level::Error, &panic.to_string()));
        }));
    }
}
