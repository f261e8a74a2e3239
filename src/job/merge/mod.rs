//! Joins the journals of shards into one job, with one answers file and one report.
//!
//! The sessions of all journals are copied as they are, one journal after the other, so that nothing is dropped that was
//! bought or spent. A session without calls follows them. Its job is that of the shards, for the whole input: from it
//! the merged job is resumed.

mod parts;
mod rows;

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use self::parts::{Part, parts};
use self::rows::{Mark, Marks, lines_of};
use super::answerer::now;
use super::destination::{self, Kind, same};
use super::error::{ErrorKind, JobError, refuse};
use super::export::export;
use super::files::writable;
use super::named::paths_of;
use super::paths::{JobPaths, is_stream};
use super::rebuilt::{Rebuilt, rebuilt};
use super::spec::{self, FieldPatch};
use crate::fs::directory_of;
use crate::input::Source;
use crate::journal::{End, Fresh, JournalError, Record};
use crate::observe::{Level, Observer};
use crate::report::text::{count, counted};
use crate::report::{Report, html, json};
use crate::run::control::Control;

/// What is to be merged.
#[derive(Debug, Clone)]
pub struct MergeRequest {
    /// The input that the shards are of.
    pub input: PathBuf,
    /// The answers files of the shards. Only the journals beside them are read.
    pub answers: Vec<PathBuf>,
    /// The answers file to write; `None` for `<stem>.answers.<extension>` in the working directory.
    pub output: Option<PathBuf>,
    /// Replace an earlier run of that name, which is kept under another one.
    pub force: bool,
    /// The command line, for the journal and the report. Secrets in it are masked.
    pub argv: Vec<String>,
}

/// A job that was merged.
#[derive(Debug)]
pub struct Merged {
    /// Its files.
    pub paths: JobPaths,
    /// Its report, over the sessions of all shards.
    pub report: Report,
    /// Whether the report was also written as a page.
    pub has_page: bool,
}

impl Merged {
    /// The exit code for a command line: 0 if every selected row is answered, else 3.
    pub fn code(&self) -> u8 {
        if self.report.rows.ok == self.report.rows.total { 0 } else { 3 }
    }
}

/// Merges the answers of shards, or of any runs of one job on parts of one input. Each outcome is checked against the
/// row of the input that it is of.
///
/// The observer is warned of rows without an outcome, which are unfinished in what is written, and of rows with an
/// outcome in several files: an answer stands before a failure, and the later file before the earlier.
///
/// # Errors
///
/// Fails if a journal is in use or cannot be read, if the journals are of different jobs, if an outcome is of no row of
/// the input, if a file would replace one that must stay, or if `control` stops it: then nothing is written. Fails too
/// if a file cannot be written.
pub fn merge(
    request: MergeRequest,
    observer: &mut dyn Observer,
    control: &Control,
) -> Result<Merged, JobError> {
    let MergeRequest { input, answers, output, force, argv } = request;
    if is_stream(&input) {
        let text = "`merge` reads its input more than once: give it a file";
        return Err(JobError::new(ErrorKind::Usage, text));
    }
    let parts = parts(answers, observer)?;
    let source = parts[0].source(&input)?;
    let paths = paths_of(&input, output.as_deref(), source.format, None);
    check(&paths, output.as_deref(), &source, &parts, force)?;
    let asked = parts::asked(&parts);
    let (read, mut marks) = rows::read(&source, &parts[0].last().input, &asked, control)?;
    // The hash of a row knows its cells, and not of which columns they are.
    if let Some(part) = parts.iter().find(|part| part.last().input.header_hash != read.header_hash) {
        refuse!(
            Changed,
            &input,
            "the columns of `{}` are not those of the rows in `{}`\nhint: name the input that the shards are of",
            input.display(),
            part.answers.display()
        );
    }
    let header = parts::header(&parts, read, asked, &argv)?;
    let mut fresh = Fresh::new(&paths.journal)?;
    for (number, part) in parts.iter().enumerate() {
        part.copy(number, &source, &mut fresh, &mut marks, observer, control)?;
    }
    tell(&marks, &parts, &source, observer, control)?;
    fresh.append(&Record::Header(Cow::Borrowed(&header)))?;
    fresh.append(&Record::End(Cow::Owned(end(marks.is_whole()))))?;
    drop(marks);
    publish(fresh, &paths, &source, force, observer)?;
    export(&paths.answers, None, FieldPatch::default(), force, observer, control)?;
    let Rebuilt { report, fold, access } = rebuilt(&paths, observer, control)?;
    json::write(&paths.report, access, &report)?;
    let has_page = spec::of_header(&header)?.page.html;
    if has_page {
        html::write(&paths.page, access, &paths.answers, &report, &fold)?;
    }
    Ok(Merged { paths, report, has_page })
}

/// Checks that the files to be written replace nothing that must stay.
fn check(
    paths: &JobPaths,
    output: Option<&Path>,
    source: &Source,
    parts: &[Part],
    force: bool,
) -> Result<(), JobError> {
    let answers = parts.iter().map(|part| ("the answers", &*part.answers));
    let kept: Vec<_> = answers.chain([("the input", &*source.at)]).collect();
    for file in output.into_iter().chain([&*paths.answers, &*paths.report, &*paths.page]) {
        destination::check(file, "--output", &kept)?;
    }
    if let Some(part) = parts.iter().find(|part| same(&part.journal, &paths.journal)) {
        refuse!(
            Output,
            &paths.journal,
            "`{}` would replace the journal `{}`, which is to be merged\nhint: name another file with `--output`",
            paths.answers.display(),
            part.journal.display()
        );
    }
    if paths.journal.exists() {
        if !force {
            return Err(JournalError::Exists { path: paths.journal.clone() }.into());
        }
    } else {
        destination::check_extension(&paths.answers)?;
        for (file, kind) in kinds(paths, source) {
            destination::check_kind(file, "--output", kind, force)?;
        }
    }
    writable(directory_of(&paths.answers))
}

/// The files beside the journal, and what they are written as.
fn kinds<'a>(paths: &'a JobPaths, source: &Source) -> [(&'a Path, Kind); 3] {
    let answers = Kind::Answers(Some(source.delimiter));
    [(&paths.answers, answers), (&paths.report, Kind::Json), (&paths.page, Kind::Page)]
}

/// Warns of rows without an outcome, and of rows with several.
fn tell(
    marks: &Marks,
    parts: &[Part],
    source: &Source,
    observer: &mut dyn Observer,
    control: &Control,
) -> Result<(), JobError> {
    let missing = marks.missing();
    if missing.count > 0 {
        let lines = lines_of(source, &missing.first, control)?;
        let rows = missing.first.iter().zip(lines);
        let rows: Vec<_> = rows.map(|(row, line)| format!("row {row} (line {line})")).collect();
        let mut text = format!(
            "{} of `{}` without an outcome in any of the files: {}",
            counted(missing.count, "row"),
            source.path.display(),
            missing.told(&rows)
        );
        if let Some(shards) = parts::absent(parts) {
            text += &format!("; none of the files is of {shards}");
        }
        observer.message(
            Level::Warning,
            &(text + "\nhint: merge the missing files too, or `resume` answers the rows"),
        );
    }
    let double = &marks.double;
    if double.count > 0 {
        let mut rows = Vec::new();
        for (row, marks) in &double.first {
            let mut places = Vec::new();
            for Mark { part, offset, .. } in marks {
                let part = &parts[*part];
                places.push(format!("line {} of `{}`", part.line(*offset)?, part.journal.display()));
            }
            rows.push(format!("row {row} ({})", places.join(", ")));
        }
        let text = format!(
            "{} with an outcome in more than one file, {} answered, and paid for, more than once: {}; an answer stands \
             before a failure, and the later file before the earlier",
            counted(double.count, "row"),
            count(marks.bought_twice),
            double.told(&rows)
        );
        observer.message(Level::Warning, &text);
    }
    Ok(())
}

/// The end of the session that merges.
fn end(is_whole: bool) -> End {
    End {
        finished_at: now(),
        exit_code: if is_whole { 0 } else { 3 },
        reason: None,
        hurried: false,
        broken: false,
        totals: serde_json::Value::Null,
    }
}

/// Gives the journal its name, and keeps what it replaces and what will be replaced after it.
fn publish(
    fresh: Fresh,
    paths: &JobPaths,
    source: &Source,
    force: bool,
    observer: &mut dyn Observer,
) -> Result<(), JobError> {
    let time = now().replace(':', "-");
    let (_, aside) = fresh.name(force.then_some(&*time))?;
    if let Some(aside) = aside {
        observer.message(Level::Note, &format!("the earlier journal is kept as `{}`", aside.display()));
    } else {
        for (file, kind) in kinds(paths, source) {
            destination::set_aside(file, kind, &time, observer)?;
        }
    }
    Ok(())
}
