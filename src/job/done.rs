//! Finds out whether a job is done, so that no interpreter is started and no file is written for it.

use super::answerer::program_sha256;
use super::error::JobError;
use super::paths::JobPaths;
use super::resume::{Only, TakeUp};
use super::spec::{self, Identity, JobSpec, PredictorSpec, RowSpec, lacking};
use crate::fs::sha256;
use crate::journal::{Counts, Recovered};
use crate::report::json;

/// Returns the counts of the selected rows if the job is done: the journal is undamaged, holds the same job, and has an
/// outcome for every selected row. Returns `None` if anything is left to do or to check. A changed source file is such
/// a thing, because it may make other prompts.
///
/// # Errors
///
/// Fails if the journal or a saved program cannot be read, or if nothing takes the place of the Python object that the
/// job was started with.
pub(super) fn done(spec: &JobSpec, paths: &JobPaths, take_up: TakeUp) -> Result<Option<Counts>, JobError> {
    let recovered = Recovered::read(&paths.journal, |_| {})?;
    let header = recovered.sessions.last().ok_or_else(|| JobError::no_session(&paths.journal))?;
    let identity = Identity::recorded(header);
    if identity.object
        && spec.predictor.predictor == PredictorSpec::default().predictor
        && recovered.index.counts().ok > 0
        && !take_up.allow_changed
    {
        return Err(lacking(&identity.predictor));
    }
    if spec.stream {
        return Ok(None);
    }
    let in_order = recovered.end.as_ref().is_some_and(|end| end.in_order() && !end.hurried);
    if !in_order || !recovered.damaged.is_empty() || recovered.torn_bytes > 0 {
        return Ok(None);
    }
    let program = spec.predictor.program.as_deref().map(program_sha256).transpose()?;
    let before = spec::of_header(header)?;
    let reading = |spec: &JobSpec| RowSpec { limit: None, range: None, ..spec.rows.clone() };
    let same = identity == spec.identity(program)
        && reading(&before) == reading(spec)
        && (&before.fields, &before.page, &before.access) == (&spec.fields, &spec.page, &spec.access)
        && sha256(&spec.input).is_ok_and(|sum| sum == header.input.sha256)
        && header
            .prompt
            .iter()
            .flat_map(|prompt| &prompt.sources)
            .all(|(file, before)| sha256(&spec.directory.join(file)).is_ok_and(|sum| sum == *before));
    // The report is written after the answers. That of an earlier session stays if the last one was killed before that.
    let written = paths.answers.exists()
        && json::read(&paths.report).is_ok_and(|report| report.run.started_at == header.started_at);
    let counts = recovered.index.count(spec.rows.selection().up_to(header.input.rows).iter());
    let skip_failed = take_up.only == Some(Only::Unfinished);
    let left = counts.unfinished + if skip_failed { 0 } else { counts.failed };
    Ok((same && written && left == 0).then_some(counts))
}
