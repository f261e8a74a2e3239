//! The functions that start a job. Options come as pairs of a name and the value that the command line takes. Each
//! function returns a [`Run`] at once, whose result is JSON.

use std::path::{Path, PathBuf};

use pyo3::prelude::*;
use serde_json::{Value, json};
use tokio_asyncio_bridge::job::background::Watch;
use tokio_asyncio_bridge::job::compare::{CompareRequest, PreparedComparison};
use tokio_asyncio_bridge::job::merge::{MergeRequest, merge as library_merge};
use tokio_asyncio_bridge::job::paths::answers_of;
use tokio_asyncio_bridge::job::spec::{self, FieldPatch, WholePatch, keyword, keywords};
use tokio_asyncio_bridge::job::verify::Reading;
use tokio_asyncio_bridge::job::{
    Begin, Control, Job, JobError, Only, PredictorObject, Report, SessionOptions, TakeUp,
    export as library_export, verify as library_verify,
};

use crate::errors;
use crate::predictor::{Given, object};
use crate::run::{self, Run};

/// Options, each as its name and its value in words.
pub(crate) type Words = Vec<(String, String)>;

/// What a session does with the rows that have an outcome, and with a job that has changed.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Choices {
    force: bool,
    skip_failed: bool,
    allow_changed: bool,
}

impl Choices {
    /// How the session continues the job, where its journal is there.
    pub(crate) fn take_up(&self) -> TakeUp {
        TakeUp {
            only: self.skip_failed.then_some(Only::Unfinished),
            allow_changed: self.allow_changed,
            begin: if self.force { Begin::Anew } else { Begin::Continue },
        }
    }
}

/// Starts a job on the rows of a file, or continues it. With `dry_run`, only estimates what it would use.
#[pyfunction]
pub(crate) fn process(
    py: Python<'_>,
    paths: (PathBuf, Option<PathBuf>),
    options: Words,
    predictor: Option<PyRef<'_, Given>>,
    choices: Choices,
    dry_run: bool,
) -> PyResult<Run> {
    let patch: WholePatch = keywords(&options).map_err(|error| errors::of_keyword(py, &error))?;
    let predictor = object(predictor);
    let (input, output) = paths;
    let argv = argv("process", &input, &options, predictor.as_ref());
    run::start(move |runtime, watch, control| {
        let take_up = choices.take_up();
        let session = SessionOptions { predictor, take_up, dry_run, argv, ..SessionOptions::default() };
        // The directory is removed when the job has ended.
        let (job, _scratch) = Job::of_input(&input, output.as_deref(), patch, session)?;
        runtime.block_on(async {
            if dry_run { estimate(job, watch, control).await } else { run(job, watch, control).await }
        })
    })
}

/// Continues the run of an answers file.
#[pyfunction]
pub(crate) fn resume(
    py: Python<'_>,
    answers: PathBuf,
    options: Words,
    predictor: Option<PyRef<'_, Given>>,
    only: Option<&str>,
    allow_changed: bool,
) -> PyResult<Run> {
    let patch: WholePatch = keywords(&options).map_err(|error| errors::of_keyword(py, &error))?;
    let answers = answers_of(answers);
    let predictor = object(predictor);
    let argv = argv("resume", &answers, &options, predictor.as_ref());
    let only = only.map(|only| keyword("only", only)).transpose();
    let only = only.map_err(|error| errors::of_keyword(py, &error))?;
    run::start(move |runtime, watch, control| {
        let take_up = TakeUp { only, allow_changed, begin: Begin::Resume };
        let session = SessionOptions { predictor, take_up, argv, ..SessionOptions::default() };
        let job = Job::of_answers(&answers, patch, session, control)?;
        runtime.block_on(run(job, watch, control))
    })
}

/// Times the same rows one call at a time and several at a time.
#[pyfunction]
pub(crate) fn compare(
    py: Python<'_>,
    input: PathBuf,
    options: Words,
    predictor: Option<PyRef<'_, Given>>,
) -> PyResult<Run> {
    let asked: CompareRequest = keywords(&options).map_err(|error| errors::of_keyword(py, &error))?;
    let predictor = object(predictor);
    let argv = argv("compare", &input, &options, predictor.as_ref());
    run::start(move |runtime, watch, control| {
        let spec = asked.spec(&input)?;
        let access = spec.access.access();
        let session =
            SessionOptions { predictor, input: Some(input.clone()), argv, ..SessionOptions::default() };
        let modes = (asked.modes(), asked.runs);
        let end = runtime.block_on(async {
            let mut prepared = PreparedComparison::new(spec, modes, session, watch, control).await?;
            let observer = watch.clone();
            Ok::<_, JobError>(prepared.run(&|| Box::new(observer.clone()), control).await)
        })?;
        asked.write(access, &end.comparison, watch)?;
        Ok(json!({
            "comparison": end.comparison,
            "broken": end.error.map(|error| error.to_string()),
            "killed": end.killed,
            "summary": end.comparison.summary(),
            "markdown": end.comparison.markdown(),
            "cost_usd": end.cost_usd,
        }))
    })
}

/// Checks an answers file against its input and its journal.
#[pyfunction]
pub(crate) fn verify(py: Python<'_>, input: PathBuf, answers: PathBuf, options: Words) -> PyResult<Run> {
    let reading: Reading = keywords(&options).map_err(|error| errors::of_keyword(py, &error))?;
    run::start(move |_, watch, control| {
        Ok(library_verify::verify(&input, &answers, &reading, watch, control)?.to_json())
    })
}

/// Writes the answers that a run has so far.
#[pyfunction]
pub(crate) fn export(
    py: Python<'_>,
    answers: PathBuf,
    output: Option<PathBuf>,
    options: Words,
    force: bool,
) -> PyResult<Run> {
    let fields: FieldPatch = keywords(&options).map_err(|error| errors::of_keyword(py, &error))?;
    let answers = answers_of(answers);
    run::start(move |_, watch, control| {
        let written = library_export::export(&answers, output.as_deref(), fields, force, watch, control)?;
        let rows = written.rows;
        let (ok, failed, unfinished) = (rows.ok, rows.failed, rows.unfinished);
        Ok(json!({ "answers": written.answers, "ok": ok, "failed": failed, "unfinished": unfinished }))
    })
}

/// Joins the answers of the shards of an input into one job.
#[pyfunction]
pub(crate) fn merge(
    input: PathBuf,
    answers: Vec<PathBuf>,
    output: Option<PathBuf>,
    force: bool,
) -> PyResult<Run> {
    let answers: Vec<_> = answers.into_iter().map(answers_of).collect();
    let argv = argv("merge", &input, &[], None);
    let argv =
        argv.into_iter().chain(answers.iter().map(|file| file.to_string_lossy().into_owned())).collect();
    let request = MergeRequest { input, answers, output, force, argv };
    run::start(move |_, watch, control| {
        let merged = library_merge(request, watch, control)?;
        Ok(of_session(Some(&merged.report), None, &merged.paths.answers))
    })
}

/// The words that are recorded as the command line.
pub(crate) fn argv(
    function: &str,
    path: &Path,
    options: &[(String, String)],
    object: Option<&PredictorObject>,
) -> Vec<String> {
    let called = format!("tokio_asyncio_bridge.{function}");
    spec::argv(&called, path, options, object.map(PredictorObject::name))
}

/// Estimates what a session of a job would use.
async fn estimate(job: Job, watch: &mut Watch, control: &Control) -> Result<Value, JobError> {
    let prepared = job.prepare(watch, control).await?;
    let (prepared, rows) = prepared.check(watch, control).await?;
    let estimate = prepared.estimate(rows);
    Ok(json!({
        "rows": rows,
        "calls": estimate.calls,
        "input_tokens": estimate.input_tokens,
        "input_usd": estimate.input_usd,
        "most_output_tokens": estimate.most_output_tokens,
        "most_output_usd": estimate.most_output_usd,
        "text": estimate.to_string(),
    }))
}

/// Runs a session of a job to its end.
pub(crate) async fn run(job: Job, watch: &mut Watch, control: &Control) -> Result<Value, JobError> {
    let answers = if job.is_scratch() { PathBuf::from("/dev/null") } else { job.files().answers.clone() };
    let end = job.run(watch, control).await?;
    let broken = end.broken().map(ToString::to_string);
    Ok(of_session(end.report.as_ref(), broken, &answers))
}

/// The result of a session: its report (null if it was killed), the fault that ended it (null if none did), the
/// summary, and the answers file.
fn of_session(report: Option<&Report>, broken: Option<String>, answers: &Path) -> Value {
    let summary = report.map(|report| report.summary(answers));
    json!({ "report": report, "broken": broken, "summary": summary, "answers": answers })
}
