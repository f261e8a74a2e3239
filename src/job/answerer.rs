//! Starts what answers the rows: the interpreter, the predictor and, if needed, the local model. Makes no call.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::env_file::EnvFile;
use super::error::{ErrorKind, Explain, JobError};
use super::spec::{PredictorSpec, RowSpec};
use crate::bridge::Bridge;
use crate::bridge::into_future::IntoFutureBridge;
use crate::bridge::python::PythonBridge;
use crate::bridge::python::exchange::Exchange;
use crate::bridge::python::interpreter::{Interpreter, Show, Variables};
use crate::bridge::python::predictor::{Model, ModelSettings, PredictorObject, Request, Target};
use crate::bridge::scripted::ScriptedBridge;
use crate::fs::sha256;
use crate::input::Wanted;
use crate::journal::timestamp;
use crate::local_model::{LocalModel, ModelError};
use crate::secret::Secrets;

/// How long the event loop may take to end.
const SHUT_DOWN: Duration = Duration::from_secs(3);
/// How long a blocked event loop may take to end.
const SHUT_DOWN_BLOCKED: Duration = Duration::from_millis(500);
/// Python packages whose versions the report names.
const PACKAGES: [&str; 5] = ["dspy", "litellm", "openai", "uvloop", "xllamacpp"];

/// A predictor that is ready to be called. Dropping it ends the event loop and the local model in bounded time, however
/// the job ends. Python itself ends with the process, which may run other jobs.
pub(crate) struct Answerer {
    /// The bridge to the predictor.
    pub bridge: Arc<dyn Bridge>,
    /// The interpreter; `None` with the scripted bridge.
    pub interpreter: Option<Interpreter>,
    /// How long the start took.
    pub startup: Duration,
    /// What will run, in one line for people.
    pub description: String,
    model: Arc<Mutex<Option<LocalModel>>>,
    /// Whether nothing is left for `drop` to end.
    ended: AtomicBool,
    /// What the env file set.
    _variables: Option<Variables>,
}

/// A local model that is starting on another thread.
type Starting = JoinHandle<Result<LocalModel, ModelError>>;

impl Answerer {
    /// Starts what the options ask for, with `object` in place of their SPEC if there is one. `calls` is the number of
    /// calls that will be in flight. With `dry_run` no model is started. `show` shows what Python prints; without it,
    /// Python prints to its own streams. Rows and answers that stay Python objects pass through `exchange`.
    ///
    /// Must be called within a Tokio runtime, and may block for seconds.
    ///
    /// # Errors
    ///
    /// Fails if the options name no bridge, or if Python, the predictor or the local model cannot be started.
    pub(crate) fn start(
        options: &PredictorSpec,
        object: Option<PredictorObject>,
        calls: usize,
        dry_run: bool,
        secrets: &Secrets,
        show: Option<Show>,
        exchange: Option<Arc<Exchange>>,
    ) -> Result<Self, JobError> {
        let started = Instant::now();
        if let Some(script) = options.bridge.strip_prefix("fake") {
            let script = script.trim_start_matches(':').parse();
            let script = script.map_err(|error: String| JobError::new(ErrorKind::Usage, error))?;
            return Ok(Self {
                bridge: Arc::new(ScriptedBridge::new(script)),
                interpreter: None,
                startup: started.elapsed(),
                description: "the fake bridge".to_owned(),
                model: Arc::default(),
                ended: AtomicBool::new(false),
                _variables: None,
            });
        }
        let through = options.bridge.as_str();
        if !matches!(through, "python" | "into_future") {
            return Err(JobError::new(ErrorKind::Usage, format!("there is no bridge `{through}`")));
        }
        let interpreter = Interpreter::find(options.python.as_deref())
            .map_err(|error| JobError::new(ErrorKind::Predictor, error.to_string()).because(error))?;
        if let Some(show) = show {
            interpreter.show_prints_by(show);
        }
        let variables = options.env_file.as_deref().map(|file| set(file, &interpreter)).transpose()?;
        let mut secrets = secrets.clone();
        secrets.add_environment();
        let is_local = options.model_name() == "local";
        // The default predictor is sure to need the model, so it loads while Python imports DSPy.
        let early =
            (options.predictor == "dspy" && options.program.is_none() && is_local && !dry_run).then(|| {
                let python = interpreter.executable.clone();
                std::thread::spawn(move || LocalModel::start(&python, calls))
            });
        let model = Arc::<Mutex<Option<LocalModel>>>::default();
        let request = Request {
            exchange,
            target: object.map_or_else(|| Target::Spec(options.predictor.clone()), Target::Object),
            signature: options.signature.clone(),
            program: options.program.clone(),
            calls,
            model: Model {
                explicit: options.model.is_some(),
                is_local,
                provider: Box::new({
                    let (options, model) = (options.clone(), Arc::clone(&model));
                    let python = interpreter.executable.clone();
                    move || provide(&options, early, &python, calls, dry_run, &model)
                }),
            },
        };
        let kind = options.event_loop.into();
        let bridge = if through == "python" {
            PythonBridge::start(kind, request, secrets).map(|b| Arc::new(b) as Arc<dyn Bridge>)
        } else {
            IntoFutureBridge::start(kind, request, secrets).map(|b| Arc::new(b) as Arc<dyn Bridge>)
        };
        let bridge = bridge.map_err(|error| {
            let text = format!("failed to load the predictor `{}`", options.predictor);
            JobError::new(ErrorKind::Predictor, text).because(error)
        })?;
        let mut answerer = Self {
            bridge,
            interpreter: Some(interpreter),
            startup: started.elapsed(),
            description: String::new(),
            model,
            ended: AtomicBool::new(false),
            _variables: variables,
        };
        answerer.description = answerer.describe(options);
        Ok(answerer)
    }

    fn describe(&self, options: &PredictorSpec) -> String {
        let predictor = self.bridge.describe();
        let mut text = predictor.kind.clone();
        if predictor.spec != "dspy" {
            text = format!("{} ({text})", predictor.spec);
        }
        let model = self.model.lock().unwrap_or_else(PoisonError::into_inner);
        if model.is_some() {
            text += " on the local model SmolLM2-135M-Instruct";
        } else if predictor.spec == "dspy" || options.model.is_some() {
            text += &format!(" on {}", options.model_name());
        }
        text
    }

    /// The most calls in flight: no more than the local model runs at once. Calls that waited in its queue would spend
    /// their timeouts there.
    pub(crate) fn limit(&self, calls: usize) -> usize {
        let model = self.model.lock().unwrap_or_else(PoisonError::into_inner);
        model.as_ref().map_or(calls, |model| calls.min(model.slots()))
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
        if let Some(interpreter) = &self.interpreter {
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
}

impl Drop for Answerer {
    fn drop(&mut self) {
        if self.ended.load(Ordering::Relaxed) {
            return;
        }
        // A blocked loop will hardly end, and what blocks it may hold the interpreter's lock.
        let blocked = !self.bridge.health().longest(|lane| lane.stalled_now).is_zero();
        let bound = if blocked { SHUT_DOWN_BLOCKED } else { SHUT_DOWN };
        self.bridge.close(bound);
        drop(self.model.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// Sets the variables of an env file for as long as the job lasts.
fn set(file: &Path, interpreter: &Interpreter) -> Result<Variables, JobError> {
    let variables = EnvFile::read(file)
        .map_err(|error| JobError::new(ErrorKind::Predictor, error.to_string()).because(error))?;
    interpreter.set_variables(variables.into_variables()).map_err(|error| {
        let text = format!("failed to set the variables of `{}`", file.display());
        JobError::new(ErrorKind::Predictor, text).because(error)
    })
}

fn provide(
    options: &PredictorSpec,
    early: Option<Starting>,
    python: &Path,
    calls: usize,
    dry_run: bool,
    model: &Mutex<Option<LocalModel>>,
) -> Result<ModelSettings, String> {
    let mut settings = ModelSettings {
        model: options.model_name().to_owned(),
        api_base: options.api_base.as_ref().map(|url| url.to_string()),
        options: options.lm.given().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
    };
    if settings.is_local() && settings.api_base.is_none() {
        let started = match early {
            Some(starting) => {
                starting.join().map_err(|_| "the thread that starts the local model panicked")?
            }
            // A dry run looks only at how the LM is set up, and asks it nothing.
            None if dry_run => LocalModel::look(python, calls),
            None => LocalModel::start(python, calls),
        };
        let started = started.map_err(|error| error.to_string())?;
        settings.api_base = Some(started.api_base().to_owned());
        *model.lock().unwrap_or_else(PoisonError::into_inner) = Some(started);
    }
    Ok(settings)
}

/// The secrets in the environment and in the options.
pub(crate) fn secrets(options: &PredictorSpec) -> Secrets {
    let mut secrets = Secrets::from_environment();
    for (key, value) in options.lm.secrets() {
        secrets.add_named(key, value);
    }
    if let Some(url) = &options.api_base {
        secrets.add_url(url);
    }
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
