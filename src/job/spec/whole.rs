//! The groups put together: [`JobSpec`], [`Patch`] and [`WholePatch`].

use std::path::{Path, PathBuf};

use clap::Args;
use serde::{Deserialize, Serialize};

use super::bounds::{MoneyPatch, MoneySpec, RetryPatch, RetrySpec, StopPatch, StopSpec, TimePatch, TimeSpec};
use super::file_of;
use super::output::{AccessPatch, AccessSpec, FieldPatch, FieldSpec, PagePatch, PageSpec};
use super::pace::{PacePatch, PaceSpec, RatePatch, RateSpec};
use super::predictor::{PredictorPatch, PredictorSpec};
use super::ray::{RayAddress, RayPatch, RaySpec};
use super::rows::{RowPatch, RowSpec};
use super::workers::{WorkerCount, WorkerPatch, WorkerSpec};
use crate::bridge::python::predictor::PredictorObject;
use crate::input::{Format, Source};
use crate::job::error::{ErrorKind, JobError};

/// The version of the data. It is raised when an older program would misread the data.
pub(super) const VERSION: u32 = 1;

/// A job as plain data, with absolute paths. Secrets are kept by name, and their values are never serialized.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobSpec {
    /// The version of this data.
    pub version: u32,
    /// Where the job was started. A relative SPEC, and relative paths that a predictor opens, are looked for there.
    pub directory: PathBuf,
    /// The file with the rows. For a stream, the copy of it.
    pub input: PathBuf,
    /// The input's format.
    pub format: Format,
    /// Whether the input was a stream.
    pub stream: bool,
    /// Whether the predictor is a Python object of the process that ran the job. Then its SPEC is only a name.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub object: bool,
    /// The SPEC that finds this object in its file again, if one does. A session that is given no object takes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_spec: Option<String>,
    /// The predictor and its model.
    #[serde(default)]
    pub predictor: PredictorSpec,
    /// Which rows are selected, how they are read, and how they become arguments.
    #[serde(default)]
    pub rows: RowSpec,
    /// How many calls may be in flight.
    #[serde(default)]
    pub pace: PaceSpec,
    /// How many requests and tokens per minute.
    #[serde(default)]
    pub rates: RateSpec,
    /// Worker processes.
    #[serde(default)]
    pub workers: WorkerSpec,
    /// A Ray cluster.
    #[serde(default)]
    pub ray: RaySpec,
    /// Timeouts.
    #[serde(default)]
    pub time: TimeSpec,
    /// Retries.
    #[serde(default)]
    pub retry: RetrySpec,
    /// Conditions that stop the run.
    #[serde(default)]
    pub stop: StopSpec,
    /// Prices and budgets.
    #[serde(default)]
    pub money: MoneySpec,
    /// The columns of the answers.
    #[serde(default)]
    pub fields: FieldSpec,
    /// What is written beside the answers.
    #[serde(default)]
    pub page: PageSpec,
    /// Who may read what is written.
    #[serde(default)]
    pub access: AccessSpec,
}

/// The options of a job that `process`, `resume` and `compare` share, each of them optional.
#[derive(Debug, Clone, Default, Args)]
#[allow(missing_docs)]
pub struct Patch {
    #[command(flatten)]
    pub access: AccessPatch,
    #[command(flatten)]
    pub predictor: PredictorPatch,
    #[command(flatten)]
    pub rows: RowPatch,
    #[command(flatten)]
    pub rates: RatePatch,
    #[command(flatten)]
    pub workers: WorkerPatch,
    #[command(flatten)]
    pub ray: RayPatch,
    #[command(flatten)]
    pub time: TimePatch,
    #[command(flatten)]
    pub retry: RetryPatch,
    #[command(flatten)]
    pub stop: StopPatch,
    #[command(flatten)]
    pub money: MoneyPatch,
}

/// All options of a job, as `process` and `resume` take them, each of them optional.
#[derive(Debug, Clone, Default, Args)]
#[allow(missing_docs)]
pub struct WholePatch {
    #[command(flatten)]
    pub fields: FieldPatch,
    #[command(flatten)]
    pub page: PagePatch,
    #[command(flatten)]
    pub pace: PacePatch,
    #[command(flatten)]
    pub shared: Patch,
}

impl JobSpec {
    /// A job with the default options, started in `directory`. A relative `input` is a file in that directory.
    pub fn new(directory: &Path, input: &Path, format: Format) -> Self {
        let directory = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
        Self {
            version: VERSION,
            input: directory.join(input),
            directory,
            format,
            stream: false,
            object: false,
            object_spec: None,
            predictor: PredictorSpec::default(),
            rows: RowSpec::default(),
            pace: PaceSpec::default(),
            rates: RateSpec::default(),
            workers: WorkerSpec::default(),
            ray: RaySpec::default(),
            time: TimeSpec::default(),
            retry: RetrySpec::default(),
            stop: StopSpec::default(),
            money: MoneySpec::default(),
            fields: FieldSpec::default(),
            page: PageSpec::default(),
            access: AccessSpec::default(),
        }
    }

    /// Puts the name of a Python object in place of the SPEC, or the SPEC that finds an object in place of its name.
    ///
    /// # Errors
    ///
    /// Fails if the spec names an object that no SPEC finds, and there is none.
    pub(in crate::job) fn with(mut self, object: Option<&PredictorObject>) -> Result<Self, JobError> {
        let found = self.object_spec.take();
        match object {
            Some(object) => {
                self.object = true;
                let below = |spec: &str| {
                    let (file, name) = file_of(spec)?;
                    let file = Path::new(file).strip_prefix(&self.directory).ok()?;
                    Some(format!("{}:{name}", file.to_str()?))
                };
                self.object_spec = object.spec().map(|spec| below(spec).unwrap_or_else(|| spec.to_owned()));
                object.name().clone_into(&mut self.predictor.predictor);
            }
            None if self.object => {
                self.predictor.predictor = found.ok_or_else(|| lacking(&self.predictor.predictor))?;
                self.object = false;
            }
            None => {}
        }
        Ok(self)
    }

    /// Makes paths absolute that were set without a patch. They are relative to the job's directory.
    pub(crate) fn anchored(mut self) -> Self {
        self.input = self.directory.join(&self.input);
        self.predictor.anchor(&self.directory);
        self.ray.anchor(&self.directory);
        self
    }

    /// Replaces the options that the patch gives. Relative paths in the patch are relative to `given_in`.
    pub fn lay_all(&mut self, patch: WholePatch, given_in: &Path) {
        self.fields.lay(patch.fields);
        self.page.lay(&patch.page);
        self.pace.lay(&patch.pace);
        self.lay(patch.shared, given_in);
    }

    /// As [`Self::lay_all`], for the options that all commands share that make calls.
    pub fn lay(&mut self, mut patch: Patch, given_in: &Path) {
        patch.predictor.resolve(given_in, &self.directory);
        patch.ray.resolve(given_in);
        // Only one of two can hold, and the patch is later.
        if patch.rows.limit.is_some() || patch.rows.range.is_some() {
            (self.rows.limit, self.rows.range) = (None, None);
        }
        if patch.workers.workers.is_some() {
            self.ray.ray = RayAddress::None;
        }
        if patch.ray.ray.is_some() {
            self.workers.workers = WorkerCount::InProcess;
        }
        self.object &= patch.predictor.predictor.is_none();
        self.access.lay(patch.access);
        self.predictor.lay(patch.predictor);
        self.format = patch.rows.format.map_or(self.format, Format::from);
        self.rows.lay(patch.rows);
        self.rates.lay(patch.rates);
        self.workers.lay(patch.workers);
        self.ray.lay(patch.ray);
        self.time.lay(patch.time);
        self.retry.lay(patch.retry);
        self.stop.lay(patch.stop);
        self.money.lay(patch.money);
    }

    /// All options as a command line gives them: each option's long name, and its values.
    pub fn words(&self) -> Vec<(String, Vec<String>)> {
        let mut words = Vec::new();
        self.fields.words(&mut words);
        self.page.words(&mut words);
        self.pace.words(&mut words);
        self.access.words(&mut words);
        self.predictor.words(&mut words);
        self.rows.words(&mut words);
        self.rates.words(&mut words);
        self.workers.words(&mut words);
        self.ray.words(&mut words);
        self.time.words(&mut words);
        self.retry.words(&mut words);
        self.stop.words(&mut words);
        self.money.words(&mut words);
        words
    }

    /// A source that reads the rows from `path`, which is the input or another name of it.
    pub fn source(&self, path: &Path) -> Source {
        self.rows.source(path, self.format)
    }
}

/// The refusal to go on without the Python object that a run was started with.
pub(in crate::job) fn lacking(object: &str) -> JobError {
    let name = object.rsplit(['.', ':']).next().filter(|name| !name.starts_with('<')).unwrap_or("name");
    let text = format!(
        "the run was started with the Python object `{object}`, which only its own process has: give it again as \
         `--predictor path/to/file.py:{name}`"
    );
    JobError::new(ErrorKind::Usage, text)
}
