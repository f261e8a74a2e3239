//! Checks of the Python side: the interpreter, its packages, the local model.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use serde::Deserialize;

use super::check::Finding;
use crate::bridge::python::interpreter::{Interpreter, linked_version};
use crate::environment;
use crate::job::spec::{LoopChoice, PredictorSpec};
use crate::local_model::LocalModel;
use crate::report::text::duration;

const INSPECT: &str = include_str!("inspect.py");

/// What came of starting the interpreter.
pub(super) struct Started {
    pub(super) found: Finding,
    /// The executable that can be run, whether or not it could be embedded.
    pub(super) executable: Option<PathBuf>,
}

/// Starts the interpreter as a run does.
pub(super) fn interpreter(options: &PredictorSpec) -> Started {
    match Interpreter::find(options.python.as_deref()) {
        Ok(started) => {
            let text = format!("{}, `{}`", started.version, started.executable.display());
            let text = if started.is_embedded {
                format!("{text}, linked to libpython {}", linked_version())
            } else {
                format!("{text}, which runs this program")
            };
            Started { found: Ok(text), executable: Some(started.executable) }
        }
        Err(error) => {
            let executable = error.executable().map(Path::to_owned);
            Started { found: Err(error.to_string()), executable }
        }
    }
}

/// The output of `inspect.py`.
#[derive(Debug, Deserialize)]
struct Told {
    prefix: PathBuf,
    is_virtual: bool,
    /// Whether pip has installed this program there.
    has_program: bool,
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

/// The response of an API to the request for its models.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Models {
    /// A response.
    Status {
        status: u16,
        /// The time it took.
        seconds: f64,
        /// The names of the models, where the response is a list of models.
        names: Option<Vec<String>>,
    },
    /// No response.
    Error { error: String },
}

/// An interpreter and what it has.
pub(super) struct Inspected {
    python: PathBuf,
    told: Told,
}

impl Inspected {
    /// Asks the interpreter in a process of its own, also for the models at `url` with this key, and for the variables
    /// that `LiteLLM` needs for `model`. Either may be empty.
    pub(super) fn of(python: PathBuf, url: &str, model: &str, key: Option<String>) -> Result<Self, String> {
        let failed = |reason: &str| {
            format!(
                "failed to look into `{}`: {reason}\nhint: make the environment anew with `make setup`",
                python.display()
            )
        };
        let mut command = Command::new(&python);
        command.args(["-c", INSPECT, url, model]);
        // Keeps a `json.py` in this directory from being imported. Pythons before 3.11 ignore it.
        command.env("PYTHONSAFEPATH", "1");
        if let Some(key) = key {
            command.env("DOCTOR_KEY", key);
        }
        let output = environment::output(&mut command).map_err(|error| failed(&error.to_string()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        if let Some(told) = text.lines().last().and_then(|line| serde_json::from_str(line).ok()) {
            return Ok(Self { python, told });
        }
        let stderr = String::from_utf8_lossy(&output.stderr);
        Err(failed(stderr.trim().lines().last().unwrap_or("it says nothing")))
    }

    /// The response of the API to the request for its models.
    pub(super) fn models(&self) -> Option<&Models> {
        self.told.models.as_ref()
    }

    /// The variables for the model that are not set; `None` where its provider is not known.
    pub(super) fn missing_keys(&self) -> Option<&[String]> {
        self.told.missing_keys.as_deref()
    }

    /// How to install a package that the extra `dspy` brings.
    fn install(&self, package: &str) -> String {
        let pip = format!("{} -m pip install", self.python.display());
        if self.told.has_program {
            format!("hint: run `{pip} 'tokio-asyncio-bridge[dspy]'`")
        } else {
            format!("hint: run `make setup`, or `{pip} {package}`")
        }
    }

    /// How to mend a package that cannot be imported.
    fn reinstall(&self, package: &str) -> String {
        format!("hint: run `{} -m pip install --force-reinstall {package}`", self.python.display())
    }
}

/// Tells where the packages come from.
pub(super) fn virtual_environment(inspected: &Inspected) -> String {
    let prefix = inspected.told.prefix.display();
    if inspected.told.is_virtual {
        format!("`{prefix}`")
    } else {
        format!("none: the packages are those of `{prefix}`")
    }
}

/// Whether the options name a predictor that certainly needs DSPy.
pub(super) fn needs_dspy(options: &PredictorSpec) -> bool {
    options.predictor == "dspy" || options.model.is_some()
}

pub(super) fn dspy(inspected: &Inspected, options: &PredictorSpec) -> Finding {
    match &inspected.told.dspy {
        Some(Package::Version(version)) => Ok(version.clone()),
        Some(Package::Error(error)) => {
            Err(format!("failed to import `dspy`: {error}\n{}", inspected.reinstall("dspy")))
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
    match (options.event_loop, &inspected.told.uvloop) {
        (LoopChoice::Asyncio, _) => Ok("asyncio, as asked for".to_owned()),
        (_, Some(Package::Version(version))) => Ok(format!("uvloop {version}")),
        (_, Some(Package::Error(error))) => {
            Err(format!("failed to import `uvloop`: {error}\n{}", inspected.reinstall("uvloop")))
        }
        (LoopChoice::Auto, None) => {
            Ok("asyncio (`uvloop`, which costs less a call, is not installed)".to_owned())
        }
        (LoopChoice::Uvloop, None) => {
            let python = inspected.python.display();
            Err(format!("`{python}` has no package `uvloop`\n{}", inspected.install("uvloop")))
        }
    }
}

/// Starts the local model's server where the run would start it.
pub(super) fn local_model(inspected: &Inspected, options: &PredictorSpec) -> Option<Finding> {
    let wanted = needs_dspy(options) && options.model_name() == "local" && options.api_base.is_none();
    wanted.then(|| {
        let started = Instant::now();
        let model = LocalModel::start(&inspected.python, 1).map_err(|error| error.to_string())?;
        drop(model);
        Ok(format!("SmolLM2-135M-Instruct, weights loaded and served after {}", duration(started.elapsed())))
    })
}
