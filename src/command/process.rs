//! `process`: a new job.

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
    let format = options.job.rows.format_of(&options.input)?;
    let paths = options.paths(format);
    if !options.job.dry_run {
        job::check_output(&options, &paths)?;
    }
    if options.reads_stdin() {
        let paths = paths.clone();
        tokio::task::spawn_blocking(move || job::spool(&paths)).await??;
    }
    let (create, stdin) = (options.clone(), options.reads_stdin());
    job::run(options, stdin, kept, streams, move |paths, header, reporter| {
        job::create(&create, paths, header, reporter)
    })
    .await
}
