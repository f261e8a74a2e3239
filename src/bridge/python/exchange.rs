//! Rows and answers of a job in memory. They stay Python objects: calls get the values of the very rows that were
//! handed in, and whoever takes an outcome gets the very object that the predictor returned.
//!
//! The run knows a row by its id alone. Everything here happens with the interpreter's lock held, so the table's own
//! lock is always free; no Python code runs under it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple};

use super::keywords::Passed;
use super::queue::lock;
use crate::bridge::Description;
use crate::error::CallError;
use crate::input::Feed;
use crate::row::{Arguments, Value};

/// The parameter that `--column` sets the key of.
const QUESTION: &str = "question";

/// Holds the rows and the answers of one job.
#[derive(Debug)]
pub struct Exchange {
    /// Pairs of parameter and key, where they differ.
    map: Vec<(String, String)>,
    /// Whether rows and answers are given to the run as text too, to estimate their tokens.
    weighs: bool,
    binding: OnceLock<Binding>,
    table: Mutex<Table>,
    no_text: Arc<Arguments>,
}

#[derive(Debug, Default)]
struct Table {
    /// The id of the first of `rows`.
    first: u64,
    /// Those that were taken leave a gap until all before them were taken, too.
    rows: VecDeque<Option<Held>>,
}

#[derive(Debug)]
struct Held {
    given: Py<PyAny>,
    form: Form,
    /// The attempt that the result is of.
    attempt: u32,
    /// What the predictor returned, or the exception that it raised.
    result: Option<Result<Py<PyAny>, Py<PyAny>>>,
}

/// How a row gives the arguments.
#[derive(Debug)]
enum Form {
    /// It is a dictionary.
    Dict,
    /// It is another kind of mapping, of which this is a copy.
    Copied(Py<PyDict>),
    /// It is the one argument.
    Value,
}

/// A row that was taken out.
#[derive(Debug)]
pub struct Taken {
    /// The row as it was handed in.
    pub row: Py<PyAny>,
    /// What the given attempt returned, or the exception that it raised.
    pub result: Option<Result<Py<PyAny>, Py<PyAny>>>,
}

/// How rows become arguments of one predictor.
#[derive(Debug)]
struct Binding {
    parameters: Vec<Taker>,
    /// Whether all other keys are passed too.
    takes_all: bool,
    /// Which of `row_id` and `attempt` the predictor names.
    row_id: Option<Py<PyString>>,
    attempt: Option<Py<PyString>>,
    /// The parameter that takes a row which is no mapping.
    only: Option<usize>,
    /// The names of the first call, and which of the parameters they are. Rows have the same keys as a rule.
    first: OnceLock<(u64, Py<PyTuple>)>,
}

#[derive(Debug)]
struct Taker {
    name: Py<PyString>,
    key: Py<PyString>,
    required: bool,
}

impl Exchange {
    /// An exchange without rows. `map` has pairs of a parameter and the key that gives it; `column` is the key of the
    /// parameter `question`. Rows that `weighs` are given to the run as text, too.
    pub fn new(mut map: Vec<(String, String)>, column: Option<String>, weighs: bool) -> Self {
        map.extend(column.map(|column| (QUESTION.to_owned(), column)));
        Self { map, weighs, binding: OnceLock::new(), table: Mutex::default(), no_text: Arc::default() }
    }

    /// Learns what the predictor takes. `offered` are those of `row_id` and `attempt` that it names.
    pub(super) fn bind(&self, py: Python<'_>, description: &Description, offered: &[String]) {
        let key = |name: &str| {
            let mapped = self.map.iter().find(|(parameter, _)| parameter == name);
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
        let extra = self.map.iter().filter(|(name, _)| description.takes_all && !is_named(name));
        parameters.extend(extra.map(|(name, _)| bound(name, false)));
        let offers = |name: &str| {
            offered.iter().any(|offered| offered == name).then(|| PyString::intern(py, name).unbind())
        };
        let binding = Binding {
            parameters,
            takes_all: description.takes_all,
            row_id: offers("row_id"),
            attempt: offers("attempt"),
            only,
            first: OnceLock::new(),
        };
        let _ = self.binding.set(binding);
    }

    /// Hands rows to the run. A row that the predictor cannot be called with gets an error as its outcome.
    ///
    /// # Errors
    ///
    /// Fails if no predictor has been loaded yet.
    pub fn put(&self, rows: &Bound<'_, PyList>, feed: &Feed) -> PyResult<()> {
        let binding = self.binding()?;
        let mut held = Vec::with_capacity(rows.len());
        let mut given = Vec::with_capacity(rows.len());
        for row in rows {
            let seen = binding.see(&row);
            let (form, result) = match seen {
                Ok(form) => (form, Ok(())),
                Err(error) => (Form::Value, Err(CallError::Input(error))),
            };
            given.push(result.map(|()| if self.weighs { text_of(&row) } else { Arc::clone(&self.no_text) }));
            held.push(Some(Held { given: row.unbind(), form, attempt: 0, result: None }));
        }
        let mut table = lock(&self.table);
        table.rows.extend(held);
        // Under the lock, so that the order here is that of the run.
        feed.push(given);
        Ok(())
    }

    /// Takes rows out that have their outcome: pairs of a row and the number of its last attempt.
    pub fn take(&self, rows: impl Iterator<Item = (u64, u32)>) -> Vec<Option<Taken>> {
        let mut table = lock(&self.table);
        let taken = rows.map(|(row, attempt)| {
            let Held { given, attempt: kept, result, .. } = table.slot(row)?.take()?;
            Some(Taken { row: given, result: result.filter(|_| kept == attempt) })
        });
        let taken = taken.collect();
        while let Some(None) = table.rows.front() {
            table.rows.pop_front();
            table.first += 1;
        }
        taken
    }

    /// Takes all rows that are left, each with its id.
    pub fn rest(&self) -> Vec<(u64, Py<PyAny>)> {
        let Table { first, rows } = std::mem::take(&mut *lock(&self.table));
        let rest = (first..).zip(rows).filter_map(|(id, held)| Some((id, held?.given)));
        rest.collect()
    }

    /// Drops all rows. For the end of the job: it needs the interpreter's lock, and is best done while that is held.
    pub fn clear(&self, _: Python<'_>) {
        let rows = std::mem::take(&mut lock(&self.table).rows);
        drop(rows);
    }

    /// The arguments of a call.
    pub(super) fn passed<'py>(&self, py: Python<'py>, row: u64, attempt: u32) -> PyResult<Passed<'py>> {
        let held = lock(&self.table).slot(row).and_then(|slot| slot.as_ref()).map(|held| {
            let dict = match &held.form {
                Form::Dict => None,
                Form::Copied(dict) => Some(dict.clone_ref(py).into_bound(py).into_any()),
                Form::Value => return (held.given.clone_ref(py).into_bound(py), false),
            };
            (dict.unwrap_or_else(|| held.given.clone_ref(py).into_bound(py)), true)
        });
        let (given, is_mapping) = held.ok_or_else(|| PyRuntimeError::new_err("the row is gone"))?;
        let binding = self.binding()?;
        if is_mapping {
            binding.by_name(given.cast()?, row, attempt)
        } else {
            binding.alone(given, row, attempt)
        }
    }

    /// Keeps what an attempt returned, or the exception that it raised, until the row is taken.
    pub(super) fn settle(&self, row: u64, attempt: u32, result: Result<Py<PyAny>, Py<PyAny>>) {
        let mut table = lock(&self.table);
        let unwanted = match table.slot(row).and_then(Option::as_mut) {
            // An earlier attempt that ignored its cancellation may end late.
            Some(held) if held.attempt <= attempt => {
                held.attempt = attempt;
                held.result.replace(result)
            }
            _ => Some(result),
        };
        drop(table);
        drop(unwanted);
    }

    /// Whether answers are given to the run as text, too.
    pub(super) fn weighs(&self) -> bool {
        self.weighs
    }

    fn binding(&self) -> PyResult<&Binding> {
        self.binding.get().ok_or_else(|| PyRuntimeError::new_err("no predictor has been loaded yet"))
    }
}

impl Table {
    fn slot(&mut self, row: u64) -> Option<&mut Option<Held>> {
        self.rows.get_mut(usize::try_from(row.checked_sub(self.first)?).ok()?)
    }
}

impl Binding {
    /// How a row gives the arguments, or why it cannot.
    fn see(&self, row: &Bound<'_, PyAny>) -> Result<Form, String> {
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

/// A row as text, by which its tokens are estimated.
fn text_of(row: &Bound<'_, PyAny>) -> Arc<Arguments> {
    let text = match row.cast::<PyDict>() {
        Ok(dict) => dict.values().iter().map(|value| value.to_string()).collect(),
        Err(_) => row.to_string(),
    };
    Arc::new(vec![("".into(), Value::Text(text))])
}
