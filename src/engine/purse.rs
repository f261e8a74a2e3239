//! Where rows wait for room in the budget, and where calls get their price. Not how much room there is.

use std::future::pending;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

use crate::error::CallError;
use crate::outcome::Answer;
use crate::policy::budget::{Budget, Price, Room};
use crate::policy::stop::StopReason;
use crate::usage::Usage;

/// The budget of a run; nothing is bounded without one.
#[derive(Debug)]
pub(super) struct Purse {
    price: Option<Price>,
    budget: Option<Mutex<Budget>>,
    /// One a call in flight: no more rows have room and wait for a permit, or they would be too many once the calls
    /// that are in flight turn out dear.
    turns: Semaphore,
    /// A call has ended.
    changed: Notify,
    exhausted: OnceLock<StopReason>,
}

/// Room for one call, left again where the call is not made.
pub(super) struct Share<'a> {
    budget: Option<&'a Mutex<Budget>>,
    changed: &'a Notify,
    _turn: Option<SemaphorePermit<'a>>,
}

impl Purse {
    /// For so many calls in flight.
    pub(super) fn new(calls: usize, price: Option<Price>, budget: Option<Budget>) -> Self {
        Self {
            price,
            budget: budget.map(Mutex::new),
            turns: Semaphore::new(calls.min(Semaphore::MAX_PERMITS)),
            changed: Notify::new(),
            exhausted: OnceLock::new(),
        }
    }

    /// Waits until there is room for a call; `None` once the run is stopping.
    pub(super) async fn share(&self, stopping: &CancellationToken) -> Option<Share<'_>> {
        let changed = &self.changed;
        let Some(budget) = &self.budget else { return Some(Share { budget: None, changed, _turn: None }) };
        let share = async {
            let turn = self.turns.acquire().await.ok();
            self.room(budget).await;
            Share { budget: Some(budget), changed, _turn: turn }
        };
        // Boxed, as there is a budget rarely and a row's future often.
        Box::pin(stopping.run_until_cancelled(share)).await
    }

    async fn room(&self, budget: &Mutex<Budget>) {
        loop {
            let changed = self.changed.notified();
            let room = lock(budget).reserve();
            match room {
                Room::Now => return,
                Room::Later => changed.await,
                Room::Never(reason) => {
                    let _ = self.exhausted.set(reason);
                    pending::<()>().await;
                }
            }
        }
    }

    /// Why there is no room for any call, once that is so.
    pub(super) fn exhausted(&self) -> Option<&StopReason> {
        self.exhausted.get()
    }

    /// Puts the user's price on what a call used.
    pub(super) fn price(&self, result: &mut Result<Answer, CallError>) {
        let Some(price) = self.price else { return };
        let usage = match result {
            Ok(answer) => &mut answer.usage,
            Err(CallError::Predictor(error)) => &mut error.usage,
            Err(_) => return,
        };
        if let Some(usage) = usage {
            usage.cost_usd = Some(price.of(usage));
        }
    }
}

impl Share<'_> {
    /// The call has ended.
    pub(super) fn settle(mut self, used: Option<&Usage>, untold: bool) {
        if let Some(budget) = self.budget.take() {
            lock(budget).settle(used, untold);
            self.changed.notify_waiters();
        }
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        if let Some(budget) = self.budget.take() {
            lock(budget).give_back();
            self.changed.notify_waiters();
        }
    }
}

fn lock(budget: &Mutex<Budget>) -> MutexGuard<'_, Budget> {
    budget.lock().unwrap_or_else(PoisonError::into_inner)
}
