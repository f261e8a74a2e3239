//! Finds out whether a job is done, so that no interpreter is started and no file is written for it.

use std::fs::File;
use std::path::PathBuf;

use super::answerer::program_sha256;
use super::damage;
use super::error::JobError;
use super::paths::JobPaths;
use super::resume::TakeUp;
use super::spec::{self, Identity, JobSpec, PredictorSpec, RowSpec, file_of, lacking};
use super::telling::apart;
use crate::fs::{Stoppable, sha256, sha256_from};
use crate::journal::{Counts, Header};
use crate::report::json;
use crate::run::control::Control;

/// A job that may be done.
pub(super) struct Done {
    /// The job.
    pub spec: JobSpec,
    /// Its rows.
    pub input: PathBuf,
    /// The header that the next session would have, once the predictor is loaded.
    pub next: Option<Header>,
    /// Its files.
    pub files: JobPaths,
    /// How the journal would be continued.
    pub take_up: TakeUp,
}

impl Done {
    /// Returns the counts of the selected rows if the job is done: the journal is undamaged, holds the same job, and
    /// leaves no selected row to call. Returns `None` if anything is left to do or to check. A changed source file is
    /// such a thing, because it may make other prompts. So is a Python object that is not loaded, because no file tells
    /// its prompts.
    ///
    /// # Errors
    ///
    /// Fails if the journal or a saved program cannot be read, if `control` stops the reading, or if nothing takes the
    /// place of the Python object that the job was started with.
    pub(super) async fn counts(self, control: &Control) -> Result<Option<Counts>, JobError> {
        let control = control.clone();
        apart(move |_| self.look(&control), &mut ()).await
    }

    fn look(&self, control: &Control) -> Result<Option<Counts>, JobError> {
        let Self { spec, input, next, files: paths, take_up } = self;
        let (recovered, _) = damage::read(&paths.journal, control, |_| {})?;
        let header = recovered.sessions.last().ok_or_else(|| JobError::no_session(&paths.journal))?;
        let identity = Identity::recorded(header);
        if identity.object
            && spec.predictor.predictor == PredictorSpec::default().predictor
            && next.is_none()
            && recovered.index.counts().ok > 0
            && !take_up.allow_changed
        {
            return Err(lacking(&identity.predictor));
        }
        if spec.object && next.is_none() {
            return Ok(None);
        }
        let in_order = recovered.end.as_ref().is_some_and(|end| end.in_order() && !end.hurried);
        if !in_order || !recovered.damaged.is_empty() || recovered.torn_bytes > 0 {
            return Ok(None);
        }
        let program = spec.predictor.program.as_deref().map(program_sha256).transpose()?;
        let before = spec::of_header(header)?;
        let reading = |spec: &JobSpec| RowSpec { limit: None, range: None, ..spec.rows.clone() };
        let loaded = |header: &Header| (header.prompt.clone(), header.predictor_sha256.clone());
        let same = next.as_ref().is_none_or(|next| loaded(next) == loaded(header))
            && identity == spec.identity(program)
            && reading(&before) == reading(spec)
            && (&before.fields, &before.page, &before.access) == (&spec.fields, &spec.page, &spec.access)
            && sources(spec, header)
                .all(|(file, before)| sha256(&spec.directory.join(file)).is_ok_and(|sum| sum == *before));
        // The report is written after the answers. That of an earlier session stays if the last one was killed before that.
        let written = paths.answers.exists()
            && json::read(&paths.report).is_ok_and(|report| report.run.started_at == header.started_at);
        let selected = spec.rows.selection().up_to(header.input.rows);
        // The input is read last, for that may take long.
        let stopped = || control.asked().is_some();
        let sum = || sha256_from(Stoppable { reader: File::open(input)?, stopped: &stopped });
        let done = same
            && written
            && take_up.to_go(&recovered, selected) == 0
            && sum().is_ok_and(|sum| sum == header.input.sha256);
        if let (false, Some(signal)) = (done, control.asked()) {
            return Err(JobError::stopped(signal));
        }
        Ok(done.then(|| recovered.index.count(selected.iter())))
    }
}

/// The source files that a session recorded, each with its SHA-256. Releases that recorded no prompt knew only the
/// predictor's own.
fn sources<'a>(spec: &'a JobSpec, header: &'a Header) -> impl Iterator<Item = (&'a str, &'a String)> {
    let predictor = &*spec.predictor.predictor;
    let file = file_of(predictor).map_or(predictor, |(file, _)| file);
    let own = header.predictor_sha256.iter().filter(|_| header.prompt.is_none()).map(move |sum| (file, sum));
    let prompts = header.prompt.iter().flat_map(|prompt| &prompt.sources);
    prompts.map(|(file, sum)| (&**file, sum)).chain(own)
}
