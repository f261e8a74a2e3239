//! Provides the language model of a job, once, to whatever loads its predictor: this process, or each of its workers.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::spec::PredictorSpec;
use crate::bridge::python::predictor::ModelSettings;
use crate::local_model::{LocalModel, ModelError};

/// The language model of a job. Dropping it ends the local model.
pub(super) struct Models {
    options: PredictorSpec,
    /// The interpreter that serves the local model.
    python: PathBuf,
    calls: usize,
    dry_run: bool,
    state: Mutex<Provision>,
}

#[derive(Default)]
struct Provision {
    /// A local model that is starting on another thread.
    early: Option<JoinHandle<Result<LocalModel, ModelError>>>,
    provided: Option<Result<ModelSettings, String>>,
    local: Option<LocalModel>,
}

impl Models {
    /// The model of a predictor with these options, for this many calls in flight. With `dry_run` no local model is
    /// started.
    pub(super) fn new(options: &PredictorSpec, python: PathBuf, calls: usize, dry_run: bool) -> Self {
        let mut state = Provision::default();
        // The default predictor is sure to need the model, so it loads while Python imports DSPy.
        let needs_local =
            options.predictor == "dspy" && options.program.is_none() && options.model_name() == "local";
        if needs_local && options.api_base.is_none() && !dry_run {
            let python = python.clone();
            state.early = Some(std::thread::spawn(move || LocalModel::start(&python, calls)));
        }
        Self { options: options.clone(), python, calls, dry_run, state: Mutex::new(state) }
    }

    /// Whether it is the model that is served on this machine.
    pub(super) fn is_local(&self) -> bool {
        self.options.model_name() == "local" && self.options.api_base.is_none()
    }

    /// How the model is reached. Starts the local model if it is the one, and blocks meanwhile.
    ///
    /// # Errors
    ///
    /// Fails with the reason and the remedy if the local model cannot be started.
    pub(super) fn provide(&self) -> Result<ModelSettings, String> {
        let mut state = self.state();
        let Provision { early, provided, local } = &mut *state;
        provided.get_or_insert_with(|| self.settings(early.take(), local)).clone()
    }

    fn settings(
        &self,
        early: Option<JoinHandle<Result<LocalModel, ModelError>>>,
        local: &mut Option<LocalModel>,
    ) -> Result<ModelSettings, String> {
        let options = &self.options;
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
                None if self.dry_run => LocalModel::look(&self.python, self.calls),
                None => LocalModel::start(&self.python, self.calls),
            };
            let started = started.map_err(|error| error.to_string())?;
            settings.api_base = Some(started.api_base().to_owned());
            *local = Some(started);
        }
        Ok(settings)
    }

    /// The most calls that the local model runs at once, if it was provided.
    pub(super) fn slots(&self) -> Option<usize> {
        self.state().local.as_ref().map(LocalModel::slots)
    }

    /// Ends the local model.
    pub(super) fn end(&self) {
        drop(self.state().local.take());
    }

    fn state(&self) -> MutexGuard<'_, Provision> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
