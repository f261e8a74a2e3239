//! Rows and answers of a job in memory. They stay Python objects: calls get the values of the very rows that were
//! handed in, and whoever takes an outcome gets the very object that the predictor returned. Only where the calls are
//! made in other processes do values cross in their place ([`Carried`]).
//!
//! The run knows a row by its id alone. Everything here happens with the interpreter's lock held, so the table's own
//! lock is always free; no Python code runs under it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use super::binding::{Binding, Form};
use super::keywords::Passed;
use super::queue::lock;
use crate::bridge::Description;
use crate::error::CallError;
use crate::input::Feed;
use crate::row::{Arguments, Value};

/// The parameter that `--column` sets the key of.
const QUESTION: &str = "question";

/// As what rows reach the predictor, and answers come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carried {
    /// As the objects that they are.
    Objects {
        /// Whether they are given to the run as text too, to estimate their tokens.
        weighed: bool,
    },
    /// As values that JSON holds, through the run: the calls are made in other processes.
    Values,
}

/// Holds the rows and the answers of one job.
#[derive(Debug)]
pub struct Exchange {
    /// Pairs of parameter and key, where they differ.
    map: Vec<(String, String)>,
    carried: Carried,
    binding: OnceLock<Binding>,
    table: Mutex<Table>,
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

/// A row that was taken out.
#[derive(Debug)]
pub struct Taken {
    /// The row as it was handed in.
    pub row: Py<PyAny>,
    /// What the given attempt returned, or the exception that it raised.
    pub result: Option<Result<Py<PyAny>, Py<PyAny>>>,
}

impl Exchange {
    /// An exchange without rows. `map` has pairs of a parameter and the key that gives it; `column` is the key of the
    /// parameter `question`.
    pub fn new(mut map: Vec<(String, String)>, column: Option<String>, carried: Carried) -> Self {
        map.extend(column.map(|column| (QUESTION.to_owned(), column)));
        Self { map, carried, binding: OnceLock::new(), table: Mutex::default() }
    }

    /// Whether an answer comes back as values, in its outcome.
    pub fn gives_values(&self) -> bool {
        self.carried == Carried::Values
    }

    /// Learns what a predictor takes that was loaded in other processes. Those know `row_id` and `attempt` themselves.
    ///
    /// # Errors
    ///
    /// Fails if Python's `json` cannot be imported.
    pub fn bind_elsewhere(&self, description: &Description) -> PyResult<()> {
        Python::attach(|py| self.bind(py, description, &[]))
    }

    /// Learns what the predictor takes. `offered` are those of `row_id` and `attempt` that it names.
    pub(super) fn bind(&self, py: Python<'_>, description: &Description, offered: &[String]) -> PyResult<()> {
        let binding = Binding::new(py, &self.map, description, offered)?;
        let _ = self.binding.set(binding);
        Ok(())
    }

    /// Hands rows to the run. A row that the predictor cannot be called with gets an error as its outcome.
    ///
    /// # Errors
    ///
    /// Fails if no predictor has been loaded yet.
    pub fn put(&self, rows: &Bound<'_, PyList>, feed: &Feed) -> PyResult<()> {
        let binding = self.binding()?;
        // One for these rows alone. Tokio's thread still counts references to that of the rows before, and a counter
        // that two threads share is slow.
        let no_text = Arc::default();
        let mut held = Vec::with_capacity(rows.len());
        let mut given = Vec::with_capacity(rows.len());
        for row in rows {
            let (form, arguments) = match binding.see(&row) {
                Ok(form) => {
                    let arguments = self.arguments(binding, &row, &form, &no_text);
                    (form, arguments.map_err(CallError::Input))
                }
                Err(error) => (Form::Value, Err(CallError::Input(error))),
            };
            given.push(arguments);
            held.push(Some(Held { given: row.unbind(), form, attempt: 0, result: None }));
        }
        let mut table = lock(&self.table);
        table.rows.extend(held);
        // Under the lock, so that the order here is that of the run.
        feed.push(given);
        Ok(())
    }

    /// What the run is given of a row, or why the row cannot be called.
    fn arguments(
        &self,
        binding: &Binding,
        row: &Bound<'_, PyAny>,
        form: &Form,
        no_text: &Arc<Arguments>,
    ) -> Result<Arc<Arguments>, String> {
        match self.carried {
            Carried::Objects { weighed: false } => Ok(Arc::clone(no_text)),
            Carried::Objects { weighed: true } => Ok(text_of(row)),
            Carried::Values => {
                let passed = binding.passed(row.clone(), form, 0, 0);
                binding.sender.arguments(passed.map_err(|error| format!("the row cannot be read: {error}"))?)
            }
        }
    }

    /// Takes rows out that have their outcome: pairs of a row and the number of its last attempt.
    pub fn take(&self, rows: impl Iterator<Item = (u64, u32)>) -> Vec<Option<Taken>> {
        let mut table = lock(&self.table);
        let held = rows.map(|(row, attempt)| Some((table.slot(row)?.take()?, attempt)));
        let held: Vec<_> = held.collect();
        while let Some(None) = table.rows.front() {
            table.rows.pop_front();
            table.first += 1;
        }
        // What is dropped below may run Python code.
        drop(table);
        let taken = held.into_iter().map(|held| {
            let (Held { given, attempt: kept, result, .. }, attempt) = held?;
            Some(Taken { row: given, result: result.filter(|_| kept == attempt) })
        });
        taken.collect()
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
            let form = match &held.form {
                Form::Dict => Form::Dict,
                Form::Copied(dict) => Form::Copied(dict.clone_ref(py)),
                Form::Value => Form::Value,
            };
            (held.given.clone_ref(py).into_bound(py), form)
        });
        let (given, form) = held.ok_or_else(|| PyRuntimeError::new_err("the row is gone"))?;
        self.binding()?.passed(given, &form, row, attempt)
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
        self.carried == Carried::Objects { weighed: true }
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

/// A row as text, by which its tokens are estimated.
fn text_of(row: &Bound<'_, PyAny>) -> Arc<Arguments> {
    let text = match row.cast::<PyDict>() {
        Ok(dict) => dict.values().iter().map(|value| value.to_string()).collect(),
        Err(_) => row.to_string(),
    };
    Arc::new(vec![("".into(), Value::Text(text))])
}
