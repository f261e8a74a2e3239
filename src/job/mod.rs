//! The product as a library.
//!
//! A job is plain data, a [`JobSpec`]. A [`Job`] is one session of it, on its way to its end:
//!
//! 1. [`Job::new`] begins a job or goes on with the one in its journal, [`Job::resume`] only goes on. Both refuse what
//!    would be destroyed.
//! 2. [`Job::prepare`] checks everything and loads the predictor. Nothing is called yet, so nothing is paid.
//! 3. [`PreparedJob::open`] takes the journal's lock. [`PreparedJob::check`] and [`PreparedJob::estimate`] tell what would
//!    be called, in place of it.
//! 4. [`OpenJob::run`] calls the rows, records each outcome, and writes the answers file and the report.
//!
//! [`compare::PreparedComparison`] runs the same rows at several widths, [`rebuilt::rebuilt`] gives the report of any run,
//! [`export::export`] its answers so far, and [`verify::verify`] holds an answers file against its input and journal.
//!
//! Several jobs may run at once, or one after the other. They share one Python, which outlives them: a process that has run
//! jobs calls [`end_python`] before it ends.
//!
//! Nothing here prints, reads options from the environment, takes over a signal or ends the process. What happens is
//! told to an [`Observer`], and a [`Control`] ends the job from outside. What fails is a [`JobError`].

pub(crate) mod answerer;
mod begin;
pub mod compare;
mod conclude;
pub(crate) mod damage;
pub(crate) mod destination;
mod done;
mod error;
pub mod estimate;
pub mod export;
pub(crate) mod files;
pub mod paths;
pub(crate) mod prepare;
mod project;
pub mod rebuilt;
mod rematch;
mod resume;
mod run;
pub mod spec;
pub mod verify;

pub use self::begin::{Job, OpenJob, PreparedJob, SessionOptions};
pub use self::error::{ErrorKind, JobError};
pub use self::paths::JobPaths;
pub use self::resume::{Begin, Only, TakeUp, recorded};
pub use self::run::SessionEnd;
pub use self::spec::JobSpec;
pub use crate::bridge::python::interpreter::end as end_python;
pub use crate::event::Event;
pub use crate::input::Format;
pub use crate::observe::{Level, Observer, Snapshot};
pub use crate::policy::stop::Signal;
pub use crate::report::Report;
pub use crate::run::control::Control;
