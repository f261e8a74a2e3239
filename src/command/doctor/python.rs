//! The Python side: the interpreter, its packages, the local model, the user's predictor.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde::Deserialize;

use super::Finding;
use super::api::{asked_about, secret_key};
use crate::bridge::python::interpreter::{Interpreter, InterpreterError, choose, linked_version};
use crate::job::spec::{LoopChoice, PredictorSpec};
use crate::local_model::LocalModel;
use crate::report::text::duration;

const INSPECT: &str = include_str!("inspect.py");

/// The interpreter, started where it could be.
pub(super) struct Started {
    pub(super) found: Finding,
    /// The executable that can be run, embedded or not.
    pub(super) executable: Option<PathBuf>,
}

/// Starts the interpreter as a run would.
pub(super) fn interpreter(options: &PredictorSpec) -> Started {
    match Interpreter::start(&choose(options.python.as_deref())) {
        Ok(started) => {
            let (python, version) = (started.executable.display(), &started.version);
            let text = format!("{version}, `{python}`, linked to libpython {}", linked_version());
            Started { found: Ok(text), executable: Some(started.executable) }
        }
        Err(error) => {
            let executable = match &error {
                InterpreterError::Python(error) => error.executable().map(Path::to_owned),
                InterpreterError::Start { python, .. } => Some(python.clone()),
                InterpreterError::Helpers(_) => None,
            };
            Started { found: Err(error.to_string()), executable }
        }
    }
}

/// What `inspect.py` says of an interpreter.
#[derive(Debug, Deserialize)]
struct Told {
    prefix: PathBuf,
    is_virtual: bool,
    dspy: Option<Package>,
    uvloop: Option<Package>,
    models: Option<Models>,
    missing_keys: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Package {
    Version(String),
    Error(String),
}

/// What came of asking an API for its models.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Models {
    /// A response, and the seconds it took.
    Status {
        status: u16,
        seconds: f64,
        /// Their names, where the response is such a list.
        names: Option<Vec<String>>,
    },
    /// None.
    Error { error: String },
}

/// An interpreter and what it has.
pub(super) struct Inspected {
    python: PathBuf,
    told: Told,
}

impl Inspected {
    /// Asks the interpreter in a process of its own.
    pub(super) fn of(python: PathBuf, options: &PredictorSpec) -> Result<Self, String> {
        let failed = |reason: &str| {
            format!(
                "failed to look into `{}`: {reason}\nhint: make the environment anew with `make setup`",
                python.display()
            )
        };
        let url = options.api_base.as_deref().unwrap_or_default();
        let mut command = Command::new(&python);
        command.args(["-c", INSPECT, url, asked_about(options).unwrap_or_default()]);
        // Else a `json.py` in this directory would be imported. Pythons older than ours do not know of it.
        command.env("PYTHONSAFEPATH", "1");
        if let Some(key) = secret_key(options) {
            command.env("DOCTOR_KEY", key);
        }
        let output = command.stdin(Stdio::null()).output().map_err(|error| failed(&error.to_string()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        if let Some(told) = text.lines().last().and_then(|line| serde_json::from_str(line).ok()) {
            return Ok(Self { python, told });
        }
        let stderr = String::from_utf8_lossy(&output.stderr);
        Err(failed(stderr.trim().lines().last().unwrap_or("it says nothing")))
    }

    /// What came of asking `--api-base` for its models.
    pub(super) fn models(&self) -> Option<&Models> {
        self.told.models.as_ref()
    }

    /// The variables of a key that are not set, for the model [`asked_about`]; none where its provider is not known.
    pub(super) fn missing_keys(&self) -> Option<&[String]> {
        self.told.missing_keys.as_deref()
    }

    fn install(&self, package: &str) -> String {
        format!("hint: run `make setup`, or `{} -m pip install {package}`", self.python.display())
    }
}

/// Where the packages come from.
pub(super) fn virtual_environment(inspected: &Inspected) -> String {
    let prefix = inspected.told.prefix.display();
    if inspected.told.is_virtual {
        format!("`{prefix}`")
    } else {
        format!("none: the packages are those of `{prefix}`")
    }
}

/// Whether the options name a predictor that is DSPy's for sure.
pub(super) fn needs_dspy(options: &PredictorSpec) -> bool {
    options.predictor == "dspy" || options.model.is_some()
}

pub(super) fn dspy(inspected: &Inspected, options: &PredictorSpec) -> Finding {
    match &inspected.told.dspy {
        Some(Package::Version(version)) => Ok(version.clone()),
        Some(Package::Error(error)) => {
            Err(format!("failed to import `dspy`: {error}\n{}", inspected.install("--force-reinstall dspy")))
        }
        None if needs_dspy(options) => Err(format!(
            "`{}` has no package `dspy`\n{}",
            inspected.python.display(),
            inspected.install("dspy")
        )),
        None => Ok(format!("not installed: `{}` may not need it", options.predictor)),
    }
}

pub(super) fn event_loop(inspected: &Inspected, options: &PredictorSpec) -> Finding {
    let install = || inspected.install("uvloop");
    match (options.event_loop, &inspected.told.uvloop) {
        (LoopChoice::Asyncio, _) => Ok("asyncio, as asked for".to_owned()),
        (_, Some(Package::Version(version))) => Ok(format!("uvloop {version}")),
        (_, Some(Package::Error(error))) => Err(format!("failed to import `uvloop`: {error}\n{}", install())),
        (LoopChoice::Auto, None) => {
            Ok("asyncio (`uvloop`, which costs less a call, is not installed)".to_owned())
        }
        (LoopChoice::Uvloop, None) => {
            Err(format!("`{}` has no package `uvloop`\n{}", inspected.python.display(), install()))
        }
    }
}

/// Starts the local model's server, where the run would.
pub(super) fn local_model(inspected: &Inspected, options: &PredictorSpec) -> Option<Finding> {
    let wanted = needs_dspy(options) && options.model_name() == "local" && options.api_base.is_none();
    wanted.then(|| {
        let started = Instant::now();
        let model = LocalModel::start(&inspected.python, 1).map_err(|error| error.to_string())?;
        drop(model);
        Ok(format!("SmolLM2-135M-Instruct, weights loaded and served after {}", duration(started.elapsed())))
    })
}
