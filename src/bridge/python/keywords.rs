//! Makes the keyword arguments of a call as Python values.

use std::sync::{Arc, OnceLock};

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

use super::types::{Maker, ParameterTypes};
use crate::row::{Arguments, Value};

/// Makes the keyword arguments of one predictor's calls.
#[derive(Debug)]
pub(in crate::bridge) struct Keywords {
    json_loads: Py<PyAny>,
    types: Arc<ParameterTypes>,
    /// Whether the predictor takes what a call knows and the row does not.
    row_id: bool,
    attempt: bool,
    /// The names of the first call. Rows have the same ones as a rule, so that their tuple is made once.
    first: OnceLock<Arc<Names>>,
}

#[derive(Debug)]
struct Names {
    of: Vec<Arc<str>>,
    tuple: Py<PyTuple>,
    /// Makes the values of those that have a type, in the order of the names. Empty if none has a type.
    makers: Vec<Option<Maker>>,
}

/// Names and as many values.
pub(in crate::bridge) struct Passed<'py> {
    pub(super) names: Bound<'py, PyTuple>,
    pub(super) values: Vec<Bound<'py, PyAny>>,
}

impl<'py> Passed<'py> {
    /// As a dictionary.
    pub(in crate::bridge) fn dict(&self) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(self.names.py());
        self.names.iter().zip(&self.values).try_for_each(|(name, value)| dict.set_item(name, value))?;
        Ok(dict)
    }
}

impl Keywords {
    /// `offered`: which of `row_id` and `attempt` the predictor names.
    pub(super) fn new(py: Python<'_>, offered: &[String], types: Arc<ParameterTypes>) -> PyResult<Self> {
        let offers = |name| offered.iter().any(|offered| offered == name);
        Ok(Self {
            json_loads: py.import("json")?.getattr("loads")?.unbind(),
            types,
            row_id: offers("row_id"),
            attempt: offers("attempt"),
            first: OnceLock::new(),
        })
    }

    /// The arguments of one call.
    pub(in crate::bridge) fn of<'py>(
        &self,
        py: Python<'py>,
        arguments: &Arguments,
        row: u64,
        attempt: u32,
    ) -> PyResult<Passed<'py>> {
        let known = self.first.get().filter(|first| arguments.iter().map(|(name, _)| name).eq(&first.of));
        let names = match known {
            Some(known) => Arc::clone(known),
            None => self.names(py, arguments)?,
        };
        let mut values = Vec::with_capacity(arguments.len() + 2);
        let mut makers = names.makers.iter();
        for (_, value) in arguments {
            values.push(match (makers.next(), value) {
                (Some(Some(maker)), value) => maker.make(py, value)?,
                (_, Value::Text(text)) => PyString::new(py, text).into_any(),
                (_, Value::Json(raw)) => self.json_loads.bind(py).call1((raw.get(),))?,
            });
        }
        if self.row_id {
            values.push(row.into_pyobject(py)?.into_any());
        }
        if self.attempt {
            values.push(attempt.into_pyobject(py)?.into_any());
        }
        Ok(Passed { names: names.tuple.bind(py).clone(), values })
    }

    fn names(&self, py: Python<'_>, arguments: &Arguments) -> PyResult<Arc<Names>> {
        let offered = [(self.row_id, "row_id"), (self.attempt, "attempt")];
        let offered = offered.iter().filter(|(offered, _)| *offered).map(|(_, name)| *name);
        let names = arguments.iter().map(|(name, _)| &**name);
        let all = names.clone().chain(offered).map(|name| PyString::intern(py, name));
        let tuple = PyTuple::new(py, all.collect::<Vec<_>>())?.unbind();
        let typed = names.filter(|_| !self.types.is_empty());
        let makers = typed.map(|name| self.types.maker(py, name)).collect::<PyResult<_>>()?;
        let of = arguments.iter().map(|(name, _)| Arc::clone(name)).collect();
        let names = Arc::new(Names { of, tuple, makers });
        let _ = self.first.set(Arc::clone(&names));
        Ok(names)
    }
}
