//! What is to be started to answer the rows: the predictor, and where its calls are made.

use std::path::Path;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::env_file::EnvFile;
use super::error::{ErrorKind, JobError};
use super::prints::Prints;
use super::ray::Sent;
use super::spec::{JobSpec, PredictorSpec, RaySpec, TimeSpec, WorkerCount, WorkerSpec};
use super::telling::Tell;
use crate::bridge::python::exchange::Exchange;
use crate::bridge::python::load::{Load, StartError};
use crate::bridge::python::predictor::PredictorObject;
use crate::secret::Secrets;

/// Python packages whose versions the report names.
pub(super) const PACKAGES: [&str; 5] = ["dspy", "litellm", "openai", "uvloop", "xllamacpp"];

/// What is to be started.
pub(crate) struct StartOptions<'a> {
    /// The predictor and its model.
    pub predictor: &'a PredictorSpec,
    /// The predictor if it is a Python object, in place of its SPEC.
    pub object: Option<PredictorObject>,
    /// The number of calls that will be in flight.
    pub calls: usize,
    /// Start no model.
    pub dry_run: bool,
    /// Keep Python's libraries from logging a line for each call.
    pub quiet: bool,
    /// Texts that must not be shown.
    pub secrets: &'a Secrets,
    /// How what Python prints is shown.
    pub prints: Prints,
    /// The worker processes that make the calls; `None` to make them in this process.
    pub workers: Option<WorkerOptions<'a>>,
    /// The Ray cluster whose actors make the calls; `None` to make them on this machine.
    pub ray: Option<RayOptions<'a>>,
    /// Passes rows and answers that stay Python objects. Worker processes make no use of it.
    pub exchange: Option<Arc<Exchange>>,
    /// Ends the start of workers once it is cancelled.
    pub stop: CancellationToken,
}

/// What a job says of the Ray cluster that makes its calls.
#[derive(Clone)]
pub(crate) struct RayOptions<'a> {
    /// Where it is, and what an actor takes of it.
    pub(super) spec: &'a RaySpec,
    /// How large an actor may grow, in bytes.
    pub(super) max_rss: Option<u64>,
    /// How much time a call has.
    pub(super) time: &'a TimeSpec,
    /// What is sent there.
    pub(super) sent: &'a Sent,
    /// Whether one actor is enough to know them all.
    pub(super) only_one: bool,
    /// Is told what happens meanwhile.
    pub(super) tell: Tell,
}

impl<'a> StartOptions<'a> {
    /// What the options ask for, with this many calls in flight.
    pub(crate) fn new(predictor: &'a PredictorSpec, calls: usize, secrets: &'a Secrets) -> Self {
        let (object, workers, ray, exchange) = (None, None, None, None);
        let prints = Prints::default();
        Self {
            predictor,
            object,
            calls,
            dry_run: false,
            quiet: false,
            secrets,
            prints,
            workers,
            ray,
            exchange,
            stop: CancellationToken::new(),
        }
    }

    /// What is to be loaded.
    pub(super) fn load(&self) -> Result<Load, JobError> {
        let options = self.predictor;
        let file = options.env_file.as_deref().map(EnvFile::read).transpose();
        let file =
            file.map_err(|error| JobError::new(ErrorKind::Predictor, error.to_string()).because(error))?;
        Ok(Load {
            python: options.python.clone(),
            variables: file.map(EnvFile::into_variables).unwrap_or_default(),
            event_loop: options.event_loop.into(),
            predictor: options.predictor.clone(),
            signature: options.signature.clone(),
            program: options.program.clone(),
            calls: self.calls,
            names_model: options.model.is_some(),
            is_model_local: options.model_name() == "local",
            quiet: self.quiet,
        })
    }
}

impl<'a> RayOptions<'a> {
    /// The cluster that a job asks for, which is sent this.
    pub(crate) fn new(spec: &'a JobSpec, sent: &'a Sent, only_one: bool, tell: &Tell) -> Self {
        let max_rss = spec.workers.max_rss();
        Self { spec: &spec.ray, max_rss, time: &spec.time, sent, only_one, tell: Arc::clone(tell) }
    }
}

/// What a job says of its worker processes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WorkerOptions<'a> {
    /// How many, and how large.
    pub(super) spec: &'a WorkerSpec,
    /// How much time a call has.
    pub(super) time: &'a TimeSpec,
    /// The program that becomes a worker.
    pub(super) program: Option<&'a Path>,
    /// Whether one is enough to know them all.
    pub(super) only_one: bool,
}

impl<'a> WorkerOptions<'a> {
    /// The worker processes that make the calls, each of which has this much time; `None` if they are made in this
    /// process. `program` becomes a worker if its arguments are `worker` and the number of this process. It is not
    /// needed where Python runs in this process.
    pub(crate) fn new(spec: &'a WorkerSpec, time: &'a TimeSpec, program: Option<&'a Path>) -> Option<Self> {
        (spec.workers != WorkerCount::InProcess).then_some(Self { spec, time, program, only_one: false })
    }

    /// Starts only one, unless that decides how many there are.
    pub(crate) fn only_one(self, only_one: bool) -> Self {
        Self { only_one, ..self }
    }
}

/// The secrets in the options.
pub(super) fn given(options: &PredictorSpec) -> Secrets {
    let mut secrets = Secrets::default();
    for (key, value) in options.lm.secrets() {
        secrets.add_named(&key, &value);
    }
    if let Some(url) = &options.api_base {
        secrets.add_url(url);
    }
    secrets
}

pub(super) fn not_started(error: StartError, options: &PredictorSpec) -> JobError {
    match error {
        StartError::Interpreter(error) => {
            JobError::new(ErrorKind::Predictor, error.to_string()).because(error)
        }
        StartError::Variables(error) => {
            let file = options.env_file.as_deref().unwrap_or(Path::new(".env"));
            let text = format!("failed to set the variables of `{}`", file.display());
            JobError::new(ErrorKind::Predictor, text).because(error)
        }
    }
}

pub(super) fn not_loaded(options: &PredictorSpec) -> JobError {
    JobError::new(ErrorKind::Predictor, format!("failed to load the predictor `{}`", options.predictor))
}
