//! The variables of the environment, and programs started with them, in a process whose Python code may change them.
//!
//! Python code changes variables while it holds the interpreter's lock, and the C library then moves them in memory.
//! Rust's own functions know nothing of that lock: a read meanwhile takes what was freed, which kills the process, and
//! a program that is started meanwhile fails with `EFAULT`. So whatever reads the environment holds the lock too. It
//! waits for it, and must not be done where a predictor that keeps the lock may not hold up the program.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use pyo3::Python;

/// Does what reads or changes the environment while no Python code changes it. Without an interpreter, it just does it.
pub(crate) fn locked<T>(mut work: impl FnMut() -> T) -> T {
    Python::try_attach(|_| work()).unwrap_or_else(work)
}

/// The value of a variable; `None` if it is not set.
pub(crate) fn variable(name: &str) -> Option<OsString> {
    locked(|| std::env::var_os(name))
}

/// All variables with their values.
pub(crate) fn variables() -> Vec<(OsString, OsString)> {
    locked(|| std::env::vars_os().collect())
}

/// All variables with their values, without waiting for the lock. For the end of the process, when Python has ended or
/// hangs with the lock held.
pub(crate) fn last_variables() -> impl Iterator<Item = (OsString, OsString)> {
    std::env::vars_os()
}

/// The directory for temporary files: `$TMPDIR`, or `/tmp`.
pub(crate) fn temporary_directory() -> PathBuf {
    locked(std::env::temp_dir)
}

/// Starts a program. It runs without the lock.
///
/// # Errors
///
/// As [`Command::spawn`].
pub(crate) fn spawn(command: &mut Command) -> io::Result<Child> {
    locked(|| command.spawn())
}

/// Runs a program without standard input to its end, and returns what it wrote.
///
/// # Errors
///
/// As [`Command::output`].
pub(crate) fn output(command: &mut Command) -> io::Result<Output> {
    spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()))?.wait_with_output()
}
