//! What answers the rows: the interpreter, the predictor, and the local model where one is needed. Nothing here makes a
//! call.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::error::{ErrorKind, Explain, JobError};
use super::spec::{PredictorSpec, RowSpec};
use crate::bridge::Bridge;
use crate::bridge::into_future::IntoFutureBridge;
use crate::bridge::python::PythonBridge;
use crate::bridge::python::interpreter::{Interpreter, Show, choose};
use crate::bridge::python::predictor::{Model, ModelSettings, Request};
use crate::bridge::scripted::ScriptedBridge;
use crate::fs::sha256;
use crate::input::Wanted;
use crate::journal::timestamp;
use crate::local_model::{LocalModel, ModelError};
use crate::secret::Secrets;

/// How long the end of the event loop may take.
const SHUT_DOWN: Duration = Duration::from_secs(3);
/// The same where the event loop is blocked.
const SHUT_DOWN_BLOCKED: Duration = Duration::from_millis(500);
/// Distributions whose versions the report names.
const PACKAGES: [&str; 5] = ["dspy", "litellm", "openai", "uvloop", "xllamacpp"];

/// A predictor that is ready to be called. However the job ends, dropping this ends the event loop and the local model, in
/// bounded time. Python itself ends with the process, which may run other jobs.
pub(crate) struct Answerer {
    /// The way to it.
    pub bridge: Arc<dyn Bridge>,
    /// The interpreter; none on the scripted bridge.
    pub interpreter: Option<Interpreter>,
    /// What it took to start.
    pub startup: Duration,
    /// One line for people: what will run.
    pub description: String,
    model: Arc<Mutex<Option<LocalModel>>>,
    /// Nothing is left to be ended.
    ended: AtomicBool,
}

/// A local model that is being started meanwhile.
type Starting = JoinHandle<Result<LocalModel, ModelError>>;

impl Answerer {
    /// Starts what the options ask for. `calls` is how many will be in flight; with `dry_run` no model is started; `show`
    /// shows what Python prints, where its own streams must not.
    ///
    /// Must be called within a Tokio runtime; blocks for seconds.
    pub(crate) fn start(
        options: &PredictorSpec,
        calls: usize,
        dry_run: bool,
        secrets: &Secrets,
        show: Option<Show>,
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
            });
        }
        let through = options.bridge.as_str();
        if !matches!(through, "python" | "into_future") {
            return Err(JobError::new(ErrorKind::Usage, format!("there is no bridge `{through}`")));
        }
        let interpreter = Interpreter::start(&choose(options.python.as_deref()))
            .map_err(|error| JobError::new(ErrorKind::Predictor, error.to_string()).because(error))?;
        if let Some(show) = show {
            interpreter.show_prints_by(show);
        }
        let is_local = options.model_name() == "local";
        // The default predictor needs the model for sure: it loads while Python imports DSPy.
        let early =
            (options.predictor == "dspy" && options.program.is_none() && is_local && !dry_run).then(|| {
                let python = interpreter.executable.clone();
                std::thread::spawn(move || LocalModel::start(&python, calls))
            });
        let model = Arc::<Mutex<Option<LocalModel>>>::default();
        let request = Request {
            spec: options.predictor.clone(),
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
            PythonBridge::start(kind, request, secrets.clone()).map(|b| Arc::new(b) as Arc<dyn Bridge>)
        } else {
            IntoFutureBridge::start(kind, request, secrets.clone()).map(|b| Arc::new(b) as Arc<dyn Bridge>)
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

    /// Calls in flight at most: no more than the local model runs at once, for those that wait in its queue would
    /// use up their timeouts there.
    pub(crate) fn limit(&self, calls: usize) -> usize {
        let model = self.model.lock().unwrap_or_else(PoisonError::into_inner);
        model.as_ref().map_or(calls, |model| calls.min(model.slots()))
    }

    /// What the predictor wants of a row.
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

    /// Versions for the report: this program, Python, packages.
    pub(super) fn versions(&self) -> Vec<(String, String)> {
        let mut versions = vec![(env!("CARGO_PKG_NAME").to_owned(), env!("CARGO_PKG_VERSION").to_owned())];
        if let Some(interpreter) = &self.interpreter {
            versions.push(("python".to_owned(), interpreter.version.clone()));
            versions.extend(interpreter.package_versions(&PACKAGES));
        }
        versions
    }

    /// Leaves everything to the end of the process, which is near.
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
        // A loop that is blocked now will hardly end, and what blocks it may hold the interpreter's lock.
        let blocked = !self.bridge.health().longest(|lane| lane.stalled_now).is_zero();
        let bound = if blocked { SHUT_DOWN_BLOCKED } else { SHUT_DOWN };
        self.bridge.close(bound);
        drop(self.model.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
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
            // Only the shape of the LM is looked at; nothing is asked.
            None if dry_run => LocalModel::look(python, calls),
            None => LocalModel::start(python, calls),
        };
        let started = started.map_err(|error| error.to_string())?;
        settings.api_base = Some(started.api_base().to_owned());
        *model.lock().unwrap_or_else(PoisonError::into_inner) = Some(started);
    }
    Ok(settings)
}

/// The secrets of this process and of the options.
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

/// SHA-256 of the predictor's source file, in lowercase hexadecimal; none if it has no file.
pub(super) fn predictor_sha256(bridge: &dyn Bridge) -> Option<String> {
    sha256(bridge.describe().source.as_ref()?).ok()
}

/// The same of a saved program, which may be a directory.
pub(super) fn program_sha256(program: &Path) -> Result<String, JobError> {
    sha256(program)
        .explain(ErrorKind::Predictor, program, || format!("failed to read `{}`", program.display()))
}

/// Now, as RFC 3339 in UTC.
pub(crate) fn now() -> String {
    timestamp(std::time::SystemTime::now())
}
