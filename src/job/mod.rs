//! The product as a library.
//!
//! A job is plain data: a [`JobSpec`]. One session of it goes through these steps:
//!
//! 1. [`Job::new`] begins a job, or continues the one in its journal; [`Job::of_input`] does so from the names of
//!    files. [`Job::resume`] only continues. All refuse to overwrite files that must stay.
//! 2. [`Job::prepare`] checks everything and loads the predictor. It calls nothing, so it costs nothing.
//! 3. [`PreparedJob::open`] locks the journal. For a dry run, use [`PreparedJob::check`] and [`PreparedJob::estimate`]
//!    instead: they say what would be called.
//! 4. [`OpenJob::run`] calls the predictor for each row, records each outcome, and writes the answers file and the
//!    report.
//!
//! [`Job::run`] takes all of them. [`background::Background`] runs a job on a thread of its own.
//!
//! [`memory::MemoryJob`] is a job without files: its rows and answers are Python objects.
//!
//! Other functions need no session of their own:
//!
//! * [`compare::PreparedComparison`] runs the same rows at several concurrencies.
//! * [`outcomes::Outcomes`] reads the outcomes of a run, row by row.
//! * [`rebuilt::rebuilt`] returns the report of any run, from its journal.
//! * [`export::export`] writes the answers that a run has so far.
//! * [`merge::merge`] joins the journals of shards into one job.
//! * [`verify::verify`] checks an answers file against its input and its journal.
//!
//! Several jobs may run at once, or one after the other. They share one Python interpreter, which lives on after them.
//! A process that has run jobs calls [`end_python`] before it ends.
//!
//! Nothing here prints, reads options from the environment, installs a signal handler or ends the process. An
//! [`Observer`] is told what happens, a [`Control`] stops the job from outside, and every failure is a [`JobError`].

pub(crate) mod answerer;
pub mod background;
mod begin;
pub mod compare;
mod conclude;
pub(crate) mod damage;
pub(crate) mod destination;
mod difference;
mod done;
pub(crate) mod env_file;
mod error;
pub mod estimate;
pub mod export;
pub(crate) mod files;
mod in_workers;
pub mod memory;
pub mod merge;
mod models;
pub(crate) mod named;
mod on_ray;
pub(crate) mod order;
pub mod outcomes;
pub mod paths;
pub(crate) mod prepare;
mod prints;
mod project;
pub(crate) mod ray;
pub mod rebuilt;
mod rematch;
mod resume;
mod run;
pub mod spec;
pub(crate) mod starting;
pub(crate) mod telling;
pub mod verify;
mod whole;

pub use self::begin::{Job, OpenJob, PreparedJob, SessionOptions};
pub(crate) use self::error::with_causes;
pub use self::error::{ErrorKind, JobError};
pub use self::paths::JobPaths;
pub use self::prints::Prints;
pub use self::resume::{Begin, Only, TakeUp, recorded};
pub use self::run::SessionEnd;
pub use self::spec::JobSpec;
pub use crate::bridge::python::interpreter::end as end_python;
pub use crate::bridge::python::predictor::PredictorObject;
pub use crate::event::{Blockage, Blocker, Event, LimitedBy, LimitedFor};
pub use crate::input::Format;
pub use crate::observe::{Fanout, Level, Observer, Snapshot};
pub use crate::policy::stop::Signal;
pub use crate::report::Report;
pub use crate::report::progress::TerminalBar;
pub use crate::run::control::Control;
pub use crate::selection::Shard;
