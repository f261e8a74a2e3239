//! The group about the predictor and its model.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use super::group::group;
use super::lm::{ApiBase, LmArguments};
use super::values::pair;
use super::words::{Words, chosen};
use crate::bridge::python::event_loop::LoopKind;

group! {
    /// The predictor and its model.
    [next_help_heading = "Predictor"] PredictorSpec PredictorPatch {
        /// `path/to/file.py:name`, `package.module:name`, or `dspy` for `dspy.ChainOfThought(SIGNATURE)`
        [value_name = "SPEC", env = "TAB_PREDICTOR"]
        predictor: String as (String) = "dspy".to_owned(),
        /// Signature of the predictor `dspy`: its fields, or a class, as `path/to/file.py:Class` or `module:Class`
        [env = "TAB_SIGNATURE"]
        signature: String as (String) = "question -> answer".to_owned(),
        /// A DSPy program: its state, saved as JSON, for the module that the predictor is; or the directory of a whole
        /// one, saved with `save_program=True` (a pickle, which can run anything)
        [value_name = "PATH", env = "TAB_PROGRAM"]
        program: Option<PathBuf> as (PathBuf) = None,
        /// `local` (served on this machine) or what DSPy takes, such as `openai/gpt-4o-mini` [default: local]
        [value_name = "NAME", env = "TAB_MODEL"]
        model: Option<String> as (String) = None,
        /// URL of the model's API, in place of the provider's own
        [value_name = "URL", env = "TAB_API_BASE"]
        api_base: Option<ApiBase> as (ApiBase) = None,
        /// An argument of the language model: `temperature`, `max_tokens`, … (repeatable)
        [value_name = "KEY=VALUE", value_parser = pair, env = "TAB_LM", value_delimiter = None]
        lm: LmArguments as (Vec<(String, String)>) = LmArguments::default(),
        /// A file of `NAME=VALUE` lines, set as environment variables unless they are set already; only its path is
        /// recorded
        [value_name = "FILE", env = "TAB_ENV_FILE"]
        env_file: Option<PathBuf> as (PathBuf) = None,
        /// The Python interpreter [default: that of `$VIRTUAL_ENV`, of `.venv` here or further up, or `python3`]
        [value_name = "PATH", env = "TAB_PYTHON"]
        python: Option<PathBuf> as (PathBuf) = None,
        /// The event loop; `auto` takes uvloop where it is installed
        [value_name = "KIND", env = "TAB_EVENT_LOOP"]
        event_loop: LoopChoice as (LoopChoice) = LoopChoice::Auto,
        /// The bridge: `python`, `into_future`, or `fake[:SCRIPT]`
        [hide = true]
        bridge: String as (String) = "python".to_owned(),
    }
}

impl PredictorSpec {
    /// The name of the model, `local` by default.
    pub fn model_name(&self) -> &str {
        self.model.as_deref().unwrap_or("local")
    }

    /// The option with a secret that an earlier session was given and this one was not.
    pub fn missing(&self) -> Option<String> {
        let key = self.lm.missing().map(|key| format!("--lm {key}=…"));
        let url = self.api_base.as_ref().filter(|url| url.is_incomplete());
        key.or_else(|| url.map(|url| format!("--api-base {}", &**url)))
    }

    /// Makes relative paths absolute: those of files in `directory`.
    pub(super) fn anchor(&mut self, directory: &Path) {
        anchor([&mut self.program, &mut self.env_file], &mut self.python, directory);
    }

    /// Makes the files in SPEC and signature absolute if the process is not in the job's directory, to which they are
    /// relative.
    pub(crate) fn from(&self, directory: &Path) -> Self {
        let mut spec = self.clone();
        if std::env::current_dir().is_ok_and(|current| current != directory) {
            for text in [&mut spec.predictor, &mut spec.signature] {
                if let Some((file, name)) = file_of(text) {
                    *text = format!("{}:{name}", directory.join(file).display());
                }
            }
        }
        spec
    }
}

/// Splits a text such as `path/to/file.py:name` into the file and the name. Returns `None` for a module such as
/// `package.module:name`, and for a signature that is written out. The predictor's loader draws the same line.
pub(in crate::job) fn file_of(text: &str) -> Option<(&str, &str)> {
    let is_python = |place: &str| Path::new(place).extension().is_some_and(|extension| extension == "py");
    let is_file = |place: &str| is_python(place) || place.contains('/');
    text.rsplit_once(':').filter(|(place, _)| is_file(place) && !text.contains("->"))
}

/// Makes relative paths absolute.
fn anchor(files: [&mut Option<PathBuf>; 2], python: &mut Option<PathBuf>, directory: &Path) {
    // An interpreter without a directory is looked for on the PATH.
    let python = python.as_mut().filter(|python| python.parent() != Some(Path::new("")));
    for path in files.into_iter().flatten().chain(python) {
        // Collecting the components removes `.` and doubled slashes.
        *path = directory.join(&*path).components().collect();
    }
}

impl PredictorPatch {
    /// Makes paths that are relative to `given_in` absolute. The file of a SPEC is made relative to the job's directory
    /// if it lies there.
    pub(super) fn resolve(&mut self, given_in: &Path, directory: &Path) {
        anchor([&mut self.program, &mut self.env_file], &mut self.python, given_in);
        if given_in == directory {
            return;
        }
        for spec in [&mut self.predictor, &mut self.signature].into_iter().flatten() {
            if let Some((file, name)) = file_of(spec) {
                let file = given_in.join(file);
                *spec = format!("{}:{name}", file.strip_prefix(directory).unwrap_or(&file).display());
            }
        }
    }
}

/// The values of `--event-loop`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum LoopChoice {
    Auto,
    Asyncio,
    Uvloop,
}

chosen!(LoopChoice);

impl From<LoopChoice> for LoopKind {
    fn from(choice: LoopChoice) -> Self {
        match choice {
            LoopChoice::Auto => Self::Auto,
            LoopChoice::Asyncio => Self::Asyncio,
            LoopChoice::Uvloop => Self::Uvloop,
        }
    }
}
