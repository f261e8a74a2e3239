//! Makes the job of an input as `process` does: the format and the files follow from the names that are given.

use std::fs::File;
use std::path::{Path, PathBuf};

use tempfile::{TempDir, TempPath};

use super::begin::{Job, SessionOptions};
use super::error::{ErrorKind, Explain, JobError};
use super::paths::{JobPaths, is_descriptor, is_null, is_stream};
use super::resume::recorded;
use super::spec::{JobSpec, RowPatch, WholePatch};
use crate::environment;
use crate::input::Format;
use crate::run::control::Control;
use crate::selection::Shard;

/// The format of an input.
///
/// # Errors
///
/// Fails if neither an option nor the name of the input tells the format.
pub(crate) fn format_of(input: &Path, rows: &RowPatch) -> Result<Format, JobError> {
    let format = rows.format_of(input);
    if format.is_err() && is_stream(input) {
        let stream = if input == Path::new("-") {
            "standard input".to_owned()
        } else {
            format!("the pipe `{}`", input.display())
        };
        let text =
            format!("{stream} has no name to tell its format: give `--format csv` or `--format jsonl`");
        return Err(JobError::new(ErrorKind::Usage, text));
    }
    Ok(format?)
}

/// The files of the job whose answers go to `output`, or to the default answers file of the input or of its shard.
pub(crate) fn paths_of(
    input: &Path,
    output: Option<&Path>,
    format: Format,
    shard: Option<Shard>,
) -> JobPaths {
    output.map_or_else(|| JobPaths::find(&default_answers(input, format, shard)), JobPaths::find)
}

fn default_answers(input: &Path, format: Format, shard: Option<Shard>) -> PathBuf {
    let extension = if format == Format::Csv { "csv" } else { "jsonl" };
    // The number of a file descriptor makes no good name.
    let input = if is_descriptor(input) { Path::new("-") } else { input };
    JobPaths::default_answers(input, shard, extension)
}

impl Job {
    /// Begins the job of an input, or continues the run that its journal holds, as `process` does. The input may be a
    /// stream (`-` for standard input). The answers go to `output`, or to `<stem>.answers.<extension>` in the working
    /// directory, those of a shard to `<stem>.answers.K-of-N.<extension>`. `options` need not name the input, the output and the stream.
    ///
    /// If the output is `/dev/null`, the job's files are in the temporary directory that is returned, too.
    ///
    /// # Errors
    ///
    /// Fails if the format of the input is not known, or as [`Job::new`] does.
    pub fn of_input(
        input: &Path,
        output: Option<&Path>,
        patch: WholePatch,
        options: SessionOptions,
    ) -> Result<(Self, Option<TempDir>), JobError> {
        let format = format_of(input, &patch.shared.rows)?;
        let directory = working_directory()?;
        let mut spec = JobSpec::new(&directory, input, format);
        spec.stream = is_stream(input);
        spec.lay_all(patch, &directory);
        let mut scratch = None;
        let mut paths = paths_of(input, output, format, spec.rows.shard);
        if output.is_some_and(is_null) {
            let made = tempfile::tempdir_in(environment::temporary_directory()).explain(
                ErrorKind::Output,
                Path::new("."),
                || "failed to make a temporary directory".to_owned(),
            )?;
            paths = JobPaths::of(&scratch.insert(made).path().join(default_answers(input, format, None)));
        }
        let options = SessionOptions {
            stream: spec.stream.then(|| input.to_owned()),
            input: Some(input.to_owned()),
            output: output.map(Path::to_owned),
            scratch: scratch.is_some(),
            ..options
        };
        Ok((Self::new(spec, paths, options)?, scratch))
    }

    /// Continues the run of an answers file, as `resume` does, in the interpreter that runs in this process. `patch` is
    /// laid over what the run recorded; its paths are those of the working directory.
    ///
    /// # Errors
    ///
    /// Fails if there is no journal, if it cannot be read, if `control` stops the reading, or as [`Job::resume`] does.
    pub fn of_answers(
        answers: &Path,
        patch: WholePatch,
        options: SessionOptions,
        control: &Control,
    ) -> Result<Self, JobError> {
        let mut spec = recorded(answers, control)?;
        spec.lay_all(patch, &working_directory()?);
        spec.predictor.python = None;
        Self::resume(spec, JobPaths::find(answers), options)
    }

    /// Begins the job of rows that come from memory, or continues the run that its journal holds. `rows` is a file of
    /// them in JSON Lines, in the directory of the answers. The job takes it over, and keeps it as it keeps the copy of
    /// a stream. `options` need not name it.
    ///
    /// # Errors
    ///
    /// As [`Job::new`].
    pub fn of_rows(
        rows: &Path,
        answers: &Path,
        patch: WholePatch,
        options: SessionOptions,
    ) -> Result<Self, JobError> {
        let rows = TempPath::try_from_path(rows)
            .explain(ErrorKind::Output, rows, || format!("failed to find `{}`", rows.display()))?;
        let failed = || format!("failed to write `{}`", rows.display());
        File::open(&rows).and_then(|file| file.sync_all()).explain(ErrorKind::Output, &rows, failed)?;
        let directory = working_directory()?;
        let mut spec = JobSpec::new(&directory, &rows, Format::Jsonl);
        spec.stream = true;
        spec.lay_all(patch, &directory);
        let options = SessionOptions { rows: Some(rows), output: Some(answers.to_owned()), ..options };
        Self::new(spec, JobPaths::find(answers), options)
    }
}

fn working_directory() -> Result<PathBuf, JobError> {
    let failed = || "failed to find the working directory".to_owned();
    std::env::current_dir().explain(ErrorKind::Input, Path::new("."), failed)
}
