//! The product as a library: a job is a value that is prepared, run, resumed, compared, exported and verified.

pub(crate) mod answerer;
mod begin;
pub mod compare;
pub(crate) mod damage;
pub(crate) mod destination;
mod done;
mod error;
pub mod estimate;
pub mod export;
pub(crate) mod files;
pub mod paths;
pub(crate) mod prepare;
pub mod rebuilt;
mod rematch;
mod resume;
mod run;
pub mod spec;
pub mod verify;

pub use self::begin::{Job, OpenJob, PreparedJob, SessionOptions};
pub use self::error::{ErrorKind, JobError};
pub use self::resume::{Begin, Only, TakeUp, recorded};
pub use self::run::SessionEnd;
