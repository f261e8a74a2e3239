//! Outcomes of a job in memory on their way to whoever waits for them. A wake makes two threads contend for the
//! interpreter's lock, so a lot of outcomes has one.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};

use super::PreparedMemory;
use crate::bridge::python::exchange::Exchange;
use crate::error::Failure;
use crate::event::Event;
use crate::job::background::Watch;
use crate::observe::{Level, Observer, Snapshot};
use crate::outcome::{Answer, Outcome, Tried};
use crate::usage::Usage;

/// The number of outcomes that wakes whoever waits for them at once.
const LOT: usize = 256;
/// How long fewer outcomes wait for more: each wake makes two threads contend for the interpreter's lock.
const LATER: Duration = Duration::from_millis(1);

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
pub(super) struct Shared {
    state: Mutex<Pending>,
    /// The predictor is loaded, or the job has ended.
    pub(super) ready: Condvar,
    /// Readable when there are outcomes, or the job has ended.
    pub(super) wake: OwnedFd,
}

#[derive(Default)]
pub(super) struct Pending {
    pub(super) exchange: Option<Arc<Exchange>>,
    pub(super) calls: usize,
    pub(super) done: VecDeque<Done>,
    /// Rows that were called and have no outcome yet.
    pub(super) tried: HashMap<u64, Tried>,
    pub(super) ended: bool,
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
    pub(super) fn new() -> io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Self { state: Mutex::default(), ready: Condvar::new(), wake })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, Pending> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the predictor is loaded.
    pub(super) fn loaded(&self, prepared: &PreparedMemory) {
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

    pub(super) fn heard(&self) {
        // There is nothing to read if it is so already.
        let _ = rustix::io::read(&self.wake, &mut [0; 8]);
    }
}

/// Takes down the outcomes, and what the job tells.
pub(super) struct Collector {
    pub(super) watch: Watch,
    pub(super) shared: Arc<Shared>,
    /// Whether somebody waits for single outcomes.
    pub(super) wakes: bool,
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
pub(super) struct Ends(pub(super) Arc<Shared>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.state().ended = true;
        self.0.ready.notify_all();
        self.0.wake();
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
