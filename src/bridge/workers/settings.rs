//! What workers are started with.

use std::fmt;
use std::num::NonZeroUsize;
use std::time::Duration;

use super::process::Program;
use crate::bridge::remote::Host;

/// How many workers there are to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// That many.
    Exactly(NonZeroUsize),
    /// That many, or fewer where the memory left after the load of the first would not hold them.
    UpTo(NonZeroUsize),
}

/// What workers are started with.
pub struct Settings {
    /// The program that serves as a worker.
    pub program: Program,
    /// What each is told to load.
    pub load: Vec<u8>,
    /// What is done for the worker with this number, counted from 1.
    pub host: Box<dyn Fn(usize) -> Host + Send + Sync>,
    /// How many there are to be.
    pub count: Count,
    /// A worker whose event loop has not turned for this long is killed.
    pub kill_after: Duration,
    /// A worker that takes more resident memory, in bytes, is replaced.
    pub max_rss: Option<u64>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("program", &self.program)
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}
