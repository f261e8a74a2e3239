//! Answers a file of questions with an async Python predictor, through a semaphore-bounded Tokio <-> asyncio bridge.
//!
//! # The map
//!
//! A line, not a web: rows flow in, outcomes flow out, one dispatcher decides the order. Each layer uses only what
//! is below it (`tests/architecture.rs` enforces it).
//!
//! | layer | modules | job |
//! | --- | --- | --- |
//! | 8 | `main` [`cli`] | words to values, exit code |
//! | 7 | [`command`] | one file a subcommand |
//! | 6 | [`job`] | what a job is, as data |
//! | 5 | [`run`] [`report`] | the dispatcher (order, record, then show); what is shown |
//! | 4 | [`engine`] [`stats`] | permits, the attempt loop, deadlines; histograms |
//! | 3 | [`input`] [`output`] [`journal`] [`bridge`] [`local_model`] | formats, the truth on disk, the seam to Python |
//! | 2 | [`event`] [`observe`] [`policy`] [`secret`] | events as data and who may watch them; retry and limits, pure |
//! | 1 | [`row`] [`call`] [`outcome`] [`usage`] [`error`] [`matching`] [`selection`] [`fs`] | types only: rows, calls, what became of them, what they used, how they fail; rows paired by hash; which rows were asked for; files replaced and hashed |

pub mod bridge;
pub mod call;
pub mod cli;
pub mod command;
pub mod engine;
pub mod error;
pub mod event;
pub mod fs;
pub mod input;
pub mod job;
pub mod journal;
pub mod local_model;
pub mod matching;
pub mod observe;
pub mod outcome;
pub mod output;
pub mod policy;
pub mod report;
pub mod row;
pub mod run;
pub mod secret;
pub mod selection;
pub mod stats;
pub mod usage;
