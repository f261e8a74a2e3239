//! Loads a predictor in the interpreter: how it is called, and what it takes.

use std::path::PathBuf;
use std::sync::Arc;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use serde::{Deserialize, Serialize};

use super::exchange::Exchange;
use super::keywords::Keywords;
use super::metered::metered;
pub use super::object::{PredictorObject, Target};
use super::prompt::prompt;
use super::types::ParameterTypes;
use super::{forked, helpers, printed, step};
use crate::bridge::Description;
use crate::input::Parameter;
use crate::secret::Secrets;

/// The language model that DSPy predictors are given.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct ModelSettings {
    /// `local`, or what `dspy.LM` takes.
    pub model: String,
    /// The URL of its API.
    pub api_base: Option<String>,
    /// The arguments of `--lm KEY=VALUE`, with values as JSON text.
    pub options: Vec<(String, String)>,
}

/// How a call of the predictor is run.
#[derive(Debug)]
pub(super) enum Driver {
    /// The target returns an awaitable.
    Async,
    /// The target returns an awaitable, and takes `on_first_chunk`.
    Stream,
    /// This function runs the target on a thread.
    Thread(Py<PyAny>),
}

/// A predictor in the interpreter.
#[derive(Debug)]
pub struct Predictor {
    pub(in crate::bridge) target: Py<PyAny>,
    /// How the production bridge runs it.
    pub(super) driver: Driver,
    /// The function that runs it in a task of its own.
    pub(in crate::bridge) drive: Py<PyAny>,
    pub(in crate::bridge) context: Py<PyAny>,
    /// What it is called with.
    pub(in crate::bridge) keywords: Keywords,
    /// The rows it is called with and the answers it gives, where these stay Python objects.
    pub(super) exchange: Option<Arc<Exchange>>,
    /// The types of its parameters.
    pub(in crate::bridge) types: Arc<ParameterTypes>,
    /// What it is. The bridge and the event loop fill in their own names.
    pub description: Description,
}

/// Provides the model once a predictor turns out to need one, so that none is started for a predictor that does not.
pub type ModelProvider = Box<dyn FnOnce() -> Result<ModelSettings, String> + Send>;

impl ModelSettings {
    /// Whether the model is the one that is served on this machine.
    pub fn is_local(&self) -> bool {
        self.model == "local"
    }
}

/// A model, to be given to whatever needs one.
pub struct Model {
    /// Whether the user named it. Such a model replaces one that the predictor's own file configured, and is lent to
    /// functions too, for they may use DSPy within.
    pub explicit: bool,
    /// Whether it is the one that is served on this machine.
    pub is_local: bool,
    /// Provides it.
    pub provider: ModelProvider,
}

/// What to load.
pub struct Request {
    /// What the predictor is loaded from.
    pub target: Target,
    /// The DSPy signature of the predictor `dspy`: its fields, or a class.
    pub signature: String,
    /// A saved DSPy program: a file with the state of a module, or the directory of a whole program.
    pub program: Option<PathBuf>,
    /// The most calls in flight.
    pub calls: usize,
    /// The language model for DSPy predictors.
    pub model: Model,
    /// Where the rows come from and the answers go, if these stay Python objects.
    pub exchange: Option<Arc<Exchange>>,
}

impl Request {
    /// What a SPEC names. There is no model: a DSPy program must configure its own.
    pub fn of_spec(spec: String, calls: usize) -> Self {
        let provider = Box::new(|| Err("no model was configured".to_owned()));
        Self {
            target: Target::Spec(spec),
            signature: String::new(),
            program: None,
            calls,
            model: Model { explicit: false, is_local: false, provider },
            exchange: None,
        }
    }
}

/// The predictor cannot be used. The text holds the reason, Python's traceback if there is one, and the remedy.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct LoadError(pub String);

impl LoadError {
    /// Makes the text of an exception that was raised during loading: our own refusals as they are, others with a
    /// traceback.
    pub(in crate::bridge) fn of(error: &PyErr, secrets: &Secrets) -> Self {
        Python::attach(|py| {
            // `PyErr::value` would not do: until Python 3.12 it leaves an exception without its traceback.
            let exception = error.clone_ref(py).into_value(py);
            let told = helpers::module(py, "loader")
                .and_then(|loader| loader.call_method1("explain", (exception,))?.extract::<String>());
            Self(secrets.mask(&told.unwrap_or_else(|_| error.to_string())).into_owned())
        })
    }
}

impl Predictor {
    /// Loads what is requested. To be called on the event loop's thread, before the loop runs.
    pub(in crate::bridge) fn load(
        event_loop: &Bound<'_, PyAny>,
        request: Request,
        secrets: &mut Secrets,
    ) -> PyResult<Self> {
        let py = event_loop.py();
        let (host, brought) = (helpers::module(py, "host")?, helpers::module(py, "brought")?);
        host.call_method1("widen", (event_loop, request.calls))?;
        // One job at a time: what a file sets while it is imported is the whole interpreter's.
        let found = match &request.target {
            Target::Spec(_) => {
                brought.call_method1("begin", (event_loop,))?;
                Self::find(event_loop, request, secrets)
            }
            Target::Object(object) => {
                let context = object.context(py)?;
                brought.call_method1("begin", (py.None(),))?;
                step::within(&context, || Self::find(event_loop, request, secrets)).flatten()
            }
        };
        forked::end_if_child(py, || found.as_ref().err());
        brought.call_method0("loaded")?;
        found
    }

    fn find(event_loop: &Bound<'_, PyAny>, request: Request, secrets: &mut Secrets) -> PyResult<Self> {
        let py = event_loop.py();
        let loader = helpers::module(py, "loader")?;
        let Request { target: requested, signature, program, model, calls, exchange } = request;
        let spec = requested.name();
        let mut source: Option<String> = None;
        // A directory holds a whole program, with its predictor.
        let whole = program.as_deref().filter(|program| program.is_dir());
        let (target, module, kind) = if spec == "dspy" {
            let dspy = helpers::dspy(py)?;
            if let Some(program) = whole {
                let module = dspy.call_method1("load_program", (program, !model.explicit))?;
                let kind = kind_of(&module, &module)?;
                (module.clone(), module, Some(format!("{kind} of `{}`", program.display())))
            } else {
                let module: Bound<'_, PyAny>;
                (module, source) =
                    dspy.call_method1("make_module", (&signature, model.is_local))?.extract()?;
                (module.clone(), module, Some(format!("dspy.ChainOfThought({signature})")))
            }
        } else if let Some(program) = whole {
            let program = program.display();
            let reason = format!(
                "`{program}` holds a whole program\nhint: leave out `--predictor {spec}`, or give the state alone, saved as `.json`"
            );
            return Err(refused(py, &reason));
        } else {
            let target: Bound<'_, PyAny>;
            let found = match &requested {
                Target::Spec(spec) => step::run(&loader.getattr("find")?, (spec, event_loop))?,
                Target::Object(object) => {
                    let find = helpers::module(py, "objects")?.getattr("find")?;
                    step::run(&find, (object.target(py), event_loop, program.is_some()))?
                }
            };
            (target, source) = found.extract()?;
            let module = loader.call_method1("module_of", (&target,))?;
            let kind = (!module.is_none()).then(|| kind_of(&target, &module)).transpose()?;
            (target, module, kind)
        };
        let mut outputs = Vec::new();
        if module.is_none() {
            if program.is_some() {
                let reason =
                    format!("`--program` holds the state of a `dspy.Module`, and `{spec}` is not one");
                return Err(refused(py, &reason));
            }
        } else {
            let dspy = helpers::dspy(py)?;
            if let Some(program) = program.filter(|program| !program.is_dir()) {
                dspy.call_method1("take_program", (&module, program, !model.explicit))?;
            }
            outputs = dspy.call_method1("outputs", (&module,))?.extract()?;
        }
        let (call, lm) = lend(&target, &module, model, calls)?;
        let loaded = loader.call_method1("describe", (call, &source, kind))?;
        let offered: Vec<String> = loaded.getattr("offered")?.extract()?;
        let layers =
            helpers::module(py, "layers")?.call_method1("around", (&target, &source, &module, &lm, calls))?;
        let (repeating, mut cautions): (_, Vec<String>) = layers.extract()?;
        if lm.is_none() {
            let surroundings = helpers::module(py, "surroundings")?;
            cautions.extend(surroundings.call_method0("cautions")?.extract::<Vec<String>>()?);
        }
        helpers::module(py, "warm")?.call_method1("up", (&target, &source, &module, lm, event_loop))?;
        // Whatever was imported may have put more secrets into the environment.
        secrets.add_environment();
        // It may also have put streams of its own in place of Python's.
        printed::cover_again(py)?;
        // Without a journal nobody compares it.
        let compared = exchange.is_none();
        let prompt =
            compared.then(|| prompt(&requested, &target, source.as_deref(), &module, secrets)).transpose()?;
        let mut predictor = Self::of(event_loop, spec, &loaded)?;
        predictor.description = Description { outputs, repeating, prompt, ..predictor.description };
        predictor.description.cautions.extend(cautions);
        predictor.exchange = exchange;
        if let Some(exchange) = &predictor.exchange {
            exchange.bind(py, &predictor.description, &offered)?;
        }
        Ok(predictor)
    }

    fn of(event_loop: &Bound<'_, PyAny>, spec: &str, loaded: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = event_loop.py();
        let threaded: bool = loaded.getattr("threaded")?.extract()?;
        let streaming: bool = loaded.getattr("streaming")?.extract()?;
        let offered: Vec<String> = loaded.getattr("offered")?.extract()?;
        let types = Arc::new(ParameterTypes::of(&loaded.getattr("types")?)?);
        let drive = match (threaded, streaming) {
            (true, _) => "drive_thread",
            (_, true) => "drive_stream",
            _ => "drive",
        };
        let driver = match (threaded, streaming) {
            (true, _) => {
                Driver::Thread(helpers::module(py, "host")?.getattr("threads")?.getattr("run")?.unbind())
            }
            (_, true) => Driver::Stream,
            _ => Driver::Async,
        };
        let parameters: Vec<(String, bool)> = loaded.getattr("parameters")?.extract()?;
        let parameter =
            |(name, required): (String, bool)| Parameter { kind: types.kind(&name), name, required };
        let parameters = parameters.into_iter().map(parameter).collect();
        // The calls run in copies of this context.
        helpers::module(py, "brought")?.call_method0("settle")?;
        Ok(Self {
            driver,
            target: loaded.getattr("call")?.unbind(),
            drive: helpers::module(py, "host")?.getattr(drive)?.unbind(),
            context: py.import("contextvars")?.call_method0("copy_context")?.unbind(),
            keywords: Keywords::new(py, &offered, Arc::clone(&types))?,
            types,
            exchange: None,
            description: Description {
                spec: spec.to_owned(),
                kind: loaded.getattr("kind")?.extract()?,
                parameters,
                takes_all: loaded.getattr("takes_all")?.extract()?,
                source: loaded.getattr("source")?.extract()?,
                threaded,
                metered: metered(&loaded.getattr("call")?)?,
                cautions: loaded.getattr("cautions")?.extract()?,
                ..Description::default()
            },
        })
    }
}

/// Makes the LM, and returns it with the settings it was made of.
fn language_model<'py>(
    dspy: &Bound<'py, PyModule>,
    model: Model,
) -> PyResult<(Bound<'py, PyAny>, ModelSettings)> {
    let py = dspy.py();
    // It may start a model, which takes seconds. Other jobs go on meanwhile.
    let provider = model.provider;
    let settings = py.detach(provider).map_err(|reason| refused(py, &reason))?;
    // A value that is JSON is taken as such, so `0.5` is a number; any other is a string.
    let options: serde_json::Map<String, serde_json::Value> = settings
        .options
        .iter()
        .map(|(key, text)| (key.clone(), serde_json::from_str(text).unwrap_or_else(|_| text.as_str().into())))
        .collect();
    let options =
        py.import("json")?.call_method1("loads", (serde_json::Value::from(options).to_string(),))?;
    let lm = dspy.call_method1("make_lm", (&settings.model, &settings.api_base, options));
    let lm = lm.map_err(|error| {
        if error.is_instance_of::<PyValueError>(py) {
            refused(py, &error.value(py).to_string())
        } else {
            error
        }
    })?;
    Ok((lm, settings))
}

/// Names the kind of a target that is a DSPy module, or was made of one by `dspy.streamify`.
fn kind_of(target: &Bound<'_, PyAny>, module: &Bound<'_, PyAny>) -> PyResult<String> {
    let streamed = if target.is(module) { "" } else { ", streamed" };
    Ok(format!("dspy.Module {}{streamed}", module.get_type().name()?))
}

/// Gives the target a model if it needs one: if it is a DSPy module whose file configured none, or if the user named a
/// model. Returns what to call, and the model that was given.
fn lend<'py>(
    target: &Bound<'py, PyAny>,
    module: &Bound<'py, PyAny>,
    model: Model,
    calls: usize,
) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    let py = target.py();
    let none = py.None().into_bound(py);
    if module.is_none() && !model.explicit {
        return Ok((target.clone(), none));
    }
    let dspy = helpers::dspy(py)?;
    let brings_its_own = !module.is_none() && dspy.call_method1("brings_lm", (module,))?.extract::<bool>()?;
    let (lm, local) = if brings_its_own && !model.explicit {
        (none, false)
    } else {
        let (lm, settings) = language_model(&dspy, model)?;
        (lm, settings.is_local())
    };
    let call = if module.is_none() {
        dspy.call_method1("lend", (target, &lm, local, calls))?
    } else {
        dspy.call_method1("wrap", (target, module, &lm, local, calls))?
    };
    Ok((call, lm))
}

/// Makes a refusal in our own words, which the user sees without a traceback.
fn refused(py: Python<'_>, reason: &str) -> PyErr {
    let error =
        helpers::module(py, "loader").and_then(|loader| loader.getattr("LoadError")?.call1((reason,)));
    error.map_or_else(|error| error, PyErr::from_value)
}
