//! Where rows wait for their turn while calls are limited: by the server, an outage, `--rpm` or `--tpm`. Not the permits.
//!
//! Nothing is locked while nothing is limited. Otherwise one row stands at the gate at a time, the others behind it (see
//! `line`); what it waits for is what limits the run.

mod line;
mod state;

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

pub(super) use self::line::Side;
use self::line::{Line, Turn};
use self::state::{State, tells_of_no_server};
use super::{Counted, EngineSettings};
use crate::error::CallError;
use crate::event::{LimitedBy, LimitedFor};
use crate::outcome::Answer;
use crate::policy::breaker::{Breaker, Hopeless};
use crate::policy::pace::{Admission, Pace};
use crate::policy::rate::{Due, Rate};
use crate::policy::stop::StopReason;
use crate::row::Arguments;

/// Decides when the next call may be made.
#[derive(Debug)]
pub(super) struct Gate {
    /// Nothing is limited and nothing need be told.
    calm: AtomicBool,
    state: Mutex<State>,
    /// For the row at the gate.
    line: Line,
    /// Rows behind it.
    waiting: AtomicUsize,
    /// Something has changed for it.
    changed: Notify,
    started: Instant,
    /// When the last begun of the calls was begun whose end a server made: nanoseconds since `started`.
    answered: AtomicU64,
    /// See [`Breaker::wants_fresh`].
    wants_fresh: AtomicUsize,
}

/// A call that was let through.
pub(super) struct Passed<'a> {
    /// When.
    pub(super) at: Instant,
    /// How long a limit held it back, or the row at the gate before it.
    pub(super) paced: Duration,
    /// How long there was no limit and it waited all the same: for a permit.
    pub(super) queued: Duration,
    pub(super) in_flight: Counted<'a>,
    pub(super) permit: OwnedSemaphorePermit,
    /// What it was estimated to use.
    estimated: Due,
    begun: Duration,
    side: Side,
}

/// What a call came to, for the gate.
pub(super) struct Ending {
    estimated: Due,
    begun: Duration,
    side: Side,
    /// When its row's first call was begun.
    row_begun: Duration,
}

impl Passed<'_> {
    /// So much of its waiting was for the pace.
    fn paced(self, paced: Duration) -> Self {
        Self { paced, queued: self.queued.saturating_sub(paced), ..self }
    }

    /// What is to be told of it later; `first` is when its row's first call was begun.
    pub(super) fn ending(&self, first: &mut Option<Duration>) -> Ending {
        let row_begun = *first.get_or_insert(self.begun);
        Ending { estimated: self.estimated, begun: self.begun, side: self.side, row_begun }
    }
}

impl Gate {
    pub(super) fn new(settings: &EngineSettings) -> Self {
        let state = State {
            pace: Pace::new(settings.concurrency, settings.retry.into()),
            breaker: Breaker::new(settings.concurrency),
            rate: Rate::new(settings.rates, settings.requests),
            waiting: None,
            waited: LimitedFor::default(),
            last_begun: Duration::ZERO,
            outage: None,
            server_answers: false,
        };
        Self {
            calm: AtomicBool::new(state.is_calm(Duration::ZERO)),
            state: Mutex::new(state),
            line: Line::new(),
            waiting: AtomicUsize::new(0),
            changed: Notify::new(),
            started: Instant::now(),
            answered: AtomicU64::new(0),
            wants_fresh: AtomicUsize::new(0),
        }
    }

    /// Lets nobody through any more.
    pub(super) fn close(&self) {
        self.line.close();
        self.changed.notify_one();
    }

    /// Waits for the turn, then for a permit; whoever waits for a turn holds none. `None` once it is closed. `came` is
    /// when the row began to wait.
    pub(super) async fn pass<'a>(
        &'a self,
        side: Side,
        came: Instant,
        permits: &Arc<Semaphore>,
        in_flight: &'a AtomicUsize,
        arguments: &Arguments,
    ) -> Option<Passed<'a>> {
        // Nobody overtakes those who waited while the pace was limited.
        if self.is_calm() && self.waiting.load(Ordering::Relaxed) == 0 {
            let permit = Arc::clone(permits).acquire_owned().await.ok()?;
            if self.is_calm() {
                return Some(self.unlimited(side, came, permit, in_flight));
            }
        }
        Box::pin(self.pass_in_turn(side, came, permits, in_flight, arguments)).await
    }

    fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Acquire)
    }

    fn unlimited<'a>(
        &self,
        side: Side,
        came: Instant,
        permit: OwnedSemaphorePermit,
        in_flight: &'a AtomicUsize,
    ) -> Passed<'a> {
        let at = Instant::now();
        let (in_flight, begun) = (Counted::new(in_flight), at - self.started);
        Passed {
            at,
            paced: Duration::ZERO,
            queued: at - came,
            in_flight,
            permit,
            estimated: Due::default(),
            begun,
            side,
        }
    }

    /// One row at a time.
    async fn pass_in_turn<'a>(
        &'a self,
        side: Side,
        came: Instant,
        permits: &Arc<Semaphore>,
        in_flight: &'a AtomicUsize,
        arguments: &Arguments,
    ) -> Option<Passed<'a>> {
        let limited_before = self.waited().total();
        let waiting = Counted::new(&self.waiting);
        let mut turn = self.line.turn(side).await?;
        drop(waiting);
        while self.is_calm() {
            let mut acquire = pin!(Arc::clone(permits).acquire_owned());
            // It stands in the permits' queue before the next row may.
            let at_once = poll_fn(|context| Poll::Ready(acquire.as_mut().poll(context))).await;
            drop(turn);
            let permit = match at_once {
                Poll::Ready(permit) => permit,
                Poll::Pending => acquire.await,
            };
            let permit = permit.ok()?;
            if self.is_calm() {
                let passed = self.unlimited(side, came, permit, in_flight);
                return Some(passed.paced(self.waited().total().saturating_sub(limited_before)));
            }
            drop(permit);
            turn = self.line.turn(side).await?;
        }
        let estimated = self.with(|state| {
            let estimated = state.rate.estimate(arguments);
            state.rate.owe(estimated);
            estimated
        });
        loop {
            turn = self.ready(turn, in_flight).await?;
            let permit = Arc::clone(permits).acquire_owned().await.ok()?;
            let at = Instant::now();
            let passed = self.with(|state| {
                let now = at - self.started;
                // Calls are told apart by when they were begun, also where the clock does not.
                let begun = now.max(state.last_begun + Duration::from_nanos(1));
                let admitted = state.pace.admits(begun, in_flight.load(Ordering::Relaxed)) == Admission::Now;
                admitted.then(|| {
                    state.pace.sent(begun);
                    state.last_begun = begun;
                    (Counted::new(in_flight), begun)
                })
            });
            if let Some((in_flight, begun)) = passed {
                turn.pass();
                let paced = self.waited().total().saturating_sub(limited_before);
                let queued = at - came;
                let passed =
                    Passed { at, paced: Duration::ZERO, queued, in_flight, permit, estimated, begun, side };
                return Some(passed.paced(paced));
            }
        }
    }

    /// Waits until a call may be made and is paid for, and it is still the row's turn.
    async fn ready(&self, mut turn: Turn, in_flight: &AtomicUsize) -> Option<Turn> {
        loop {
            let changed = self.changed.notified();
            if self.line.is_closed() {
                return None;
            }
            let now = self.now();
            let Some((by, until)) = self.with(|state| state.short(now, in_flight.load(Ordering::Relaxed)))
            else {
                return Some(turn);
            };
            self.with(|state| state.waiting = Some((by, now)));
            match until {
                Some(until) => drop(timeout_at(self.started + until, changed).await),
                None => changed.await,
            }
            let now = self.now();
            self.with(|state| state.waited_until(now));
            turn = turn.or_after_the_next().await?;
        }
    }

    /// A call has ended, and is counted in flight no more. Returns whether an outage is assumed now.
    pub(super) fn ended(
        &self,
        row: u64,
        arguments: &Arguments,
        ending: &Ending,
        result: &Result<Answer, CallError>,
        in_flight: usize,
    ) -> bool {
        if result
            .as_ref()
            .err()
            .is_none_or(|error| !tells_of_no_server(error) && !matches!(error, CallError::Lost(_)))
        {
            self.answered.fetch_max(ending.begun.as_nanos() as u64, Ordering::Relaxed);
        }
        // A row that others have overtaken is slow by itself.
        let overtaken = self.answered.load(Ordering::Relaxed) > ending.row_begun.as_nanos() as u64;
        if self.is_calm() && result.is_ok() {
            return false;
        }
        let now = self.now();
        let outage = self.with(|state| {
            state.rate.settle(arguments, ending.estimated, result);
            match result {
                Err(error) if error.is_timeout() && overtaken && !state.breaker.is_open() => {}
                _ => state.judge(now, row, (ending.begun, ending.side), result, in_flight),
            }
            self.calm.store(state.is_calm(now), Ordering::Release);
            self.wants_fresh.store(state.breaker.wants_fresh(), Ordering::Relaxed);
            state.breaker.is_open()
        });
        self.changed.notify_one();
        outage
    }

    /// For how long rows that had been called were held back by the server or an outage.
    pub(super) fn held(&self) -> Duration {
        let waited = self.waited();
        waited.server + waited.outage
    }

    /// For how long the run has been limited so far.
    pub(super) fn waited(&self) -> LimitedFor {
        let now = self.now();
        self.with(|state| {
            if let Some((by, _)) = state.waiting {
                state.waited_until(now);
                state.waiting = Some((by, now));
            }
            state.waited
        })
    }

    /// What limits the run now.
    pub(super) fn limited_by(&self) -> Option<LimitedBy> {
        self.with(|state| {
            let waits_for = state.waiting.map(|(by, _)| by);
            waits_for.or_else(|| state.breaker.is_open().then_some(LimitedBy::Outage))
        })
    }

    /// Why there is no hope of an answer, where there is none.
    pub(super) fn unreachable(&self) -> Option<StopReason> {
        self.with(|state| {
            let Hopeless { silent_for, hangs } = state.breaker.hopeless()?;
            let (error, answers) = (state.outage.clone()?, state.server_answers);
            Some(StopReason::Unreachable { error, silent_for, hangs, answers })
        })
    }

    /// No row is left that has not been asked.
    pub(super) fn all_asked(&self) {
        let now = self.now();
        self.with(|state| {
            if state.breaker.all_asked() {
                state.pace.restart(now);
            }
            self.wants_fresh.store(state.breaker.wants_fresh(), Ordering::Relaxed);
            self.calm.store(state.is_calm(now), Ordering::Release);
        });
        self.changed.notify_one();
    }

    /// How many rows are wanted beyond those in hand.
    pub(super) fn wants_fresh(&self) -> usize {
        self.wants_fresh.load(Ordering::Relaxed)
    }

    /// The last error of the outage that is going on, if one is.
    pub(super) fn outage(&self) -> Option<String> {
        self.with(|state| state.outage.clone().filter(|_| state.breaker.is_open()))
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}
