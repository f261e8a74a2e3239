//! Starts what answers the rows: the interpreter, the predictor and, if needed, the local model. Makes no call.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::error::{ErrorKind, Explain, JobError};
use super::in_workers::{self, InWorkers};
use super::models::Models;
use super::on_ray;
use super::spec::{JobSpec, PredictorSpec, RayAddress, RowSpec};
use super::starting::{PACKAGES, StartOptions, given, not_loaded, not_started};
use crate::bridge::Bridge;
use crate::bridge::into_future::IntoFutureBridge;
use crate::bridge::python::PythonBridge;
use crate::bridge::python::interpreter::{Interpreter, Variables};
use crate::bridge::python::predictor::Target;
use crate::bridge::scripted::ScriptedBridge;
use crate::fs::sha256;
use crate::input::Wanted;
use crate::journal::timestamp;
use crate::secret::Secrets;

/// How long the event loop may take to end.
const SHUT_DOWN: Duration = Duration::from_secs(3);
/// How long a blocked event loop may take to end.
const SHUT_DOWN_BLOCKED: Duration = Duration::from_millis(500);

/// A predictor that is ready to be called. Dropping it ends the event loop and the local model in bounded time, however
/// the job ends. Python itself ends with the process, which may run other jobs.
pub(crate) struct Answerer {
    /// The bridge to the predictor.
    pub bridge: Arc<dyn Bridge>,
    /// The interpreter of this process; `None` if it has none.
    pub interpreter: Option<Interpreter>,
    /// How long the start took.
    pub startup: Duration,
    /// What will run, in one line for people.
    pub description: String,
    /// What worker processes have told, if there are any.
    pub workers: Option<InWorkers>,
    /// The model; `None` with the scripted bridge.
    models: Option<Arc<Models>>,
    /// Whether nothing is left for `drop` to end.
    ended: AtomicBool,
    /// What the env file set.
    _variables: Option<Variables>,
}

impl Answerer {
    /// Starts what the options ask for.
    ///
    /// Must be called within a Tokio runtime, and may block for seconds.
    ///
    /// # Errors
    ///
    /// Fails if the options name no bridge, or if Python, the predictor or the local model cannot be started.
    pub(crate) fn start(options: StartOptions<'_>) -> Result<Self, JobError> {
        let started = Instant::now();
        let predictor = options.predictor;
        if let Some(ray) = options.ray.clone() {
            return Ok(Self::elsewhere(on_ray::start(options, &ray)?, started, predictor));
        }
        if let Some(workers) = options.workers {
            return Ok(Self::elsewhere(in_workers::start(options, workers)?, started, predictor));
        }
        if let Some(script) = predictor.bridge.strip_prefix("fake") {
            let script = script.trim_start_matches(':').parse();
            let script = script.map_err(|error: String| JobError::new(ErrorKind::Usage, error))?;
            return Ok(Self {
                bridge: Arc::new(ScriptedBridge::new(script)),
                interpreter: None,
                startup: started.elapsed(),
                description: "the fake bridge".to_owned(),
                workers: None,
                models: None,
                ended: AtomicBool::new(false),
                _variables: None,
            });
        }
        let through = predictor.bridge.as_str();
        if !matches!(through, "python" | "into_future") {
            return Err(JobError::new(ErrorKind::Usage, format!("there is no bridge `{through}`")));
        }
        let load = options.load()?;
        let (interpreter, variables) = load.interpreter().map_err(|error| not_started(error, predictor))?;
        if let Some(show) = options.prints.show {
            interpreter.show_prints_by(show);
        }
        let mut secrets = options.secrets.clone();
        secrets.add_environment();
        let python = interpreter.executable.clone();
        let models = Arc::new(Models::new(predictor, python, options.calls, options.dry_run));
        let target = options.object.map_or_else(|| Target::Spec(load.predictor.clone()), Target::Object);
        let provider = Box::new({
            let models = Arc::clone(&models);
            move || models.provide()
        });
        let request = load.request(target, provider, options.exchange);
        let bridge = if through == "python" {
            PythonBridge::start(load.event_loop, request, secrets).map(|b| Arc::new(b) as Arc<dyn Bridge>)
        } else {
            IntoFutureBridge::start(load.event_loop, request, secrets).map(|b| Arc::new(b) as Arc<dyn Bridge>)
        };
        let bridge = bridge.map_err(|error| not_loaded(predictor).because(error))?;
        if load.quiet {
            interpreter.hush();
        }
        let mut answerer = Self {
            bridge,
            interpreter: Some(interpreter),
            startup: started.elapsed(),
            description: String::new(),
            workers: None,
            models: Some(models),
            ended: AtomicBool::new(false),
            _variables: variables,
        };
        answerer.description = answerer.describe(predictor);
        Ok(answerer)
    }

    /// What answers the rows in other processes.
    fn elsewhere(workers: in_workers::Started, started: Instant, predictor: &PredictorSpec) -> Self {
        let in_workers::Started { bridge, interpreter, workers, models, variables } = workers;
        let mut answerer = Self {
            bridge,
            interpreter,
            startup: started.elapsed(),
            description: String::new(),
            workers: Some(workers),
            models: Some(models),
            ended: AtomicBool::new(false),
            _variables: variables,
        };
        answerer.description = answerer.describe(predictor);
        answerer
    }

    fn describe(&self, options: &PredictorSpec) -> String {
        let predictor = self.bridge.describe();
        let mut text = predictor.kind.clone();
        if predictor.spec != "dspy" {
            text = format!("{} ({text})", predictor.spec);
        }
        if self.slots().is_some() {
            text += " on the local model SmolLM2-135M-Instruct";
        } else if predictor.spec == "dspy" || options.model.is_some() {
            text += &format!(" on {}", options.model_name());
        }
        text
    }

    /// The most calls in flight: no more than the local model runs at once. Calls that waited in its queue would spend
    /// their timeouts there.
    pub(crate) fn limit(&self, calls: usize) -> usize {
        self.slots().map_or(calls, |slots| calls.min(slots))
    }

    /// What the start has left of the deadline. On a cluster it may have waited for room, and that counts.
    pub(super) fn left(&self, spec: &JobSpec) -> Option<Duration> {
        let counted = if spec.ray.ray == RayAddress::None { Duration::ZERO } else { self.startup };
        spec.time.deadline.map(|deadline| deadline.saturating_sub(counted))
    }

    fn slots(&self) -> Option<usize> {
        self.models.as_ref()?.slots()
    }

    /// The columns of a row that the predictor wants.
    pub(super) fn wanted(&self, rows: &RowSpec) -> Wanted {
        let description = self.bridge.describe();
        Wanted {
            parameters: description.parameters.clone(),
            takes_all: description.takes_all,
            column: rows.column.clone(),
            map: rows.map.clone(),
            id_column: rows.id_column.clone(),
        }
    }

    /// The versions that the report names: of this program, of Python and of its packages.
    pub(super) fn versions(&self) -> Vec<(String, String)> {
        let mut versions = vec![(env!("CARGO_PKG_NAME").to_owned(), env!("CARGO_PKG_VERSION").to_owned())];
        if let Some(workers) = &self.workers {
            versions.extend_from_slice(&workers.facts.versions);
        } else if let Some(interpreter) = &self.interpreter {
            versions.push(("python".to_owned(), interpreter.version.clone()));
            versions.extend(interpreter.package_versions(&PACKAGES));
        }
        versions
    }

    /// Leaves everything running, because the process is about to end.
    pub(super) fn leave(&self) {
        self.ended.store(true, Ordering::Relaxed);
        // Dropping the bridge would cancel its calls.
        std::mem::forget(Arc::clone(&self.bridge));
    }

    /// Ends the event loop and the local model, in bounded time. What the bridge tells of its health is whole then.
    pub(super) fn close(&self) {
        if self.ended.swap(true, Ordering::Relaxed) {
            return;
        }
        // A blocked loop will hardly end, and what blocks it may hold the interpreter's lock.
        let blocked = !self.bridge.health().longest(|lane| lane.stalled_now).is_zero();
        let bound = if blocked { SHUT_DOWN_BLOCKED } else { SHUT_DOWN };
        self.bridge.close(bound);
        self.models.iter().for_each(|models| models.end());
    }
}

impl Drop for Answerer {
    fn drop(&mut self) {
        self.close();
    }
}

/// The secrets in the environment and in the options.
pub(crate) fn secrets(options: &PredictorSpec) -> Secrets {
    let mut secrets = Secrets::from_environment();
    secrets.extend(&given(options));
    secrets
}

/// SHA-256 of the predictor's source file, in lowercase hexadecimal; `None` if it has no file.
pub(super) fn predictor_sha256(bridge: &dyn Bridge) -> Option<String> {
    sha256(bridge.describe().source.as_ref()?).ok()
}

/// SHA-256 of a saved program, which may be a directory, in lowercase hexadecimal.
pub(super) fn program_sha256(program: &Path) -> Result<String, JobError> {
    sha256(program)
        .explain(ErrorKind::Predictor, program, || format!("failed to read `{}`", program.display()))
}

/// The current time as RFC 3339, in UTC.
pub(crate) fn now() -> String {
    timestamp(std::time::SystemTime::now())
}
