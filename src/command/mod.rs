//! One file a subcommand, and what they share. Each makes a job of what was given, has it run by [`job`](crate::job),
//! shows what that returns, and gives the exit code.

pub(crate) mod compare;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod env_file;
pub(crate) mod export;
mod failures;
pub(crate) mod process;
pub(crate) mod report;
pub(crate) mod resume;
mod run_job;
pub(crate) mod show;
pub(crate) mod signals;
pub(crate) mod streams;
pub(crate) mod verify;

use std::fmt;

/// A usage error: exit code 2 instead of 1.
#[derive(Debug)]
pub(crate) struct UsageError(pub String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}
