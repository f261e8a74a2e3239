//! The functions that start a job. Options come as pairs of a name and the value that the command line takes.

use std::path::{Path, PathBuf};

use pyo3::prelude::*;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio_asyncio_bridge::job::rebuilt::rebuilt;
use tokio_asyncio_bridge::job::spec::{KeywordError, WholePatch, keywords};
use tokio_asyncio_bridge::job::{
    Begin, Control, Job, JobError, JobPaths, Level, Observer, Only, PredictorObject, Report, SessionOptions,
    TakeUp, recorded,
};

use crate::errors;
use crate::predictor::given;
use crate::run::{Run, Watch};

/// Options, each as its name and its value in words.
pub(crate) type Words = Vec<(String, String)>;

/// Starts a job on the rows of a file, or continues it. `predictor` is an object, if the options name no SPEC. The result
/// is a report (see [`of_session`]).
#[pyfunction]
#[pyo3(signature = (input, output, options, *, predictor, force, skip_failed, allow_changed))]
pub(crate) fn process(
    py: Python<'_>,
    input: PathBuf,
    output: Option<PathBuf>,
    options: Words,
    predictor: Option<&Bound<'_, PyAny>>,
    force: bool,
    skip_failed: bool,
    allow_changed: bool,
) -> PyResult<Run> {
    let patch: WholePatch = keywords(&options).map_err(|error| errors::of_keyword(py, &error))?;
    let predictor = given(predictor)?;
    let argv = argv("process", &input, options, predictor.as_ref());
    Run::start(move |runtime, watch, control| {
        let take_up = TakeUp {
            only: skip_failed.then_some(Only::Unfinished),
            allow_changed,
            begin: if force { Begin::Anew } else { Begin::Continue },
        };
        let session = SessionOptions { predictor, take_up, argv, ..SessionOptions::default() };
        // The directory is removed when the job has ended.
        let (job, _scratch) = Job::of_input(&input, output.as_deref(), patch, session)?;
        run(job, runtime, watch, control)
    })
}

/// Continues the run of an answers file. The result is a report (see [`of_session`]).
#[pyfunction]
#[pyo3(signature = (answers, options, *, predictor, only, allow_changed))]
pub(crate) fn resume(
    py: Python<'_>,
    answers: PathBuf,
    options: Words,
    predictor: Option<&Bound<'_, PyAny>>,
    only: Option<&str>,
    allow_changed: bool,
) -> PyResult<Run> {
    let patch: WholePatch = keywords(&options).map_err(|error| errors::of_keyword(py, &error))?;
    let predictor = given(predictor)?;
    let argv = argv("resume", &answers, options, predictor.as_ref());
    let only = match only {
        None => None,
        Some("failed") => Some(Only::Failed),
        Some("unfinished") => Some(Only::Unfinished),
        Some(other) => {
            let reason = format!("cannot be `{other}`: expected `failed` or `unfinished`");
            return Err(errors::of_keyword(py, &KeywordError { name: "only".to_owned(), reason }));
        }
    };
    let here = std::env::current_dir()?;
    Run::start(move |runtime, watch, control| {
        let mut spec = recorded(&answers)?;
        spec.lay_all(patch, &here);
        // The predictor runs in the interpreter that runs already.
        spec.predictor.python = None;
        let take_up = TakeUp { only, allow_changed, begin: Begin::Resume };
        let session = SessionOptions { predictor, take_up, argv, ..SessionOptions::default() };
        run(Job::resume(spec, JobPaths::find(&answers), session)?, runtime, watch, control)
    })
}

/// The words of a command line that would start the same session.
pub(crate) fn argv(
    function: &str,
    path: &Path,
    options: Words,
    object: Option<&PredictorObject>,
) -> Vec<String> {
    let named = object.map(|object| ("predictor".to_owned(), object.name().to_owned()));
    let options = options.into_iter().chain(named);
    let words = options.map(|(name, value)| format!("--{}={value}", name.replace('_', "-")));
    let first = [format!("tokio_asyncio_bridge.{function}"), path.to_string_lossy().into_owned()];
    first.into_iter().chain(words).collect()
}

/// Runs a session of a job to its end.
pub(crate) fn run(
    job: Job,
    runtime: &Runtime,
    watch: &mut Watch,
    control: &Control,
) -> Result<Value, JobError> {
    let files = job.files().clone();
    let answers = if job.is_scratch() { PathBuf::from("/dev/null") } else { files.answers.clone() };
    if job.done()?.is_some() {
        watch.message(Level::Note, "nothing to do\nhint: `--force` starts anew");
        return Ok(of_session(Some(&rebuilt(&files, watch, control)?.report), None, &answers));
    }
    let end = runtime.block_on(async {
        let prepared = job.prepare(watch, control).await?;
        prepared.open(watch)?.run(watch, control).await
    })?;
    // Any other reason is one that the caller gave, or that the server did.
    let broken = end.stop.filter(|_| end.code == 1).map(|stop| stop.to_string());
    Ok(of_session(end.report.as_ref(), broken, &answers))
}

/// The result of a session: its report (null if it was killed), the fault that ended it (null if none did), the summary,
/// and the answers file.
fn of_session(report: Option<&Report>, broken: Option<String>, answers: &Path) -> Value {
    let summary = report.map(|report| report.summary(answers));
    json!({ "report": report, "broken": broken, "summary": summary, "answers": answers })
}
