//! The predictor of a session, if it is a Python object.

use pyo3::prelude::*;
use tokio_asyncio_bridge::job::PredictorObject;

use crate::errors;

/// Takes the object with the context of the calling thread. To be called before anything moves to another thread.
pub(crate) fn given(predictor: Option<&Bound<'_, PyAny>>) -> PyResult<Option<PredictorObject>> {
    let Some(predictor) = predictor else { return Ok(None) };
    let object = PredictorObject::new(predictor);
    object.map(Some).map_err(|error| errors::of_interpreter(predictor.py(), &error))
}
