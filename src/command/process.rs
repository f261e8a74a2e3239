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
    // Also where it would only seem a trial: standard input is kept beside the answers.
    if !options.job.dry_run || options.reads_stdin() {
        job::check_output(&options, &paths)?;
    }
    if options.reads_stdin() {
        let paths = paths.clone();
        tokio::task::spawn_blocking(move || job::spool(&paths)).await??;
    }
    let create = options.clone();
    let spooled = (options.job.dry_run && options.reads_stdin()).then_some(paths.spool);
    let code = job::run(options, kept, streams, move |paths, prepared, reporter| {
        job::create(&create, paths, &prepared.header, reporter)
    })
    .await;
    if let Some(spooled) = spooled {
        std::fs::remove_file(spooled)?;
    }
    code
}
