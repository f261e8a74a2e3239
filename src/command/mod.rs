//! One file a subcommand, and what they share. Here errors become text for people, and runs become exit codes.

mod changed;
pub mod compare;
mod comparing;
mod damage;
pub mod demo;
mod destination;
pub mod doctor;
mod done;
pub mod env_file;
mod estimate;
pub mod export;
mod failures;
mod job;
mod measured;
mod prepared;
pub mod process;
mod rebuilt;
pub mod report;
pub mod resume;
mod session;
mod setup;
pub mod show;
pub mod streams;
pub mod verify;

use std::fmt;

/// A usage error: exit code 2 instead of 1.
#[derive(Debug)]
pub struct Usage(pub String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}
