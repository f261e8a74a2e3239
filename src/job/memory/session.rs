//! A job in memory on a thread of its own: rows go in and outcomes come out in batches, each under one hold of the
//! interpreter's lock.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyList;
use rustix::event::{EventfdFlags, eventfd};

use super::{MemoryJob, PreparedMemory};
use crate::bridge::python::exchange::{Exchange, Taken};
use crate::error::Failure;
use crate::event::Event;
use crate::input::Feed;
use crate::job::background::{Background, Watch};
use crate::job::error::JobError;
use crate::observe::{Level, Observer, Snapshot};
use crate::outcome::{Answer, Outcome, Tried};
use crate::policy::stop::StopReason;
use crate::usage::Usage;

/// The number of outcomes that wakes whoever waits for them at once.
const LOT: usize = 256;
/// How long fewer outcomes wait for more: each wake makes two threads contend for the interpreter's lock.
const LATER: Duration = Duration::from_millis(1);

/// A job in memory that runs. Its run is ended at once if this and all clones of [`Self::run`] are dropped before its
/// end.
///
/// In a process that was forked meanwhile it has ended, and nothing comes out: see [`Background`].
pub struct MemorySession<T> {
    run: Arc<Background<T>>,
    feed: Feed,
    shared: Arc<Shared>,
}

/// A row's outcome without its objects.
pub struct Done {
    /// The row, counted from 0.
    pub row: u64,
    /// Calls that were made for it.
    pub attempts: u32,
    /// How long the last one took.
    pub latency: Duration,
    /// What they used, as far as they told.
    pub usage: Option<Box<Usage>>,
    /// Why the row has no answer, if it has none.
    pub failure: Option<Box<Failure>>,
    /// What answers the row, where that is no object of this process.
    pub values: Option<Box<Answer>>,
}

/// Outcomes that wait to be taken, and who waits for them.
struct Shared {
    state: Mutex<Pending>,
    /// The predictor is loaded, or the job has ended.
    ready: Condvar,
    /// Readable when there are outcomes, or the job has ended.
    wake: OwnedFd,
}

#[derive(Default)]
struct Pending {
    exchange: Option<Arc<Exchange>>,
    calls: usize,
    done: VecDeque<Done>,
    /// Rows that were called and have no outcome yet.
    tried: HashMap<u64, Tried>,
    ended: bool,
}

impl Done {
    /// `gives_values` says whether its answer is no object of this process.
    fn of(outcome: &Outcome, gives_values: bool) -> Self {
        let answer = outcome.result.as_ref().ok().filter(|_| gives_values);
        Self {
            values: answer.map(|answer| Box::new(answer.clone())),
            row: outcome.row,
            attempts: outcome.attempts,
            latency: outcome.timing.latency,
            usage: outcome.usage().map(Box::new),
            failure: outcome.failure().cloned().map(Box::new),
        }
    }
}

impl Shared {
    fn new() -> io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Self { state: Mutex::default(), ready: Condvar::new(), wake })
    }

    fn state(&self) -> MutexGuard<'_, Pending> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the predictor is loaded.
    fn loaded(&self, prepared: &PreparedMemory) {
        let mut state = self.state();
        (state.exchange, state.calls) = (Some(Arc::clone(prepared.exchange())), prepared.calls());
        drop(state);
        self.ready.notify_all();
        self.wake();
    }

    fn wake(&self) {
        // This fails only if the counter is full, and then whoever waits is awake.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    fn heard(&self) {
        // There is nothing to read if it is so already.
        let _ = rustix::io::read(&self.wake, &mut [0; 8]);
    }
}

/// Takes down the outcomes, and what the job tells.
struct Collector {
    watch: Watch,
    shared: Arc<Shared>,
    /// Whether somebody waits for single outcomes.
    wakes: bool,
}

impl Observer for Collector {
    fn event(&mut self, event: &Event) {
        let mut state = self.shared.state();
        let outcome = match event {
            Event::Finished { outcome, .. } => outcome,
            Event::Retrying { attempt, .. } | Event::Unfinished { last: Some(attempt), .. } => {
                return state.tried.entry(attempt.row).or_default().add(attempt);
            }
            _ => return,
        };
        state.tried.remove(&outcome.row);
        let gives_values = state.exchange.as_ref().is_some_and(|exchange| exchange.gives_values());
        state.done.push_back(Done::of(outcome, gives_values));
        let waiting = state.done.len();
        drop(state);
        if self.wakes && waiting == LOT {
            self.shared.wake();
        } else if self.wakes && waiting == 1 {
            let shared = Arc::clone(&self.shared);
            tokio::spawn(async move {
                tokio::time::sleep(LATER).await;
                shared.wake();
            });
        }
    }

    fn tick(&mut self, snapshot: &Snapshot) {
        self.watch.tick(snapshot);
    }

    fn message(&mut self, level: Level, text: &str) {
        self.watch.message(level, text);
    }

    fn finish(&mut self, snapshot: &Snapshot) {
        self.watch.finish(snapshot);
    }
}

/// Tells the end of the job when dropped, also if its thread panics.
struct Ends(Arc<Shared>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.state().ended = true;
        self.0.ready.notify_all();
        self.0.wake();
    }
}

impl<T: Send + 'static> MemorySession<T> {
    /// Starts a job. With `wakes`, the descriptor becomes readable as outcomes come, and not only at the end. `ended`
    /// makes the run's result of what stopped it, if anything did.
    ///
    /// # Errors
    ///
    /// Fails if there can be no further thread or descriptor.
    pub fn start(
        job: MemoryJob,
        wakes: bool,
        ended: impl FnOnce(Option<StopReason>) -> T + Send + 'static,
    ) -> io::Result<Self> {
        let (shared, feed) = (Arc::new(Shared::new()?), job.feed.clone());
        let ends = Ends(Arc::clone(&shared));
        let run = Background::start(move |runtime, watch, control| {
            let shared = Arc::clone(&ends.0);
            let mut collector = Collector { watch: watch.clone(), shared, wakes };
            runtime.block_on(async {
                let prepared = job.prepare(&mut collector, control).await?;
                collector.shared.loaded(&prepared);
                Ok(ended(prepared.run(&mut collector, control).await))
            })
        })?;
        Ok(Self { run: Arc::new(run), feed, shared })
    }
}

impl<T> MemorySession<T> {
    /// The job's run.
    pub fn run(&self) -> &Arc<Background<T>> {
        &self.run
    }

    /// Waits until the predictor is loaded or the job has ended, at most so long. Returns whether it is loaded.
    pub fn ready(&self, within: Duration) -> bool {
        let waiting = |state: &mut Pending| state.exchange.is_none() && !state.ended;
        !self.run.is_forked() && {
            let waited = self.shared.ready.wait_timeout_while(self.shared.state(), within, waiting);
            waited.unwrap_or_else(PoisonError::into_inner).0.exchange.is_some()
        }
    }

    /// The most calls in flight, once the predictor is loaded.
    pub fn calls(&self) -> usize {
        if self.run.is_forked() { 0 } else { self.shared.state().calls }
    }

    /// Hands in rows. The predictor must be loaded. Does nothing in a process that was forked meanwhile.
    ///
    /// # Errors
    ///
    /// Fails with what Python code raises that is asked about a row, or that a signal has called. No row is handed in
    /// then.
    pub fn put(&self, rows: &Bound<'_, PyList>) -> PyResult<()> {
        if self.run.is_forked() {
            return Ok(());
        }
        let exchange = self.shared.state().exchange.clone();
        exchange.map_or(Ok(()), |exchange| exchange.put(rows, &self.feed))
    }

    /// Says that no rows follow.
    pub fn close(&self) {
        if !self.run.is_forked() {
            self.feed.close();
        }
    }

    /// Whether the run has wanted more rows than there were since this was asked last.
    pub fn was_short(&self) -> bool {
        !self.run.is_forked() && self.feed.was_short()
    }

    /// Takes the outcomes that have come since the last time, in the order in which they came, and at most so many.
    /// Needs the interpreter's lock.
    pub fn take(
        &self,
        _: Python<'_>,
        most: usize,
    ) -> impl ExactSizeIterator<Item = (Done, Option<Taken>)> + use<T> {
        let (mut done, mut taken) = (Vec::new(), Vec::new());
        if !self.run.is_forked() {
            let mut state = self.shared.state();
            if let Some(exchange) = state.exchange.clone() {
                let most = most.min(state.done.len());
                done.extend(state.done.drain(..most));
                drop(state);
                taken = exchange.take(done.iter().map(|done| (done.row, done.attempts)));
            }
        }
        done.into_iter().zip(taken)
    }

    /// Takes the rows that have no outcome out of a job that has ended, each with its number and what its calls come
    /// to. Needs the interpreter's lock.
    ///
    /// # Errors
    ///
    /// Fails in a process that was forked meanwhile.
    pub fn rest(
        &self,
        _: Python<'_>,
    ) -> Result<impl Iterator<Item = (u64, Py<PyAny>, Tried)> + use<T>, JobError> {
        self.run.refuse_forked()?;
        let mut state = self.shared.state();
        let (exchange, mut tried) = (state.exchange.clone(), std::mem::take(&mut state.tried));
        drop(state);
        let rest = exchange.map(|exchange| exchange.rest()).unwrap_or_default();
        Ok(rest.into_iter().map(move |(row, given)| (row, given, tried.remove(&row).unwrap_or_default())))
    }

    /// Makes the descriptor unreadable until something comes again.
    pub fn heard(&self) {
        // A forked process would take what is meant for its parent.
        if !self.run.is_forked() {
            self.shared.heard();
        }
    }

    /// Whether the job has ended.
    pub fn has_ended(&self) -> bool {
        self.run.is_forked() || self.shared.state().ended
    }
}

/// The descriptor that becomes readable when there are outcomes or the job has ended. Fewer than 256 outcomes wait for
/// more, a millisecond at most.
impl<T> AsFd for MemorySession<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.wake.as_fd()
    }
}

impl<T> Drop for MemorySession<T> {
    fn drop(&mut self) {
        if self.run.is_forked() {
            return;
        }
        let exchange = self.shared.state().exchange.take();
        if let Some(exchange) = exchange {
            // Python drops this, so it is attached.
            Python::try_attach(|py| exchange.clear(py));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, sleep};

    use super::*;
    use crate::error::{CANCELLED, CallError, FailureKind};
    use crate::outcome::FailedAttempt;
    use crate::row::RowHash;

    fn collector(wakes: bool) -> Collector {
        Collector { watch: Watch::default(), shared: Arc::new(Shared::new().unwrap()), wakes }
    }

    fn finished(row: u64) -> Event {
        let outcome = Box::new(Outcome::new(row, RowHash(0), Ok(Answer::default())));
        Event::Finished { outcome, permit: None }
    }

    impl Collector {
        fn finish_rows(&mut self, rows: usize) {
            (0..rows as u64).for_each(|row| self.event(&finished(row)));
        }

        /// Whether whoever waits was waked since the last time.
        fn woke(&self) -> bool {
            rustix::io::read(&self.shared.wake, &mut [0; 8]).is_ok()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lot_of_outcomes_wakes_at_once_and_fewer_within_a_millisecond() {
        let mut collector = collector(true);
        collector.finish_rows(LOT - 1);
        assert!(!collector.woke());
        collector.event(&finished(0));
        assert!(collector.woke());
        // Further ones add no wakes until these are taken.
        collector.finish_rows(3 * LOT);
        assert!(!collector.woke());
        sleep(2 * LATER).await;
        collector.shared.heard();
        assert_eq!(std::mem::take(&mut collector.shared.state().done).len(), 4 * LOT);
        collector.event(&finished(0));
        tokio::task::yield_now().await;
        advance(LATER / 2).await;
        assert!(!collector.woke());
        sleep(LATER / 2 + LATER / 10).await;
        assert!(collector.woke());
    }

    #[tokio::test(start_paused = true)]
    async fn outcomes_wake_nobody_where_nobody_waits_for_them_but_the_end_does() {
        let mut collector = collector(false);
        collector.finish_rows(2 * LOT);
        sleep(2 * LATER).await;
        assert!(!collector.woke() && !collector.shared.state().ended);
        drop(Ends(Arc::clone(&collector.shared)));
        assert!(collector.woke() && collector.shared.state().ended);
    }

    #[test]
    fn attempts_of_a_row_without_an_outcome_add_up() {
        let attempt = |row, number| {
            let usage = Some(Usage { input: 10, ..Usage::default() });
            let failure = Failure { usage, ..Failure::new(CANCELLED, FailureKind::Transient, "") };
            let (began, ended) = (Duration::from_secs(1), Duration::from_secs(3));
            Box::new(FailedAttempt { row, number, began, ended, abandoned: false, failure })
        };
        let mut collector = collector(false);
        for row in [1, 2] {
            collector.event(&Event::Retrying { attempt: attempt(row, 1), delay: LATER });
        }
        collector.event(&Event::Unfinished { row: 1, last: Some(attempt(1, 2)) });
        collector.event(&Event::Unfinished { row: 3, last: None });
        collector.event(&finished(2));
        let usage = Some(Usage { input: 20, ..Usage::default() });
        let tried = Tried { attempts: 2, latency: Duration::from_secs(2), usage };
        assert_eq!(collector.shared.state().tried, HashMap::from([(1, tried)]));
    }

    #[test]
    fn an_outcome_has_its_answer_only_where_that_is_no_object() {
        let answer = Answer { finish_reason: Some("stop".into()), ..Answer::default() };
        let answered = Outcome::new(1, RowHash(0), Ok(answer.clone()));
        assert_eq!(Done::of(&answered, false).values, None);
        assert_eq!(Done::of(&answered, true).values.as_deref(), Some(&answer));
        let failed = Outcome::new(1, RowHash(0), Err(CallError::Input("no".to_owned()).into()));
        let done = Done::of(&failed, true);
        assert!(done.values.is_none() && done.failure.as_deref() == failed.failure());
    }
}
