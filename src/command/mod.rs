//! One file a subcommand, and what they share. Each makes a job of what was given, has it run by [`job`](crate::job),
//! shows what that returns, and gives the exit code.

pub mod compare;
pub mod demo;
pub mod doctor;
pub mod env_file;
pub mod export;
mod failures;
pub mod process;
pub mod report;
pub mod resume;
mod run_job;
pub mod show;
pub mod signals;
pub mod streams;
pub mod verify;

use std::fmt;

/// A usage error: exit code 2 instead of 1.
#[derive(Debug)]
pub struct UsageError(pub String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}
