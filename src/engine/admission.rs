//! Who may make a call, and when: here the permits, the pace, the breaker, the rates and the budget decide together.
//!
//! While nothing limits the run, rows wait for permits alone: a batch of calls that ends lets as many rows go together,
//! and the event loop gets them in few turns. Otherwise they wait in one queue. The row at its front takes a permit and
//! asks the limits. If one of them holds it back, it gives the permit back and waits until the time that the limit
//! gave, or until a call ends; then it asks again. The rows behind it sleep until they come to the front. A permit
//! travels with the outcome of its call, so it admits no further call before that outcome is recorded. What the row at
//! the front waits for is what limits the run.

mod limiters;
mod queue;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use self::limiters::{Limiters, Ticket};
pub(super) use self::queue::Side;
use self::queue::{Place, Queue};
use super::gauges::{Counted, Gauges};
use super::settings::EngineSettings;
use crate::error::CallError;
use crate::event::{LimitedBy, LimitedFor};
use crate::outcome::Answer;
use crate::policy::breaker::Breaker;
use crate::policy::budget::Budget;
use crate::policy::pace::{Backoff, Pace};
use crate::policy::rate::Rate;
use crate::policy::stop::StopReason;
use crate::row::Arguments;

/// Decides when the next call may be made.
#[derive(Debug)]
pub struct Admission {
    permits: Arc<Semaphore>,
    gauges: Arc<Gauges>,
    /// Locked for moments only, never across an await.
    shared: Mutex<Shared>,
    /// Wakes the row at the front: a call has ended, or no more calls are made.
    changed: Notify,
}

#[derive(Debug)]
struct Shared {
    queue: Queue,
    limiters: Limiters,
}

/// A call that may be made now.
pub(super) struct Admitted<'a> {
    pub(super) at: Instant,
    /// How long its row waited while a limit held back the row at the front.
    pub(super) paced: Duration,
    /// How long it waited for a permit or the budget.
    pub(super) queued: Duration,
    /// How much of `paced` was due to the server or an outage.
    pub(super) held: Duration,
    pub(super) in_flight: Counted<'a>,
    pub(super) permit: OwnedSemaphorePermit,
    pub(super) pass: Pass<'a>,
}

/// What an admitted call takes of the limits. If it is dropped before the call was made, the limits get it back.
pub(super) struct Pass<'a> {
    admission: &'a Admission,
    ticket: Ticket<'a>,
    ended: bool,
}

/// A row that waits. It leaves the queue when dropped.
struct Waiting<'a> {
    admission: &'a Admission,
    row: u64,
    side: Side,
    arguments: &'a Arguments,
    came: Instant,
    /// For how long the run had been limited when the row came.
    limited: LimitedFor,
    place: Place,
}

impl Admission {
    pub(super) fn new(settings: &EngineSettings, gauges: Arc<Gauges>) -> Self {
        let &EngineSettings { concurrency, retry, rates, requests, .. } = settings;
        let pace = Pace::new(concurrency, Backoff { base: retry.base, cap: retry.cap });
        let limiters = Limiters::new(pace, Breaker::new(concurrency), Rate::new(rates, requests));
        Self {
            permits: Arc::new(Semaphore::new(concurrency.min(Semaphore::MAX_PERMITS))),
            gauges,
            shared: Mutex::new(Shared { queue: Queue::new(), limiters }),
            changed: Notify::new(),
        }
    }

    /// The same within a budget.
    pub(super) fn within(self, budget: Option<Budget>) -> Self {
        self.lock().limiters.budget = budget;
        self
    }

    /// Admits no more calls.
    pub(super) fn close(&self) {
        self.permits.close();
        self.changed.notify_one();
    }

    /// Waits until the row may make its call; `None` once no more calls are admitted.
    pub(super) async fn admit<'a>(
        &'a self,
        row: u64,
        side: Side,
        arguments: &'a Arguments,
    ) -> Option<Admitted<'a>> {
        let mut waiting = self.join(row, side, arguments);
        loop {
            waiting.place.front().await;
            waiting.leave_if_idle();
            // Usually a permit is free, and taking it is then faster than waiting for one.
            let permit = match Arc::clone(&self.permits).try_acquire_owned() {
                Ok(permit) => permit,
                Err(_) => Arc::clone(&self.permits).acquire_owned().await.ok()?,
            };
            match waiting.ask(permit) {
                Ok(admitted) => return Some(admitted),
                // A row that failed goes first.
                Err(_) if matches!(waiting.place, Place::Behind(_)) => {}
                // Boxed because it is rare, and a row's future always has room for its largest branch.
                Err(until) => Box::pin(self.until_changed(until)).await,
            }
        }
    }

    fn join<'a>(&'a self, row: u64, side: Side, arguments: &'a Arguments) -> Waiting<'a> {
        let came = Instant::now();
        let mut shared = self.lock();
        let limited = shared.limiters.limited_for(came);
        let is_idle = shared.limiters.is_idle() && shared.queue.is_empty();
        let place = if is_idle { Place::Left } else { shared.queue.join(side) };
        Waiting { admission: self, row, side, arguments, came, limited, place }
    }

    async fn until_changed(&self, until: Option<Instant>) {
        let changed = self.changed.notified();
        match until {
            Some(until) => drop(timeout_at(until, changed).await),
            None => changed.await,
        }
    }

    fn in_flight(&self) -> usize {
        self.gauges.in_flight.load(Ordering::Relaxed)
    }

    /// What limits the calls now, if anything does beside the concurrency.
    pub fn limited_by(&self) -> Option<LimitedBy> {
        self.lock().limiters.limited_by()
    }

    /// For how long each limit has held the run back so far.
    pub fn limited_for(&self) -> LimitedFor {
        self.lock().limiters.limited_for(Instant::now())
    }

    /// Why there is no hope of an answer, if there is none.
    pub fn unreachable(&self) -> Option<StopReason> {
        self.lock().limiters.unreachable()
    }

    /// The last error of the outage that is going on, if one is.
    pub fn outage(&self) -> Option<String> {
        self.lock().limiters.outage()
    }

    /// Why the budget has no room for any call, once it has none.
    pub fn exhausted(&self) -> Option<StopReason> {
        self.lock().limiters.exhausted.clone()
    }

    /// How many rows are wanted beyond those in hand, to find out whether it is the server that fails or these rows.
    pub(super) fn wants_fresh(&self) -> usize {
        self.lock().limiters.breaker.wants_fresh()
    }

    /// Signals that all rows have been submitted.
    pub fn all_asked(&self) {
        self.lock().limiters.all_asked();
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> Waiting<'a> {
    /// Leaves the queue, to wait for a permit alone, if nothing limits the run.
    fn leave_if_idle(&mut self) {
        let Shared { queue, limiters } = &mut *self.admission.lock();
        if matches!(self.place, Place::Front) && limiters.is_idle() {
            self.place = Place::Left;
            queue.next_to_front();
        }
    }

    /// Asks for the call of the row at the front, or of one that waited for a permit alone.
    ///
    /// # Errors
    ///
    /// Fails with the time until which to wait if a limit holds the row back, and if the row went behind another one.
    fn ask(&mut self, permit: OwnedSemaphorePermit) -> Result<Admitted<'a>, Option<Instant>> {
        let (admission, at) = (self.admission, Instant::now());
        let Shared { queue, limiters } = &mut *admission.lock();
        if matches!(self.place, Place::Left) && !limiters.is_idle() {
            // Meanwhile something does limit the run.
            self.place = queue.join(self.side);
        }
        match self.place {
            Place::Behind(_) => return Err(None),
            Place::Front => {
                limiters.waits_no_more(at);
                if queue.step_aside(&mut self.place, self.side) {
                    return Err(None);
                }
            }
            Place::Left => {}
        }
        let (begun, estimated) = limiters.admit(at, self.arguments, admission.in_flight())?;
        queue.admitted(&mut self.place, self.side);
        let (waited, before, limited) = (at - self.came, &self.limited, limiters.limited_for(at));
        let paced = waited.min(limited.total().saturating_sub(before.total()));
        let held = (limited.server + limited.outage).saturating_sub(before.server + before.outage);
        let ticket = Ticket { row: self.row, side: self.side, arguments: self.arguments, estimated, begun };
        Ok(Admitted {
            at,
            paced,
            queued: waited.saturating_sub(paced),
            held,
            in_flight: Counted::new(&admission.gauges.in_flight),
            permit,
            pass: Pass { admission, ticket, ended: false },
        })
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.place.empties_front() {
            let Shared { queue, limiters } = &mut *self.admission.lock();
            limiters.waits_no_more(Instant::now());
            queue.next_to_front();
        }
    }
}

impl Pass<'_> {
    /// When the call began.
    pub(super) fn begun(&self) -> Duration {
        self.ticket.begun
    }

    /// Reports how the call ended, after it has ceased to count as in flight. `row_begun` is when the first call of its
    /// row began. Returns whether an outage is assumed now.
    pub(super) fn ended(mut self, row_begun: Duration, result: &Result<Answer, CallError>) -> bool {
        self.ended = true;
        let admission = self.admission;
        admission.lock().limiters.ended(&self.ticket, row_begun, result, admission.in_flight())
    }

    /// Reports that the call was cut off.
    pub(super) fn cut_off(mut self) {
        self.ended = true;
        self.admission.lock().limiters.cut_off();
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.admission.lock().limiters.give_back(&self.ticket);
        }
        self.admission.changed.notify_one();
    }
}

#[cfg(test)]
mod tests;
