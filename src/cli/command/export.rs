//! The subcommand `export`, which writes the answers so far from the journal.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PathBufValueParser, TypedValueParser};

use super::show::ShowOptions;
use super::streams::Streams;
use crate::job::export;
use crate::job::paths::answers_of;
use crate::job::spec::FieldPatch;
use crate::report::text::{count, counted, escape};
use crate::run::control::Control;

/// The arguments and options of `export`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ExportOptions {
    /// The answers file of a run
    #[arg(value_parser = PathBufValueParser::new().map(answers_of))]
    pub answers: PathBuf,
    /// Write to this file instead of ANSWERS
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Replace a file that this program did not write; it is kept as `<FILE>.<time>`
    #[arg(long)]
    pub force: bool,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub fields: FieldPatch,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub show: ShowOptions,
}

/// Runs `export` and returns the exit code.
///
/// # Errors
///
/// Fails as [`export::export`] does, or if standard output cannot be written to.
pub(crate) fn export(
    options: &ExportOptions,
    streams: &mut Streams,
    control: &Control,
) -> anyhow::Result<u8> {
    let mut observer = streams.observer(&options.show);
    let output = options.output.as_deref();
    let fields = options.fields.clone();
    let exported =
        export::export(&options.answers, output, fields, options.force, observer.as_mut(), control)?;
    drop(observer);
    let rows = exported.rows;
    let text = format!(
        "{}: {} ({} answered, {} failed, {} unfinished)\n",
        escape(&exported.answers.to_string_lossy()),
        counted(rows.ok + rows.failed + rows.unfinished, "row"),
        count(rows.ok),
        count(rows.failed),
        count(rows.unfinished)
    );
    streams.say(&options.show, &text)?;
    Ok(0)
}
