//! A place for a worker: the one that it has, and what is told of all that it had.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::lane::WorkerLane;
use super::life::{Life, Node};
use crate::bridge::remote::Remote;
use crate::bridge::{Bridge as _, Call, Health, LaneHealth, Nulled};
use crate::call::{Attempt, Lane};
use crate::event::Blockage;

/// The most blockages that are kept of the workers that a place had.
const KEPT: usize = 20;

/// A worker that is ready.
pub(super) struct Worker {
    /// Counted from 1, as users see it. A worker that takes the place of another one has its number.
    pub(super) number: usize,
    pub(super) remote: Remote,
    pub(super) lane: Arc<dyn Lane>,
}

impl Worker {
    pub(super) fn new(number: usize, remote: Remote, kill_after: Duration) -> Self {
        let lane = Arc::new(WorkerLane { lane: remote.lane(), kill_after });
        Self { number, remote, lane }
    }

    pub(super) fn submit(&self, attempt: Attempt) -> Call {
        // The first lane counts, and for a call that has waited that is another one.
        attempt.clock.runs_on(Arc::clone(&self.lane));
        self.remote.submit(attempt)
    }

    /// The rows whose calls have not ended in it.
    pub(super) fn rows(&self) -> BTreeSet<u64> {
        self.remote.rows().into_iter().collect()
    }

    /// Whether any call has ended in it.
    pub(super) fn was_of_use(&self) -> bool {
        self.remote.ended() > 0
    }
}

/// A place for a worker, with what is told of all that it has had.
#[derive(Default)]
pub(super) struct Place {
    /// Counted from 0.
    pub(super) index: usize,
    held: Mutex<Held>,
    /// How often in a row no worker could be started.
    pub(super) failures: AtomicUsize,
}

/// A place is given up for now when no worker could be started for it so many times in a row.
const GIVE_UP: usize = 8;

#[derive(Default)]
struct Held {
    life: Option<Arc<dyn Life>>,
    worker: Option<Arc<Worker>>,
    /// Whether the worker takes calls.
    takes_calls: bool,
    /// The sum over the workers that are gone.
    past: LaneHealth,
    nulled: Option<Nulled>,
    /// Whether it had a worker.
    used: bool,
    /// What could not load the predictor, and is yet to be judged.
    refused: Option<(Arc<dyn Life>, Node)>,
}

impl Place {
    pub(super) fn new(index: usize) -> Self {
        Self { index, ..Self::default() }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn started(&self, life: Arc<dyn Life>) {
        self.held().life = Some(life);
    }

    /// What the worker lives in, until its end is known.
    pub(super) fn life(&self) -> Option<Arc<dyn Life>> {
        self.held().life.clone()
    }

    pub(super) fn enter(&self, worker: Arc<Worker>) {
        let mut held = self.held();
        (held.worker, held.takes_calls, held.used) = (Some(worker), true, true);
    }

    /// Whether no worker can be started for it, as it seems.
    pub(super) fn is_hopeless(&self) -> bool {
        self.failures.load(Ordering::Relaxed) >= GIVE_UP
    }

    /// Its worker takes no more calls.
    pub(super) fn leave(&self) {
        self.held().takes_calls = false;
    }

    /// Its worker, if that takes calls.
    pub(super) fn taker(&self) -> Option<Arc<Worker>> {
        let held = self.held();
        held.worker.clone().filter(|_| held.takes_calls)
    }

    /// What has just ended could not load the predictor.
    pub(super) fn refused(&self, life: Arc<dyn Life>, node: Node) {
        self.held().refused = Some((life, node));
    }

    /// Keeps later workers from the machine where the last one could not load the predictor, which others could. Returns
    /// its name.
    pub(super) fn shun(&self) -> Option<String> {
        let (life, node) = self.held().refused.take()?;
        life.is_refused();
        node.get().cloned()
    }

    /// The worker has ended. What its worker told is added to what is told of the place.
    pub(super) fn gone(&self, last: Option<Health>, died: bool) {
        let mut held = self.held();
        (held.life, held.worker) = (None, None);
        held.past.deaths += u64::from(died);
        let Some(last) = last else { return };
        held.nulled = sum(held.nulled, last.nulled);
        if let Some(lane) = last.lanes.into_iter().next() {
            add(&mut held.past, lane);
        }
    }

    /// What is told of the place, as a lane of the bridge, with the blockages that are news. None if it never had a
    /// worker.
    pub(super) fn health(&self) -> Option<(LaneHealth, Option<Nulled>, Vec<Blockage>)> {
        let held = self.held();
        let mut lane = held.past.clone();
        let mut nulled = held.nulled;
        let mut news = Vec::new();
        if let Some(worker) = &held.worker {
            let told = worker.remote.health();
            nulled = sum(nulled, told.nulled);
            news = told.blocked;
            if let Some(present) = told.lanes.into_iter().next() {
                (lane.stalled_now, lane.calls, lane.memory) =
                    (present.stalled_now, present.calls, present.memory);
                add(&mut lane, present);
            }
        }
        held.used.then_some((lane, nulled, news))
    }
}

/// Adds what is counted.
fn add(sum: &mut LaneHealth, lane: LaneHealth) {
    sum.stalled += lane.stalled;
    sum.longest_lag = sum.longest_lag.max(lane.longest_lag);
    sum.processor += lane.processor;
    sum.busy += lane.busy;
    sum.saturated += lane.saturated;
    sum.made += lane.made;
    sum.answered += lane.answered;
    sum.peak_memory = sum.peak_memory.max(lane.peak_memory);
    sum.blockages.extend(lane.blockages.into_iter().map(Blockage::brief));
    while sum.blockages.len() > KEPT
        && let Some((shortest, _)) = sum.blockages.iter().enumerate().min_by_key(|(_, one)| one.lasted)
    {
        sum.blockages.remove(shortest);
    }
}

/// Adds what became null, after what did before.
pub(super) fn sum(one: Option<Nulled>, other: Option<Nulled>) -> Option<Nulled> {
    match (one, other) {
        (Some(one), Some(other)) => Some(Nulled { numbers: one.numbers + other.numbers, ..one }),
        (one, other) => one.or(other),
    }
}
