//! The class `Given`: a predictor that is a Python object.

use pyo3::prelude::*;
use tokio_asyncio_bridge::job::PredictorObject;

use crate::errors;

/// An object that answers rows. Its calls see the context variables of the code that makes this, as they are then.
#[pyclass(frozen, module = "tokio_asyncio_bridge._native")]
pub(crate) struct Given(PredictorObject);

#[pymethods]
impl Given {
    #[new]
    fn new(predictor: &Bound<'_, PyAny>) -> PyResult<Self> {
        let object = PredictorObject::new(predictor);
        object.map(Self).map_err(|error| errors::of_interpreter(predictor.py(), &error))
    }
}

/// What a job takes.
pub(crate) fn object(given: Option<PyRef<'_, Given>>) -> Option<PredictorObject> {
    given.map(|given| given.0.clone())
}
