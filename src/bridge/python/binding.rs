//! How rows in memory become arguments of one predictor.

use std::sync::OnceLock;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

use super::crossing::Sender;
use super::keywords::Passed;
use crate::bridge::Description;

/// How a row gives the arguments.
#[derive(Debug)]
pub(super) enum Form {
    /// It is a dictionary.
    Dict,
    /// It is another kind of mapping, of which this is a copy.
    Copied(Py<PyDict>),
    /// It is the one argument.
    Value,
}

/// How rows become arguments of one predictor.
#[derive(Debug)]
pub(super) struct Binding {
    parameters: Vec<Taker>,
    /// Whether all other keys are passed too.
    takes_all: bool,
    /// Which of `row_id` and `attempt` the predictor names.
    row_id: Option<Py<PyString>>,
    attempt: Option<Py<PyString>>,
    /// The parameter that takes a row which is no mapping.
    only: Option<usize>,
    /// Makes values of the arguments.
    pub(super) sender: Sender,
    /// The names of the first call, and which of the parameters they are. Rows have the same keys as a rule.
    first: OnceLock<(u64, Py<PyTuple>)>,
}

#[derive(Debug)]
struct Taker {
    name: Py<PyString>,
    key: Py<PyString>,
    required: bool,
}

impl Binding {
    /// What the predictor takes. `map` has pairs of a parameter and the key that gives it, where they differ; `offered`
    /// are those of `row_id` and `attempt` that the predictor names.
    pub(super) fn new(
        py: Python<'_>,
        map: &[(String, String)],
        description: &Description,
        offered: &[String],
    ) -> PyResult<Self> {
        let key = |name: &str| {
            let mapped = map.iter().find(|(parameter, _)| parameter == name);
            PyString::intern(py, mapped.map_or(name, |(_, key)| key)).unbind()
        };
        let bound = |name: &str, required| Taker {
            name: PyString::intern(py, name).unbind(),
            key: key(name),
            required,
        };
        let mut parameters: Vec<_> = description
            .parameters
            .iter()
            .map(|parameter| bound(&parameter.name, parameter.required))
            .collect();
        let required: Vec<_> = (0..parameters.len()).filter(|at| parameters[*at].required).collect();
        let only = match (&required[..], parameters.len()) {
            ([only], _) => Some(*only),
            ([], 1) => Some(0),
            _ => None,
        };
        let is_named = |name: &str| description.parameters.iter().any(|parameter| parameter.name == name);
        let extra = map.iter().filter(|(name, _)| description.takes_all && !is_named(name));
        parameters.extend(extra.map(|(name, _)| bound(name, false)));
        let offers = |name: &str| {
            offered.iter().any(|offered| offered == name).then(|| PyString::intern(py, name).unbind())
        };
        Ok(Self {
            parameters,
            takes_all: description.takes_all,
            row_id: offers("row_id"),
            attempt: offers("attempt"),
            only,
            sender: Sender::new(py)?,
            first: OnceLock::new(),
        })
    }

    /// How a row gives the arguments, or why it cannot.
    pub(super) fn see(&self, row: &Bound<'_, PyAny>) -> Result<Form, String> {
        if let Ok(dict) = row.cast::<PyDict>() {
            return self.check(dict).map(|()| Form::Dict);
        }
        let py = row.py();
        if row.hasattr(pyo3::intern!(py, "keys")).unwrap_or(false) {
            let copied =
                py.get_type::<PyDict>().call1((row,)).and_then(|dict| Ok(dict.cast_into::<PyDict>()?));
            let copied = copied.map_err(|error| format!("the row cannot be read: {error}"))?;
            self.check(&copied)?;
            return Ok(Form::Copied(copied.unbind()));
        }
        if self.only.is_some() {
            return Ok(Form::Value);
        }
        let class = row.get_type().name().map_or_else(|_| "?".to_owned(), |name| name.to_string());
        Err(format!(
            "the row is no mapping but a value of type {class}, and the predictor has not one parameter that could take it"
        ))
    }

    fn check(&self, row: &Bound<'_, PyDict>) -> Result<(), String> {
        let py = row.py();
        let lacks = |bound: &&Taker| bound.required && !row.contains(bound.key.bind(py)).unwrap_or(false);
        let Some(missing) = self.parameters.iter().find(lacks) else { return Ok(()) };
        let keys = row.keys().iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
        let has = if keys.is_empty() { "is empty".to_owned() } else { format!("has {keys}") };
        let (name, key) = (missing.name.bind(py), missing.key.bind(py));
        Err(format!("the row lacks the key `{key}` for the parameter `{name}`; it {has}"))
    }

    /// The arguments that a row gives in this form, as what they are.
    pub(super) fn passed<'py>(
        &self,
        row: Bound<'py, PyAny>,
        form: &Form,
        id: u64,
        attempt: u32,
    ) -> PyResult<Passed<'py>> {
        match form {
            Form::Dict => self.by_name(row.cast()?, id, attempt),
            Form::Copied(dict) => self.by_name(dict.bind(row.py()), id, attempt),
            Form::Value => self.alone(row, id, attempt),
        }
    }

    /// The arguments that a mapping gives by their names.
    fn by_name<'py>(&self, row: &Bound<'py, PyDict>, id: u64, attempt: u32) -> PyResult<Passed<'py>> {
        let py = row.py();
        let mut values = Vec::with_capacity(self.parameters.len() + 2);
        let mut present = 0_u64;
        for (at, bound) in self.parameters.iter().enumerate() {
            if let Some(value) = row.get_item(bound.key.bind(py))? {
                values.push(value);
                present |= 1_u64.checked_shl(at as u32).unwrap_or_default();
            }
        }
        let is_plain = !self.takes_all && self.parameters.len() < 64;
        if let Some((_, names)) = self.first.get().filter(|(mask, _)| is_plain && *mask == present) {
            self.offer(py, &mut values, id, attempt)?;
            return Ok(Passed { names: names.bind(py).clone(), values });
        }
        let given = self.parameters.iter().filter(|bound| row.contains(bound.key.bind(py)).unwrap_or(false));
        let mut names: Vec<_> = given.map(|bound| bound.name.bind(py).clone()).collect();
        if self.takes_all {
            for (key, value) in row {
                let Ok(key) = key.cast_into::<PyString>() else { continue };
                let is_taken = |bound: &Taker| {
                    [&bound.key, &bound.name]
                        .iter()
                        .any(|name| key.as_any().eq(name.bind(py)).unwrap_or(false))
                };
                if !self.parameters.iter().any(is_taken) && !self.offers(&key) {
                    names.push(key);
                    values.push(value);
                }
            }
        }
        self.offer(py, &mut values, id, attempt)?;
        names.extend([&self.row_id, &self.attempt].into_iter().flatten().map(|name| name.bind(py).clone()));
        let names = PyTuple::new(py, names)?;
        if is_plain {
            let _ = self.first.set((present, names.clone().unbind()));
        }
        Ok(Passed { names, values })
    }

    /// The arguments of a row that is itself the one argument.
    fn alone<'py>(&self, row: Bound<'py, PyAny>, id: u64, attempt: u32) -> PyResult<Passed<'py>> {
        let py = row.py();
        let only = self.only.and_then(|only| self.parameters.get(only));
        let only = only.ok_or_else(|| PyRuntimeError::new_err("no parameter takes the row"))?;
        let mut values = vec![row];
        self.offer(py, &mut values, id, attempt)?;
        let offered = [&self.row_id, &self.attempt].into_iter().flatten();
        let names = [&only.name].into_iter().chain(offered).map(|name| name.bind(py));
        Ok(Passed { names: PyTuple::new(py, names.collect::<Vec<_>>())?, values })
    }

    /// Adds what a call knows and the row does not.
    fn offer<'py>(
        &self,
        py: Python<'py>,
        values: &mut Vec<Bound<'py, PyAny>>,
        id: u64,
        attempt: u32,
    ) -> PyResult<()> {
        if self.row_id.is_some() {
            values.push(id.into_pyobject(py)?.into_any());
        }
        if self.attempt.is_some() {
            values.push(attempt.into_pyobject(py)?.into_any());
        }
        Ok(())
    }

    fn offers(&self, key: &Bound<'_, PyString>) -> bool {
        let py = key.py();
        let mut offered = [&self.row_id, &self.attempt].into_iter().flatten();
        offered.any(|name| key.as_any().eq(name.bind(py)).unwrap_or(false))
    }
}
