//! What a worker process is told to load, and what it tells of itself once it is ready.

use std::path::PathBuf;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error::{ErrorKind, JobError};
use super::spec::Size;
use crate::bridge::Bridge;
use crate::bridge::python::PythonBridge;
use crate::bridge::python::load::Load;
use crate::bridge::python::parcel::Parcel;
use crate::bridge::python::predictor::{ModelSettings, Target};
use crate::bridge::remote::{Asking, Started};
use crate::secret::Secrets;

/// What a worker is told to load, so that it is what this process would load itself.
#[derive(Serialize, Deserialize)]
pub(super) struct Order {
    /// The predictor.
    pub(super) load: Load,
    /// What comes from the interpreter of this process, if one runs.
    pub(super) parcel: Option<Parcel>,
    /// Variables that are set before anything is loaded, in place of those that the worker has.
    pub(super) variables: Vec<(String, String)>,
    /// Texts that must not be shown.
    pub(super) secrets: Vec<String>,
    /// The Python packages whose versions are wanted.
    pub(super) packages: Vec<String>,
}

/// What a worker tells of its interpreter.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Facts {
    /// Its executable.
    pub(super) python: PathBuf,
    /// Its working directory.
    pub(super) directory: PathBuf,
    /// Its version, and those of the packages that it has, by name.
    pub(super) versions: Vec<(String, String)>,
    /// The resident memory that it takes with the predictor, in bytes.
    memory: u64,
}

impl Facts {
    /// Reads what a worker told.
    ///
    /// # Errors
    ///
    /// Fails if the worker takes more memory than `most` already, in bytes: it would be replaced after its first calls,
    /// and so would each that follows.
    pub(super) fn of(told: &[u8], most: Option<u64>) -> Result<Self, JobError> {
        let facts: Self = read(told).map_err(|error| JobError::new(ErrorKind::Internal, error))?;
        match most {
            Some(most) if facts.memory > most => {
                let text = format!(
                    "a worker takes {} MB once the predictor is loaded, more than `--worker-max-rss {}`\nhint: allow \
                     that much and what its calls need",
                    facts.memory / 1_000_000,
                    Size(most)
                );
                Err(JobError::new(ErrorKind::Usage, text))
            }
            _ => Ok(facts),
        }
    }
}

/// The value as bytes, which [`read`] takes.
pub(super) fn written(value: &impl Serialize) -> Vec<u8> {
    rmp_serde::to_vec_named(value).unwrap_or_default()
}

/// The value of bytes that the same program has written.
///
/// # Errors
///
/// Fails if they are none.
pub(super) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    rmp_serde::from_slice(bytes).map_err(|error| format!("failed to read a message: {error}"))
}

/// The texts that a worker process must not show: those that it was told, and the secrets in its environment.
///
/// # Errors
///
/// Fails if `order` is none.
pub(crate) fn secrets(order: &[u8]) -> Result<Secrets, String> {
    let Order { secrets, .. } = read(order)?;
    let mut secrets = Secrets::of(secrets);
    secrets.add_environment();
    Ok(secrets)
}

/// Loads what a worker was told to, as the process that gave the order would itself. `asking` is how it asks that
/// process. To be called within a Tokio runtime, on a thread that may block.
///
/// In a process of another program, such as an actor of Ray, signals stay as they are.
///
/// # Errors
///
/// Fails with the reason and the remedy.
pub(crate) fn load(order: &[u8], asking: Asking) -> Result<Started, String> {
    let Order { load, parcel, variables, secrets, packages } = read(order)?;
    let directory = std::env::current_dir().unwrap_or_default();
    let interpreter = load.found().map_err(|error| error.to_string())?;
    interpreter.replace_variables(variables).map_err(|error| error.to_string())?;
    let lent = load.set_variables(&interpreter).map_err(|error| error.to_string())?;
    // They are there to the end of the process.
    std::mem::forget(lent);
    if !interpreter.is_guest() {
        interpreter.die_of_signals();
    }
    let shown = asking.clone();
    interpreter.show_prints_by(Box::new(move |bytes| shown.print(bytes)));
    let mut secrets = Secrets::of(secrets);
    secrets.add_environment();
    // The bridge masks what is printed from its start on, and the object's modules are imported before.
    let _masking = interpreter.mask(&secrets);
    let object =
        parcel.map(|parcel| parcel.unpack(&secrets)).transpose().map_err(|error| error.to_string())?;
    let target = object.flatten().map_or_else(|| Target::Spec(load.predictor.clone()), Target::Object);
    let provider = Box::new(move || read::<ModelSettings>(&asking.model()?));
    let request = load.request(target, provider, None);
    let bridge = PythonBridge::start(load.event_loop, request, secrets).map_err(|error| error.to_string())?;
    if load.quiet {
        interpreter.hush();
    }
    let packages: Vec<_> = packages.iter().map(String::as_str).collect();
    let mut versions = vec![("python".to_owned(), interpreter.version.clone())];
    versions.extend(interpreter.package_versions(&packages));
    let memory = bridge.health().lanes.first().map_or(0, |lane| lane.memory);
    let facts = written(&Facts { python: interpreter.executable, directory, versions, memory });
    Ok(Started { bridge: Arc::new(bridge) as Arc<dyn Bridge>, facts })
}
