//! Writes the answers that a run has so far, from its journal. Works while the run goes on, too.

use std::path::{Path, PathBuf};

use super::answerer::now;
use super::damage;
use super::destination::{self, Kind};
use super::error::{ErrorKind, JobError};
use super::paths::JobPaths;
use super::project::project;
use super::spec::{self, FieldPatch};
use crate::fs::{directory_of, sha256};
use crate::input::{Format, Source};
use crate::journal::{Counts, Header};
use crate::observe::{Level, Observer};
use crate::run::control::Control;

/// The result of an export.
#[derive(Debug)]
pub struct Exported {
    /// The answers file that was written.
    pub answers: PathBuf,
    /// How many of its rows are answered, failed and unfinished.
    pub rows: Counts,
}

/// Writes the answers of a run to its answers file, or to `output`. `fields` chooses their columns. The observer is
/// told what is wrong with the journal.
///
/// A file that this library did not write is never lost: without `force` it is refused, with `force` it is kept under
/// another name. If `control` stops the export, the answers file is left as it was.
///
/// # Errors
///
/// Fails if the journal or the input cannot be read, if the answers cannot be written, or if `control` stops it.
pub fn export(
    answers: &Path,
    output: Option<&Path>,
    fields: FieldPatch,
    force: bool,
    observer: &mut dyn Observer,
    control: &Control,
) -> Result<Exported, JobError> {
    let mut paths = JobPaths::find(answers);
    let (recovered, _) = damage::read(&paths.journal, control, |_| {})?;
    let header = recovered.sessions.last().ok_or_else(|| JobError::no_session(&paths.journal))?;
    let source = source_of(header, &paths.answers)?;
    let mut spec = spec::of_header(header)?;
    spec.fields.lay(fields);
    let fields = recovered.fields.only(spec.fields.names());
    let to = output.unwrap_or(answers);
    destination::check(to, "--output", &[("the journal", &paths.journal), ("the input", &source.at)])?;
    if output.is_some() {
        let other = JobPaths::find(to);
        if !other.journal.exists() {
            let kind = Kind::Answers(Some(source.delimiter));
            destination::check_extension(&other.answers)?;
            destination::check_kind(&other.answers, "--output", kind, force)?;
            destination::set_aside(&other.answers, kind, &now(), observer)?;
        }
        paths.answers = other.answers;
    }
    let stopped = || control.asked().is_some();
    let projected = project(&source, &paths, spec.access.access(), &recovered.index, &fields, stopped);
    let projected = projected.map_err(|error| JobError::of_step("the export", error, control))?;
    damage::tell(&recovered, observer);
    for renamed in &projected.renamed {
        observer.message(Level::Warning, &renamed.to_string());
    }
    Ok(Exported { answers: paths.answers, rows: projected.rows })
}

/// The input as a session read it.
pub(super) fn source_of(header: &Header, answers: &Path) -> Result<Source, JobError> {
    let input = &header.input;
    let format = if input.format == "jsonl" { Format::Jsonl } else { Format::Csv };
    Ok(Source {
        delimiter: input.delimiter.and_then(|delimiter| u8::try_from(delimiter).ok()).unwrap_or(b','),
        encoding: encoding_rs::Encoding::for_label(input.encoding.as_bytes()).ok_or_else(|| {
            let text = format!("the journal names an unknown encoding `{}`", input.encoding);
            JobError::new(ErrorKind::Journal, text)
        })?,
        ..Source::new(input_of(header, answers), format)
    })
}

/// The path of a session's input. If it is gone, a file of the same name and content beside the answers takes its
/// place, because both may have been moved.
pub(super) fn input_of(header: &Header, answers: &Path) -> PathBuf {
    let recorded = PathBuf::from(&header.input.path);
    let beside = directory_of(answers).join(recorded.file_name().unwrap_or_default());
    let is_it = || sha256(&beside).is_ok_and(|sum| sum == header.input.sha256);
    if !recorded.exists() && is_it() { std::path::absolute(beside).unwrap_or(recorded) } else { recorded }
}
