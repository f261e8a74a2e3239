//! The keyword arguments of a call, as Python values. Not how the call is made.

use std::sync::{Arc, OnceLock};

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

use crate::row::{Arguments, Value};

/// Makes the keyword arguments of one predictor's calls.
#[derive(Debug)]
pub(in crate::bridge) struct Keywords {
    json_loads: Py<PyAny>,
    /// What a call knows that the row does not, as far as the predictor names it.
    row_id: bool,
    attempt: bool,
    /// The first call's names; rows have the same ones as a rule, and then their tuple is made once.
    first: OnceLock<Names>,
}

#[derive(Debug)]
struct Names {
    of: Vec<Arc<str>>,
    tuple: Py<PyTuple>,
}

/// Names and as many values.
pub(in crate::bridge) struct Passed<'py> {
    pub(super) names: Bound<'py, PyTuple>,
    pub(super) values: Vec<Bound<'py, PyAny>>,
}

impl<'py> Passed<'py> {
    /// As what `**` takes.
    pub(in crate::bridge) fn dict(&self) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(self.names.py());
        self.names.iter().zip(&self.values).try_for_each(|(name, value)| dict.set_item(name, value))?;
        Ok(dict)
    }
}

impl Keywords {
    /// `offered`: which of `row_id` and `attempt` the predictor names.
    pub(super) fn new(py: Python<'_>, offered: &[String]) -> PyResult<Self> {
        let offers = |name| offered.iter().any(|offered| offered == name);
        Ok(Self {
            json_loads: py.import("json")?.getattr("loads")?.unbind(),
            row_id: offers("row_id"),
            attempt: offers("attempt"),
            first: OnceLock::new(),
        })
    }

    /// Those of one call.
    pub(in crate::bridge) fn of<'py>(
        &self,
        py: Python<'py>,
        arguments: &Arguments,
        row: u64,
        attempt: u32,
    ) -> PyResult<Passed<'py>> {
        let mut values = Vec::with_capacity(arguments.len() + 2);
        for (_, value) in arguments {
            values.push(match value {
                Value::Text(text) => PyString::new(py, text).into_any(),
                Value::Json(raw) => self.json_loads.bind(py).call1((raw.get(),))?,
            });
        }
        if self.row_id {
            values.push(row.into_pyobject(py)?.into_any());
        }
        if self.attempt {
            values.push(attempt.into_pyobject(py)?.into_any());
        }
        Ok(Passed { names: self.names(py, arguments)?, values })
    }

    fn names<'py>(&self, py: Python<'py>, arguments: &Arguments) -> PyResult<Bound<'py, PyTuple>> {
        let names = || arguments.iter().map(|(name, _)| name);
        if let Some(first) = self.first.get()
            && names().eq(&first.of)
        {
            return Ok(first.tuple.bind(py).clone());
        }
        let offered = [(self.row_id, "row_id"), (self.attempt, "attempt")];
        let offered = offered.iter().filter(|(offered, _)| *offered).map(|(_, name)| *name);
        let all = names().map(AsRef::as_ref).chain(offered).map(|name| PyString::intern(py, name));
        let tuple = PyTuple::new(py, all.collect::<Vec<_>>())?;
        let _ = self.first.set(Names { of: names().cloned().collect(), tuple: tuple.clone().unbind() });
        Ok(tuple)
    }
}
