//! Starts what answers the rows in worker processes. This process needs no interpreter for it.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use super::error::{ErrorKind, JobError};
use super::models::Models;
use super::order::{Facts, Order, written};
use super::prints::{Printer, Who};
use super::spec::{TimeSpec, WorkerCount};
use super::starting::{PACKAGES, StartOptions, WorkerOptions, not_loaded, not_started};
use crate::bridge::Bridge;
use crate::bridge::python::interpreter::{Interpreter, Variables, located};
use crate::bridge::python::parcel::{self, Parcel};
use crate::bridge::remote::Host;
use crate::bridge::workers::{Count, Hosts, Program, Settings, Which, Workers};

/// The Python package of this program.
const PACKAGE: &str = "tokio_asyncio_bridge";
/// How much longer than the timeout a worker's event loop may not turn, at the most. The run ends when a loop has been
/// stuck for longer, so its worker must be ended by then.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is known of the worker processes of a job.
#[derive(Debug)]
pub(crate) struct InWorkers {
    /// How many there are, in words: `2 worker processes`.
    pub number: String,
    /// How many there are and why, if the program decided that.
    pub note: Option<String>,
    /// How long the first took to be ready.
    pub ready_after: Duration,
    /// What the first has told of its interpreter.
    pub(super) facts: Facts,
    pub(super) _printer: Printer,
}

/// Workers that were started, and what they stand on.
pub(super) struct Started {
    pub(super) bridge: Arc<dyn Bridge>,
    /// The interpreter of this process, if it has one.
    pub(super) interpreter: Option<Interpreter>,
    pub(super) workers: InWorkers,
    pub(super) models: Arc<Models>,
    /// What the env file set.
    pub(super) variables: Option<Variables>,
}

/// Starts the workers that the options ask for.
pub(super) fn start(options: StartOptions<'_>, workers: WorkerOptions<'_>) -> Result<Started, JobError> {
    let (predictor, dry_run, calls) = (options.predictor, options.dry_run, options.calls);
    if predictor.bridge != "python" {
        let text = format!("the bridge `{}` has no worker processes", predictor.bridge);
        return Err(JobError::new(ErrorKind::Usage, text));
    }
    let mut load = options.load()?;
    let (python, interpreter) =
        located(predictor.python.as_deref()).map_err(|error| not_started(error.into(), predictor))?;
    // The variables of an env file are there for whatever this process starts, or were set before.
    let variables = interpreter.as_ref().map(|interpreter| load.set_variables(interpreter)).transpose();
    let variables = variables.map_err(|error| not_started(error.into(), predictor))?.flatten();
    let is_guest = interpreter.as_ref().is_some_and(|interpreter| !interpreter.is_embedded);
    load.python = (!is_guest).then(|| python.clone());
    let program = if is_guest {
        let words = parcel::program(PACKAGE).map_err(|error| not_loaded(predictor).because(error))?;
        command(words.into_iter().chain(["worker".to_owned()]).map(Into::into))
    } else {
        workers.program.and_then(|program| command([program.into(), "worker".into()].into_iter()))
    };
    let Some(program) = program else {
        let text = "worker processes need the program `tokio-asyncio-bridge`: no `worker_program` was given";
        return Err(JobError::new(ErrorKind::Usage, text));
    };
    let parcel = (is_guest || options.object.is_some()).then(|| Parcel::pack(options.object.as_ref(), true));
    let parcel = parcel.transpose().map_err(|error| not_loaded(predictor).because(error))?;
    let order = Order {
        load,
        parcel,
        variables: Vec::new(),
        secrets: options.secrets.values().to_vec(),
        packages: PACKAGES.map(str::to_owned).into(),
    };
    let models = Arc::new(Models::new(predictor, python, calls, dry_run));
    let printer = Printer::new(options.prints);
    let settings = Settings {
        load: written(&order),
        host: host(&models, &printer),
        kill_after: kill_after(workers.time),
        max_rss: workers.spec.max_rss(),
    };
    let which = Which::Processes { program, count: count(workers) };
    let bridge = Workers::start(settings, which, options.stop);
    let bridge = bridge.map_err(|error| not_loaded(predictor).because(error))?;
    let facts = Facts::of(bridge.facts(), workers.spec.max_rss())?;
    let told = InWorkers {
        number: number(workers, bridge.describe().workers),
        note: (workers.spec.workers == WorkerCount::Auto).then(|| bridge.note().to_owned()),
        ready_after: bridge.ready_after(),
        facts,
        _printer: printer,
    };
    Ok(Started { bridge: Arc::new(bridge), interpreter, workers: told, models, variables })
}

/// How long the event loop of a worker may not turn.
pub(super) fn kill_after(time: &TimeSpec) -> Duration {
    time.timeout.saturating_add(PATIENCE.min(time.stuck_after))
}

/// How many workers are to be started.
fn count(workers: WorkerOptions<'_>) -> Count {
    match workers.spec.workers {
        WorkerCount::Auto => Count::UpTo(available_parallelism().unwrap_or(NonZeroUsize::MIN)),
        WorkerCount::Number(number) if !workers.only_one => {
            Count::Exactly(number.try_into().unwrap_or(NonZeroUsize::MIN))
        }
        WorkerCount::Number(_) | WorkerCount::InProcess => Count::Exactly(NonZeroUsize::MIN),
    }
}

/// The program with its arguments, and the number of this process as the last one.
fn command(mut words: impl Iterator<Item = OsString>) -> Option<Program> {
    let path = words.next()?.into();
    Some(Program { path, arguments: words.chain([std::process::id().to_string().into()]).collect() })
}

/// What is done for each worker.
fn host(models: &Arc<Models>, printer: &Printer) -> Hosts {
    let (models, printed) = (Arc::clone(models), printer.printed());
    Box::new(move |number, _| {
        let (models, printed) = (Arc::clone(&models), Arc::clone(&printed));
        Host {
            model: Box::new(move || models.provide().map(|settings| written(&settings))),
            printed: Box::new(move |bytes| printed(Who::Worker(number), bytes)),
        }
    })
}

/// How many worker processes there are, in words.
fn number(workers: WorkerOptions<'_>, started: u64) -> String {
    let words = |number: u64| {
        if number == 1 { "1 worker process".to_owned() } else { format!("{number} worker processes") }
    };
    match workers.spec.workers {
        WorkerCount::Number(number) if workers.only_one && number.get() > 1 => {
            format!("{}, of which 1 was started", words(number.get().into()))
        }
        _ => words(started),
    }
}
