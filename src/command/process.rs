//! `process`: a new job.

use std::path::Path;

use anyhow::Context;

use super::Usage;
use super::destination;
use super::job;
use super::streams::Streams;
use crate::config::ProcessOptions;

/// Runs `process`; `given` are its options as the journal keeps them.
pub async fn process(
    mut options: ProcessOptions,
    given: Vec<String>,
    streams: &mut Streams,
) -> anyhow::Result<u8> {
    let kept = job::kept_options(&options, given)?;
    let format = options.job.rows.format_of(&options.input);
    if options.reads_stream() && format.is_err() {
        let stream = if options.input == Path::new("-") {
            "standard input".to_owned()
        } else {
            format!("the pipe `{}`", options.input.display())
        };
        return Err(Usage(format!(
            "{stream} has no name to tell its format: give `--format csv` or `--format jsonl`"
        ))
        .into());
    }
    // Lives as long as the job.
    let mut scratch = None;
    if options.output.as_deref().is_some_and(destination::is_null) {
        let directory = tempfile::tempdir().context("failed to make a temporary directory")?;
        options.scratch = Some(scratch.insert(directory).path().to_owned());
    }
    let paths = options.paths(format?);
    job::check_output(&options, &paths)?;
    let (create, reads_stream) = (options.clone(), options.reads_stream());
    job::run(options, kept, reads_stream, streams, move |paths, prepared, reporter| {
        if create.job.dry_run {
            let rows = &prepared.validated.selected;
            prepared.tell_estimate(rows.end - rows.start, reporter);
            return Ok(None);
        }
        job::create(&create, paths, &prepared.header, reporter).map(Some)
    })
    .await
}
