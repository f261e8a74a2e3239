//! The command line: strings to options, errors to exit codes. Not what the commands do.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::command::compare::{CompareOptions, compare};
use crate::command::export::{ExportOptions, export};
use crate::command::process::process;
use crate::command::report::{ReportOptions, report};
use crate::command::resume::{earlier, resume};
use crate::command::streams::Streams;
use crate::command::{Usage, compare as _};
use crate::config::{ProcessOptions, recorded};
use crate::report::progress::Screen;
use crate::secret::Secrets;

/// Answers a CSV or JSONL file of questions with an async Python predictor
#[derive(Debug, Parser)]
#[command(name = "tokio-asyncio-bridge", version, about, max_term_width = 110, args_override_self = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant)]
enum Command {
    /// Answer the rows of a file; write the answers and the timing report
    Process(ProcessOptions),
    /// Run the failed and unfinished rows of an earlier run again
    Resume(ResumeOptions),
    /// Time the same rows one at a time and several at a time
    Compare(CompareOptions),
    /// Write the answers so far; calls nothing, works beside a running job
    Export(ExportOptions),
    /// Print a run's timing report again
    Report(ReportOptions),
}

/// `resume` takes the options of `process`, but for the input, which the journal names.
#[derive(Debug, Args)]
struct ResumeOptions {
    /// The answers file of the earlier run; its options hold again unless given anew
    answers: OsString,
    #[command(flatten)]
    anew: Anew,
}
