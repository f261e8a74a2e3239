//! A job without files: its rows are Python objects that come while it runs, and its outcomes go to an observer. The
//! calls get these objects themselves, or, where other processes make them, values in their place.
//!
//! Nothing of it is recorded. Everything else is as in any job: the same engine, limits, retries and timeouts.

mod collector;
pub mod session;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::answerer::{Answerer, secrets};
use super::begin::SessionOptions;
use super::conclude::tell_of_nulled;
use super::error::{ErrorKind, JobError};
use super::estimate::Estimate;
use super::prepare::{fits, tell_of_workers, warn};
use super::ray::Sent;
use super::run::engine;
use super::spec::JobSpec;
use super::starting::{RayOptions, StartOptions, WorkerOptions};
use super::telling::{Tell, unless_stopped};
use crate::bridge::python::exchange::{Carried, Exchange};
use crate::input::{FedRows, Feed};
use crate::journal::Index;
use crate::observe::{Level, Observer};
use crate::policy::limits::Limits;
use crate::policy::stop::StopReason;
use crate::run::control::Control;
use crate::run::todo::{Choice, Todo};
use crate::run::{Bounds, Run};
use crate::stats::Fold;

/// A job in memory, before anything is started.
pub struct MemoryJob {
    /// The job. Its input, and what it says of files, has no meaning.
    pub spec: JobSpec,
    /// Of these, the options about the predictor and about what Python prints.
    pub options: SessionOptions,
    /// Hands in the rows.
    pub feed: Feed,
    /// The number of rows, or 0 if it is not known.
    pub total: u64,
}

/// A job in memory whose predictor is loaded.
pub struct PreparedMemory {
    spec: JobSpec,
    answerer: Answerer,
    exchange: Arc<Exchange>,
    feed: Feed,
    total: u64,
    calls: usize,
}

impl MemoryJob {
    /// Loads the predictor. Makes no call.
    ///
    /// # Errors
    ///
    /// Fails if the options do not fit the predictor, if Python or the predictor cannot be started, or if the job is
    /// stopped meanwhile.
    pub async fn prepare(
        self,
        observer: &mut dyn Observer,
        control: &Control,
    ) -> Result<PreparedMemory, JobError> {
        let prepared = unless_stopped(move |tell, stop| self.start(tell, stop), observer, control).await?;
        warn(&prepared.answerer, &prepared.spec, observer);
        tell_of_workers(&prepared.answerer, observer);
        Ok(prepared)
    }

    fn start(self, tell: &Tell, stop: &CancellationToken) -> Result<PreparedMemory, JobError> {
        let Self { spec, options, feed, total } = self;
        let spec = spec.with(options.predictor.as_ref())?.anchored();
        if spec.predictor.bridge != "python" {
            let text = format!("the bridge `{}` takes no rows from memory", spec.predictor.bridge);
            return Err(JobError::new(ErrorKind::Usage, text));
        }
        let SessionOptions { predictor, prints, quiet, worker_program, .. } = options;
        let sent = Sent::of(&spec, predictor.as_ref(), None, tell)?;
        let mut secrets = secrets(&spec.predictor);
        if let Some(sent) = &sent {
            sent.hide(&mut secrets);
        }
        let rows = &spec.rows;
        let workers = WorkerOptions::new(&spec.workers, &spec.time, worker_program.as_deref());
        let ray = sent.as_ref().map(|sent| RayOptions::new(&spec, sent, false, tell));
        let carried = if workers.is_some() || ray.is_some() {
            Carried::Values
        } else {
            Carried::Objects { weighed: spec.rates.rates().tpm.is_some() }
        };
        let exchange = Arc::new(Exchange::new(rows.map.clone(), rows.column.clone(), carried));
        let calls = spec.pace.calls();
        let asked = spec.predictor.from(&spec.directory);
        let (held, stop) = (Some(Arc::clone(&exchange)), stop.clone());
        let starting = StartOptions::new(&asked, calls, &secrets);
        let starting =
            StartOptions { object: predictor, quiet, prints, workers, ray, exchange: held, stop, ..starting };
        let answerer = Answerer::start(starting)?;
        if exchange.gives_values() {
            let bound = exchange.bind_elsewhere(answerer.bridge.describe());
            bound.map_err(|error| JobError::new(ErrorKind::Internal, error.to_string()))?;
        }
        fits(&answerer, &spec)?;
        let calls = answerer.limit(calls);
        Ok(PreparedMemory { spec, answerer, exchange, feed, total, calls })
    }
}

impl PreparedMemory {
    /// Where the rows and the answers are.
    pub fn exchange(&self) -> &Arc<Exchange> {
        &self.exchange
    }

    /// The most calls in flight.
    pub fn calls(&self) -> usize {
        self.calls
    }

    /// Calls the predictor for each row, until the feed is closed and each row has its outcome, or until something
    /// stops the run. Returns what stopped it. The observer is told each outcome, once.
    pub async fn run(self, observer: &mut dyn Observer, control: &Control) -> Option<StopReason> {
        let Self { spec, answerer, exchange, feed, total, calls } = self;
        let estimate = Estimate::unseen(&spec.money, answerer.bridge.describe().metered.clone());
        let engine = engine(&spec, &answerer.bridge, calls, estimate.budget(&spec.money));
        let todo = Todo::new(FedRows::new(feed), Vec::new(), Arc::new(Index::new(0..0)), &Choice::default());
        let run = Run {
            engine,
            recorder: &mut (),
            limits: Limits::new(spec.stop.max_failures),
            fold: &mut Fold::default(),
            observer,
            control,
            bounds: Bounds {
                total,
                resumed: 0,
                look_ahead: 2 * calls,
                deadline: answerer.left(&spec),
                grace: spec.time.grace,
            },
        };
        let ended = run.rows(todo).await;
        if ended.hurried {
            observer.message(Level::Warning, "ended at once");
        }
        answerer.close();
        if exchange.gives_values() {
            tell_of_nulled(&*answerer.bridge, observer);
        }
        // Not what the last outcome may have brought about.
        ended.stop
    }
}
