//! Python values on their way to and from calls in other processes, as JSON holds them.

use std::sync::{Arc, OnceLock};

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple};
use serde_json::value::RawValue;

use super::keywords::Passed;
use crate::outcome::Answer;
use crate::row::{Arguments, Value};

/// Makes values of the arguments of rows.
#[derive(Debug)]
pub(super) struct Sender {
    dumps: Py<PyAny>,
    /// The names of the first row's arguments. Rows have the same ones as a rule.
    first: OnceLock<(Py<PyTuple>, Vec<Arc<str>>)>,
}

impl Sender {
    pub(super) fn new(py: Python<'_>) -> PyResult<Self> {
        Ok(Self { dumps: py.import("json")?.getattr("dumps")?.unbind(), first: OnceLock::new() })
    }

    /// The arguments as values.
    ///
    /// # Errors
    ///
    /// Fails with the reason if JSON cannot hold one of them: it would not come back as the same value.
    pub(super) fn arguments(&self, passed: Passed<'_>) -> Result<Arc<Arguments>, String> {
        let Passed { names, values } = passed;
        let known = self.first.get().filter(|(tuple, _)| tuple.is(&names));
        let named = if let Some((_, named)) = known {
            named.clone()
        } else {
            let named: PyResult<Vec<_>> =
                names.iter().map(|name| Ok(Arc::from(name.cast::<PyString>()?.to_str()?))).collect();
            let named = named.map_err(|error| format!("the row cannot be read: {error}"))?;
            let _ = self.first.set((names.clone().unbind(), named.clone()));
            named
        };
        let argument = |(name, value): (Arc<str>, &Bound<'_, PyAny>)| {
            let value = self.value(value).map_err(|error| {
                let class = value.get_type().name().map_or_else(|_| "?".to_owned(), |name| name.to_string());
                let reason = error.value(value.py());
                format!("the value of `{name}`, of type {class}, cannot be sent to another process: {reason}")
            })?;
            Ok((name, value))
        };
        Ok(Arc::new(named.into_iter().zip(&values).map(argument).collect::<Result<_, String>>()?))
    }

    fn value(&self, value: &Bound<'_, PyAny>) -> PyResult<Value> {
        if let Ok(text) = value.cast_exact::<PyString>()
            && let Ok(text) = text.to_str()
        {
            return Ok(Value::Text(text.to_owned()));
        }
        let py = value.py();
        let options = PyDict::new(py);
        options.set_item("allow_nan", false)?;
        // It refuses circles, so the keys can be looked at.
        let text = self.dumps.bind(py).call((value,), Some(&options))?;
        check_keys(value)?;
        let json = RawValue::from_string(text.extract()?);
        json.map(Value::Json).map_err(|error| PyTypeError::new_err(error.to_string()))
    }
}

/// Refuses keys that are no texts: they would come back as texts.
fn check_keys(value: &Bound<'_, PyAny>) -> PyResult<()> {
    if let Ok(dict) = value.cast::<PyDict>() {
        for (key, item) in dict {
            if !key.is_instance_of::<PyString>() {
                return Err(PyTypeError::new_err(format!("the key {} is no text", key.repr()?)));
            }
            check_keys(&item)?;
        }
    } else if value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>() {
        for item in value.try_iter()? {
            check_keys(&item?)?;
        }
    }
    Ok(())
}

/// The value that an answer is: the text or JSON value that was returned, or a dictionary of the fields. The value of a
/// field `answer` that is the only one stands for the dictionary.
///
/// # Errors
///
/// Fails if Python is out of memory.
pub fn received(py: Python<'_>, answer: &Answer) -> PyResult<Py<PyAny>> {
    let loads = py.import("json")?.getattr("loads")?;
    let value = |value: &Value| match value {
        Value::Text(text) => Ok(PyString::new(py, text).into_any()),
        Value::Json(json) => loads.call1((json.get(),)),
    };
    if let [(name, lone)] = &answer.fields[..]
        && **name == *"answer"
    {
        return value(lone).map(Bound::unbind);
    }
    let fields = PyDict::new(py);
    for (name, given) in &answer.fields {
        fields.set_item(&**name, value(given)?)?;
    }
    Ok(fields.into_any().unbind())
}
