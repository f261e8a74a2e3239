//! Answers a file of questions with an async Python predictor, through a semaphore-bounded Tokio <-> asyncio bridge.
//!
//! The program is a thin command line over this library. Its front door is [`job`]: a job is plain data that is
//! prepared, run, resumed, compared, exported and verified.
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
//! let mut open = prepared.open(&mut ())?;
//! let end = open.run(&mut (), &control).await?;
//! let report = end.report.ok_or("the job was killed")?;
//! assert_eq!((end.code, report.rows.ok), (0, 2));
//! # Ok(())
//! # }
//! ```
//!
//! # The map
//!
//! A line, not a web: rows flow in, outcomes flow out, one dispatcher decides the order. Each layer uses only what
//! is below it (`tests/architecture.rs` enforces it).
//!
//! | layer | modules | job |
//! | --- | --- | --- |
//! | 8 | `main` [`cli`] | words to values, exit code |
//! | 7 | [`command`] | one file a subcommand, and the process around it: signals, streams |
//! | 6 | [`job`] | the front door: a job as data, and what can be done with it |
//! | 5 | [`run`] [`report`] | the dispatcher (order, record, then show); what is shown |
//! | 4 | [`engine`] [`stats`] | permits, the attempt loop, deadlines; histograms |
//! | 3 | [`input`] [`output`] [`journal`] [`bridge`] [`local_model`] | formats, the truth on disk, the seam to Python |
//! | 2 | [`event`] [`observe`] [`policy`] [`secret`] | events as data and who may watch them; retry and limits, pure |
//! | 1 | [`row`] [`call`] [`outcome`] [`usage`] [`error`] [`matching`] [`prompt`] [`selection`] [`fs`] | types only: rows, calls, what became of them, what they used, how they fail; rows paired by hash; what a predictor asks; which rows were asked for; files replaced and hashed |

pub mod bridge;
pub mod call;
pub mod cli;
pub(crate) mod command;
pub mod engine;
pub mod error;
pub mod event;
pub(crate) mod fs;
pub mod input;
pub mod job;
pub mod journal;
pub mod local_model;
pub(crate) mod matching;
pub(crate) mod observe;
pub mod outcome;
pub(crate) mod output;
pub mod policy;
pub(crate) mod prompt;
pub(crate) mod report;
pub mod row;
pub(crate) mod run;
pub mod secret;
pub(crate) mod selection;
pub(crate) mod stats;
pub mod usage;
