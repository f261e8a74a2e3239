//! The subcommand `merge`, which joins the answers of the shards of one input.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PathBufValueParser, TypedValueParser};

use super::run_job::show_report;
use super::show::ShowOptions;
use super::streams::Streams;
use crate::input::Format;
use crate::job::merge::{self, MergeRequest};
use crate::job::named::paths_of;
use crate::job::paths::{JobPaths, answers_of};
use crate::report::table::Files;
use crate::run::control::Control;

/// The arguments and options of `merge`.
#[derive(Debug, Clone, Args)]
pub(crate) struct MergeOptions {
    /// The input that the shards are of
    pub input: PathBuf,
    /// The answers files of the shards; only the journals beside them are read
    #[arg(required = true, value_parser = PathBufValueParser::new().map(answers_of))]
    pub answers: Vec<PathBuf>,
    /// Write the answers to this file [default: INPUT's stem + `.answers.csv` or `.answers.jsonl`, in the current
    /// directory]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Replace an earlier run of that name, and files that this program did not write; they are kept as
    /// `<FILE>.journal.<time>` and `<FILE>.<time>`
    #[arg(long)]
    pub force: bool,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub show: ShowOptions,
}

impl MergeOptions {
    /// The files that are written, as far as the names tell.
    pub(crate) fn paths(&self) -> Option<JobPaths> {
        let format = Format::from_path(&self.input).ok();
        let output = self.output.as_deref();
        (output.is_some() || format.is_some())
            .then(|| paths_of(&self.input, output, format.unwrap_or(Format::Csv), None))
    }
}

/// Runs `merge` and returns the exit code: 0 if every selected row is answered, else 3.
///
/// # Errors
///
/// Fails as [`merge::merge`] does, or if standard output cannot be written to.
pub(crate) fn merge(options: MergeOptions, streams: &mut Streams, control: &Control) -> anyhow::Result<u8> {
    let MergeOptions { input, answers, output, force, show } = options;
    let argv = streams.arguments.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let mut observer = streams.observer(&show);
    let request = MergeRequest { input, answers, output, force, argv };
    let merged = merge::merge(request, observer.as_mut(), control)?;
    drop(observer);
    let resume = streams.commands.resume();
    let files = Files {
        answers: &merged.paths.answers,
        report: Some(&merged.paths.report),
        page: merged.has_page.then_some(&*merged.paths.page),
        resume: &resume,
    };
    show_report(&merged.report, files, &show, streams)?;
    Ok(merged.code())
}
