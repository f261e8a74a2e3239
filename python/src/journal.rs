//! Rows from memory that are answered with a journal, and the outcomes that a journal holds.

use std::path::PathBuf;

use pyo3::prelude::*;
use tokio_asyncio_bridge::bridge::python::crossing::received;
use tokio_asyncio_bridge::bridge::python::interruptible::interruptible;
use tokio_asyncio_bridge::job::spec::keywords;
use tokio_asyncio_bridge::job::{Job, SessionOptions, outcomes};
use tokio_asyncio_bridge::outcome;

use crate::errors;
use crate::jobs::{self, Choices, Words};
use crate::outcome::{Fault, Outcome, used};
use crate::predictor::{Given, object};
use crate::run::{self, Run};

/// Starts the job of rows that come from memory, or continues it. `rows` is a file of them in JSON Lines, which the job
/// takes over. The rest is as `process` takes it.
#[pyfunction]
pub(crate) fn process_rows(
    py: Python<'_>,
    rows: PathBuf,
    answers: PathBuf,
    options: Words,
    predictor: Option<PyRef<'_, Given>>,
    choices: Choices,
) -> PyResult<Run> {
    let patch = keywords(&options).map_err(|error| errors::of_keyword(py, &error))?;
    let predictor = object(predictor);
    let argv = jobs::argv("map", &answers, &options, predictor.as_ref());
    run::start(move |runtime, watch, control| {
        let take_up = choices.take_up();
        let session = SessionOptions { predictor, take_up, argv, ..SessionOptions::default() };
        let job = Job::of_rows(&rows, &answers, patch, session)?;
        runtime.block_on(jobs::run(job, watch, control))
    })
}

/// The outcomes that a journal holds.
#[pyclass(module = "tokio_asyncio_bridge._native")]
pub(crate) struct Outcomes(outcomes::Outcomes);

#[pymethods]
impl Outcomes {
    /// Reads the journal.
    #[new]
    fn new(py: Python<'_>, journal: PathBuf) -> PyResult<Self> {
        let read = interruptible(py, |stopped| outcomes::Outcomes::read(&journal, stopped))?;
        read.map(Self).map_err(|error| errors::of_job(py, &error))
    }

    /// The outcomes of these rows, of which the first has the index `start`. The answer of a row is the text or JSON
    /// value that was returned, or a dictionary of the fields.
    fn of(&mut self, py: Python<'_>, start: u64, rows: Vec<Py<PyAny>>) -> PyResult<Vec<Outcome>> {
        let end = start + rows.len() as u64;
        let read: Result<Vec<_>, _> = py.detach(|| (start..end).map(|row| self.0.of(row)).collect());
        let recorded = read.map_err(|error| errors::of_job(py, &error))?;
        let outcome = |((index, row), recorded)| match recorded {
            Some(recorded) => outcome(py, index, row, recorded),
            None => Ok(Outcome::unfinished(index, row, &self.0.tried(index))),
        };
        (start..).zip(rows).zip(recorded).map(outcome).collect()
    }
}

fn outcome(py: Python<'_>, index: u64, row: Py<PyAny>, recorded: outcome::Outcome) -> PyResult<Outcome> {
    let used = used(recorded.usage().as_ref());
    let (attempts, latency) = (recorded.attempts, recorded.timing.latency.as_secs_f64());
    let (answer, fault) = match recorded.result {
        Ok(answer) => (Some(received(py, &answer)?), None),
        Err(failure) => (None, Some(Box::new(Fault::new(failure, None)))),
    };
    Ok(Outcome { index, row, answer, fault, attempts, latency, used })
}

/// The names of the columns that answers with these fields add to a table whose columns have the names `own`, and a
/// sentence for each name that was taken.
#[pyfunction]
pub(crate) fn answer_columns(own: Vec<String>, fields: Vec<String>) -> (Vec<String>, Vec<String>) {
    outcomes::answer_columns(&own, &fields)
}
