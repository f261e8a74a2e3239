//! What workers are started with.

use std::fmt;
use std::num::NonZeroUsize;
use std::time::Duration;

use super::life::Node;
use super::process::Program;
use super::ray::Cluster;
use crate::bridge::remote::Host;

/// How many workers there are to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// That many.
    Exactly(NonZeroUsize),
    /// That many, or fewer where the memory left after the load of the first would not hold them.
    UpTo(NonZeroUsize),
}

/// What workers are.
#[derive(Debug)]
pub enum Which {
    /// Processes of this machine.
    Processes {
        /// The program that serves as a worker.
        program: Program,
        /// How many there are to be.
        count: Count,
    },
    /// Actors on a cluster.
    Actors(Box<Cluster>),
}

/// What is done for the worker with a number, counted from 1, on a machine.
pub type Hosts = Box<dyn Fn(usize, &Node) -> Host + Send + Sync>;

/// What workers are started with.
pub struct Settings {
    /// What each is told to load.
    pub load: Vec<u8>,
    /// What is done for the worker with this number, counted from 1, and on this machine.
    pub host: Hosts,
    /// A worker whose event loop has not turned for this long is killed.
    pub kill_after: Duration,
    /// A worker that takes more resident memory, in bytes, is replaced.
    pub max_rss: Option<u64>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("kill_after", &self.kill_after)
            .field("max_rss", &self.max_rss)
            .finish_non_exhaustive()
    }
}
