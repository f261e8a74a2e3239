//! A predictor that is a Python object, and what surrounds it in this process, packed for a process of its own.

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use serde::{Deserialize, Serialize};

use super::object::{Origin, PredictorObject};
use super::predictor::LoadError;
use super::prompt::hashed;
use super::{helpers, step};
use crate::secret::Secrets;

/// What another process needs to call what this one would.
#[derive(Clone, Serialize, Deserialize)]
pub struct Parcel {
    /// Where modules are looked for, which warnings are shown, and what `__main__` is; none for another machine.
    surroundings: Option<Vec<u8>>,
    /// The predictor if it is an object.
    object: Option<PackedObject>,
}

#[derive(Clone, Serialize, Deserialize)]
struct PackedObject {
    name: String,
    /// The object itself, and DSPy's settings.
    pickled: Vec<u8>,
    origin: Origin,
}

/// The command that runs a module with the interpreter that runs in this process, and with its options.
///
/// # Errors
///
/// Fails if the interpreter does not know its executable.
pub fn program(module: &str) -> Result<Vec<String>, LoadError> {
    let command =
        Python::attach(|py| helpers::module(py, "parcel")?.call_method1("program", (module,))?.extract());
    command.map_err(|error: PyErr| LoadError::of(&error, &Secrets::default()))
}

impl Parcel {
    /// Packs the predictor, if it is an object, and for a process on this machine (`is_near`) the surroundings that this
    /// process gives it. The interpreter must be running.
    ///
    /// # Errors
    ///
    /// Fails if the object cannot be pickled, with the reason and the remedy.
    pub fn pack(object: Option<&PredictorObject>, is_near: bool) -> Result<Self, LoadError> {
        let packed = Python::attach(|py| {
            let parcel = helpers::module(py, "parcel")?;
            let surroundings = || parcel.call_method0("surroundings")?.extract();
            let surroundings = is_near.then(surroundings).transpose()?;
            let pack = |object: &PredictorObject| {
                let arguments = (object.target(py), object.name(), is_near);
                let pack = || parcel.call_method1("pack", arguments);
                let (pickled, files, code) = step::within(&object.context(py)?, pack)??.extract()?;
                let origin = Origin { sources: hashed(files), code };
                Ok::<_, PyErr>(PackedObject { name: object.name().to_owned(), pickled, origin })
            };
            Ok(Self { surroundings, object: object.map(pack).transpose()? })
        });
        packed.map_err(|error: PyErr| LoadError::of(&error, &Secrets::default()))
    }

    /// Gives this process those surroundings, if there are any, and makes the object again, if there is one. `secrets` are
    /// masked in errors.
    ///
    /// # Errors
    ///
    /// Fails if the object cannot be made here, with the reason and the remedy.
    pub fn unpack(&self, secrets: &Secrets) -> Result<Option<PredictorObject>, LoadError> {
        let unpacked = Python::attach(|py| {
            let parcel = helpers::module(py, "parcel")?;
            if let Some(surroundings) = &self.surroundings {
                parcel.call_method1("surround", (PyBytes::new(py, surroundings),))?;
            }
            let Some(PackedObject { name, pickled, origin }) = &self.object else { return Ok(None) };
            let target = parcel.call_method1("unpack", (PyBytes::new(py, pickled), name))?;
            PredictorObject::sent(&target, name.clone(), origin.clone()).map(Some)
        });
        unpacked.map_err(|error: PyErr| LoadError::of(&error, secrets))
    }
}
