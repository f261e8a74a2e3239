//! Who takes a call: the worker with the fewest, the one for suspects, or nobody yet.

use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::sleep;

use super::lane::WaitingLane;
use super::pool::{NOBODY, Pool, State};
use crate::bridge::{AwaitTurn, Call, Turn};
use crate::call::{Attempt, Lane};
use crate::error::{CallError, Failure, FailureKind, LOST};

/// How often it is looked whether the worker of the suspects has got rid of the last call.
const LOOK: Duration = Duration::from_millis(10);

/// A suspect's wish for the worker, and then its turn.
struct Wish {
    pool: Arc<Pool>,
    row: u64,
    turn: Option<OwnedSemaphorePermit>,
}

impl Wish {
    fn new(pool: Arc<Pool>, row: u64) -> Self {
        pool.alone.wanted.fetch_add(1, Ordering::AcqRel);
        pool.alone.called.notify_one();
        if pool.is_crowded() {
            // What waits for a worker with a permit gives that back.
            pool.look_again();
        }
        Self { pool, row, turn: None }
    }

    /// Waits until no other suspect has its turn, and the worker is ready and has no call. Where there will be no worker
    /// the turn comes too, and the call fails.
    async fn turn(mut self) -> Self {
        // The semaphore is never closed.
        self.turn = Arc::clone(&self.pool.alone.turn).acquire_owned().await.ok();
        self.pool.alone.has_turn.store(self.row, Ordering::Release);
        let place = self.pool.for_suspects();
        let is_decided = || (place.taker().is_some() || place.is_hopeless()).then_some(());
        while self.pool.wait_for(is_decided).await.is_some() {
            // What is left of a call that was cancelled would be blamed too.
            if place.taker().is_none_or(|worker| worker.remote.calls() == 0) {
                break;
            }
            sleep(LOOK).await;
        }
        self
    }
}

impl Drop for Wish {
    fn drop(&mut self) {
        let alone = &self.pool.alone;
        if self.turn.is_some() {
            alone.busy.store(false, Ordering::Release);
            alone.has_turn.store(NOBODY, Ordering::Release);
        }
        alone.wanted.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Pool {
    /// The wait of a suspect for the worker that it has to itself, or of any row while no worker is ready.
    pub(super) fn turn(self: &Arc<Self>, row: u64) -> Option<AwaitTurn> {
        let pool = Arc::clone(self);
        if self.suspects(row) {
            return Some(Box::pin(async move { Box::new(Wish::new(pool, row).turn().await) as Turn }));
        }
        if self.state() == State::Open && self.least_loaded().is_none() {
            return Some(Box::pin(async move {
                pool.wait_for(|| pool.least_loaded()).await;
                Box::new(()) as Turn
            }));
        }
        None
    }

    /// Hands a call over: that of a suspect to the worker for suspects, and any other to the worker with the fewest calls.
    pub(super) fn submit(self: &Arc<Self>, attempt: Attempt) -> Call {
        if self.state() != State::Open {
            return Call::driven(ready(Err(self.end_of_calls().into())));
        }
        if self.suspects(attempt.row) {
            return self.call_alone(attempt);
        }
        match self.least_loaded() {
            Some(worker) => worker.submit(attempt),
            None => self.call_later(attempt),
        }
    }

    /// Makes the call once there is a worker that takes it: the last one has died since the row had its turn.
    fn call_later(self: &Arc<Self>, attempt: Attempt) -> Call {
        let pool = Arc::clone(self);
        let lane = Arc::new(WaitingLane::new());
        attempt.clock.runs_on(Arc::clone(&lane) as Arc<dyn Lane>);
        Call::driven(async move {
            let is_decided = || (pool.least_loaded().is_some() || pool.is_crowded()).then_some(());
            let worker = loop {
                if pool.wait_for(is_decided).await.is_none() {
                    return Err(pool.end_of_calls().into());
                }
                if let Some(worker) = pool.least_loaded() {
                    break worker;
                }
                if pool.is_crowded() {
                    // The row asks for its turn again, without the permit that a suspect may need.
                    let text = "the call was not made, for its worker left its room to that of suspects";
                    return Err(CallError::Lost(text.to_owned()));
                }
            };
            lane.goes_on_in(Arc::clone(&worker.lane));
            worker.submit(attempt).await
        })
    }

    /// Makes the call of a suspect that has its turn. The row may have become a suspect only after it asked for its turn, or
    /// the worker may have died since. Then the call is lost without having been made, and the row asks again.
    fn call_alone(self: &Arc<Self>, attempt: Attempt) -> Call {
        let row = attempt.row;
        let taker =
            self.for_suspects().taker().filter(|_| self.alone.has_turn.load(Ordering::Acquire) == row);
        let Some(worker) = taker else {
            if self.for_suspects().is_hopeless() {
                let text = "the row was in flight when a worker died, and no worker could be started that calls it alone";
                let failure = Failure::new(LOST, FailureKind::Permanent, text);
                return Call::driven(ready(Err(CallError::Predictor(Box::new(failure)))));
            }
            let text = "the call was not made, for the row's worker died before it";
            return Call::driven(ready(Err(CallError::Lost(text.to_owned()))));
        };
        self.alone.busy.store(true, Ordering::Release);
        let call = worker.submit(attempt);
        let pool = Arc::clone(self);
        Call::driven(async move {
            let reply = call.await;
            // The worker has survived it, alone.
            let is_cleared = match &reply {
                Ok(_) => true,
                Err(CallError::Bridge(_)) => false,
                Err(error) => !error.is_of_lane(),
            };
            if is_cleared {
                pool.blame(|blame| blame.clear(row));
            }
            reply
        })
    }
}
