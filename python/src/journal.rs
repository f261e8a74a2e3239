//! Rows from memory that are answered with a journal, and the outcomes that a journal holds.

use std::ops::Range;
use std::path::PathBuf;

use pyo3::prelude::*;
use tokio_asyncio_bridge::error::{BRIDGE, CRASH, Failure, INPUT, LOST, OUTPUT, TIMEOUT};
use tokio_asyncio_bridge::job::spec::keywords;
use tokio_asyncio_bridge::job::{Begin, Job, JobError, Only, SessionOptions, TakeUp, outcomes};
use tokio_asyncio_bridge::outcome::Outcome;
use tokio_asyncio_bridge::row::Value;

use crate::errors;
use crate::jobs::{self, Words};
use crate::predictor::given;
use crate::run::Run;

/// Starts the job of rows that come from memory, or continues it. `rows` is a file of them in JSON Lines, which the job
/// takes over. The result is a report.
#[pyfunction]
#[pyo3(signature = (rows, answers, predictor, options, *, force, skip_failed, allow_changed))]
pub(crate) fn answer(
    py: Python<'_>,
    rows: PathBuf,
    answers: PathBuf,
    predictor: Option<&Bound<'_, PyAny>>,
    options: Words,
    force: bool,
    skip_failed: bool,
    allow_changed: bool,
) -> PyResult<Run> {
    let patch = keywords(&options).map_err(|error| errors::of_keyword(py, &error))?;
    let predictor = given(predictor)?;
    let argv = jobs::argv("map", &answers, options, predictor.as_ref());
    let take_up = TakeUp {
        only: skip_failed.then_some(Only::Unfinished),
        allow_changed,
        begin: if force { Begin::Anew } else { Begin::Continue },
    };
    Run::start(move |runtime, watch, control| {
        let session = SessionOptions { predictor, take_up, argv, ..SessionOptions::default() };
        jobs::run(Job::of_rows(rows, &answers, patch, session)?, runtime, watch, control)
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
        let read = py.detach(|| outcomes::Outcomes::read(&journal));
        read.map(Self).map_err(|error| errors::of_job(py, &error))
    }

    /// The outcomes of these rows; `None` for a row that has none.
    fn of(&mut self, py: Python<'_>, start: u64, end: u64) -> PyResult<Vec<Option<Recorded>>> {
        let read = py.detach(|| self.read(start..end));
        read.map_err(|error| errors::of_job(py, &error))
    }
}

impl Outcomes {
    fn read(&mut self, rows: Range<u64>) -> Result<Vec<Option<Recorded>>, JobError> {
        rows.map(|row| Ok(self.0.of(row)?.map(Recorded::from))).collect()
    }
}

/// A row's outcome as plain data.
#[derive(IntoPyObject)]
pub(crate) struct Recorded {
    /// The fields of the answer, each with its name, its value as text, and whether that text is JSON. `None` if the row
    /// failed.
    fields: Option<Vec<(String, String, bool)>>,
    failure: Option<Failed>,
    attempts: u32,
    /// Of the last attempt, in seconds.
    latency: f64,
    /// Tokens in and out, requests, and US dollars if a price is known.
    usage: Option<(u64, u64, u64, Option<f64>)>,
}

/// Why a row has no answer.
#[derive(IntoPyObject)]
struct Failed {
    /// `input`, `timeout`, `output`, `crash`, `lost`, `bridge`, or `predictor` for an exception.
    kind: String,
    /// The name of the exception's class, or the kind.
    r#type: String,
    message: String,
    status: Option<u16>,
    traceback: Option<String>,
}

impl From<Outcome> for Recorded {
    fn from(outcome: Outcome) -> Self {
        let usage = outcome.usage().map(|used| (used.input, used.output, used.calls, used.cost_usd));
        let (attempts, latency) = (outcome.attempts, outcome.timing.latency.as_secs_f64());
        let (fields, failure) = match outcome.result {
            Ok(answer) => {
                let fields = answer.fields.into_iter().map(|(name, value)| match value {
                    Value::Text(text) => (name.to_string(), text, false),
                    Value::Json(json) => (name.to_string(), json.get().to_owned(), true),
                });
                (Some(fields.collect()), None)
            }
            Err(failure) => (None, Some(failure.into())),
        };
        Self { fields, failure, attempts, latency, usage }
    }
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        let ours = [INPUT, TIMEOUT, OUTPUT, CRASH, LOST, BRIDGE];
        let kind = ours.into_iter().find(|class| *class == &*failure.class).unwrap_or("predictor");
        Self {
            kind: kind.to_owned(),
            r#type: failure.class.to_string(),
            message: failure.message,
            status: failure.status,
            traceback: failure.traceback,
        }
    }
}

/// The names of the columns that answers with these fields add to a table whose columns have the names `own`, and a
/// sentence for each name that was taken.
#[pyfunction]
pub(crate) fn answer_columns(own: Vec<String>, fields: Vec<String>) -> (Vec<String>, Vec<String>) {
    outcomes::answer_columns(&own, &fields)
}
