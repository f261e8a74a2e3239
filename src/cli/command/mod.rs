//! The subcommands, one file each, and what they share. A subcommand makes a job of its options, calls
//! [`job`](crate::job), shows the result, and returns the exit code.

pub mod actor;
pub(crate) mod compare;
pub(crate) mod completions;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod env_file;
pub(crate) mod export;
mod failures;
pub(crate) mod merge;
pub(crate) mod model;
pub(crate) mod process;
pub(crate) mod report;
pub(crate) mod resume;
mod run_job;
pub(crate) mod show;
pub(crate) mod signals;
pub(crate) mod streams;
pub(crate) mod verify;
pub(crate) mod worker;

use std::fmt;

/// An error in how the program was used. Its exit code is 2 instead of 1.
#[derive(Debug)]
pub(crate) struct UsageError(pub String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}
