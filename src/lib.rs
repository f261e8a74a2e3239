//! Answers a file of questions with an async Python predictor, through a semaphore-bounded Tokio <-> asyncio bridge.
//!
//! The program is a thin command line over this library. The library's front door is [`job`]: a job is plain data that
//! can be prepared, run, resumed, compared, exported and verified.
//!
//! ```
//! use tokio_asyncio_bridge::job::{Control, Format, Job, JobPaths, JobSpec, SessionOptions};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let scratch = tempfile::tempdir()?;
//! # let directory = scratch.path();
//! # std::fs::write(directory.join("questions.csv"), "question\nWhat is a bridge?\nWhat is a loop?\n")?;
//! let mut spec = JobSpec::new(directory, "questions.csv".as_ref(), Format::Csv);
//! spec.predictor.predictor = "app.py:answer".to_owned();
//! # spec.predictor.bridge = "fake".to_owned();
//! let files = JobPaths::of(&directory.join("questions.answers.csv"));
//!
//! // Everything is checked before the first call.
//! let job = Job::new(spec, files, SessionOptions::default())?;
//! let control = Control::new();
//! let prepared = job.prepare(&mut (), &control).await?;
//!
//! // A clone of the control stops the job from any thread. `&mut ()` is an observer that shows nothing.
//! let mut open = prepared.open(&mut (), &control).await?;
//! let end = open.run(&mut (), &control).await?;
//! let report = end.report.ok_or("the job was killed")?;
//! assert_eq!((end.code, report.rows.ok), (0, 2));
//! # Ok(())
//! # }
//! ```
//!
//! # The map
//!
//! Rows flow in, outcomes flow out, and one dispatcher decides the order. Each module uses only modules of its own
//! layer and of the layers below it, which `tests/architecture.rs` checks.
//!
//! | layer | modules | what they do |
//! | --- | --- | --- |
//! | 7 | `main` [`cli`] | the command line: one file for each subcommand, the process's signals and streams, the exit code |
//! | 6 | [`job`] | the front door: a job as data, and what can be done with it |
//! | 5 | [`run`] [`report`] | the dispatcher, which records before it shows; the report and the progress |
//! | 4 | [`engine`] [`stats`] | permits, attempts and deadlines; counts and histograms |
//! | 3 | [`input`] [`output`] [`journal`] [`bridge`] [`local_model`] | file formats; the record of every attempt and outcome; the way to Python; a model on this machine |
//! | 2 | [`event`] [`observe`] [`policy`] [`secret`] | events, and observers of them; retries, limits and pace as pure code; masking |
//! | 1 | [`row`] [`call`] [`outcome`] [`usage`] [`error`] [`matching`] [`prompt`] [`selection`] [`fs`] [`environment`] | types: rows, calls, their outcomes, usage and errors; rows matched by hash; what a predictor asks; which rows were selected; files replaced and hashed; the environment beside Python code |
//!
//! A program that runs jobs needs [`job`] alone. The modules below it that are public are the seams: [`bridge`] and
//! [`engine`] for another way to make the calls, [`input`] and [`journal`] for programs that read these files, and the
//! types that pass between them.
//!
//! # The way of a row
//!
//! To learn how the program works, follow one row. Each step names the files to read.
//!
//! 1. [`job::Job::prepare`] checks the whole input and loads the predictor: `job/begin.rs`, `job/prepare.rs`,
//!    `input/validate.rs`.
//! 2. [`job::OpenJob::run`] makes the engine and the list of rows to call: `job/run.rs`, `run/todo.rs`.
//! 3. The dispatcher reads the row, records that it starts, and spawns a Tokio task for it: `run/mod.rs`,
//!    `run/batch.rs`, `input/rows.rs`.
//! 4. The engine makes attempts until there is an outcome. Each attempt waits until the limits admit a call, and the
//!    call has a timeout: `engine.rs`, `engine/admission.rs`, `engine/attempt.rs`.
//! 5. The bridge makes the call. `bridge/mod.rs` has the trait, and the page of [`bridge::python`] tells what happens
//!    there. With `--workers`, [`bridge::workers`] passes it on to a process that has such a bridge.
//! 6. The outcome comes back to the dispatcher as an event that carries the call's permit. It is written to the
//!    journal; then the permit is given back, and the outcome is counted and shown: `event.rs`, `run/batch.rs`,
//!    `journal/write.rs`, `stats/fold.rs`, `observe.rs`.
//! 7. When all rows have an outcome, the answers file is made from the journal, and the report from the figures:
//!    `job/conclude.rs`, `output/project.rs`, `report/json.rs`.

pub mod bridge;
pub(crate) mod call;
pub mod cli;
pub mod engine;
pub(crate) mod environment;
pub mod error;
pub(crate) mod event;
pub(crate) mod fs;
pub mod input;
pub mod job;
pub mod journal;
pub(crate) mod local_model;
pub(crate) mod matching;
pub(crate) mod observe;
pub mod outcome;
pub(crate) mod output;
pub(crate) mod policy;
pub(crate) mod prompt;
pub(crate) mod report;
pub mod row;
pub(crate) mod run;
pub(crate) mod secret;
pub(crate) mod selection;
pub(crate) mod stats;
pub mod usage;
