//! `process`: a new job.

use super::Usage;
use super::job;
use super::streams::Streams;
use crate::config::ProcessOptions;

/// Runs `process`; `given` are its options as the journal keeps them.
pub async fn process(
    options: ProcessOptions,
    given: Vec<String>,
    streams: &mut Streams,
) -> anyhow::Result<u8> {
    let kept = job::kept_options(&options, given)?;
    if options.reads_stdin() && options.job.rows.format.is_none() {
        return Err(Usage(
            "standard input has no name to tell its format: give `--format csv` or `--format jsonl`"
                .to_owned(),
        )
        .into());
    }
    let format = options.job.rows.format_of(&options.input)?;
    let paths = options.paths(format);
    job::check_output(&options, &paths)?;
    let (create, reads_stdin) = (options.clone(), options.reads_stdin());
    job::run(options, kept, reads_stdin, streams, move |paths, prepared, reporter| {
        if create.job.dry_run {
            let rows = &prepared.validated.selected;
            prepared.tell_estimate(rows.end - rows.start, reporter);
            return Ok(None);
        }
        job::create(&create, paths, &prepared.header, reporter).map(Some)
    })
    .await
}
