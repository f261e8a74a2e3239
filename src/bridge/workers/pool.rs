//! What the workers of a job share: their places, who is suspected, and whether calls are taken at all.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::sleep;

use super::blame::Blame;
use super::life::{Kind, Life, Node};
use super::place::{Place, Worker, sum};
use super::settings::Settings;
use crate::bridge::{Description, Health, LaneHealth};
use crate::error::BridgeError;
use crate::event::Blockage;

/// No row: there is none with this number.
pub(super) const NOBODY: u64 = u64::MAX;
/// How long the worker for suspects waits for a node before more places leave it their room.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whether calls are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Open,
    /// No worker can be had any more, and calls end for this reason.
    Failed(BridgeError),
    /// The workers are to end within this time.
    Closing(Duration),
}

/// See the module's page.
pub(super) struct Pool {
    pub(super) settings: Settings,
    pub(super) kind: Arc<dyn Kind>,
    /// The runtime where calls are awaited.
    pub(super) home: Handle,
    /// How long the first worker took to be ready.
    pub(super) ready_after: OnceLock<Duration>,
    /// What the first worker has loaded.
    loaded: OnceLock<Description>,
    /// Why the first that could not start could not, while none has loaded anything.
    pub(super) unready: OnceLock<String>,
    /// The places of the ordinary workers, and last that of the worker for suspects.
    places: Vec<Place>,
    /// How many of them are for ordinary workers that are used.
    used: AtomicUsize,
    /// How many workers there is room for, the one for suspects included.
    room: AtomicUsize,
    /// How many more places than that asks for are to leave their room to it.
    pressed: AtomicUsize,
    /// The ordinary workers that take calls.
    ready: RwLock<Vec<Arc<Worker>>>,
    /// Changes when calls are taken no more, and is touched when a worker is ready.
    state: watch::Sender<State>,
    pub(super) blame: Mutex<Blame>,
    /// Whether there ever was a suspect.
    suspicious: AtomicBool,
    pub(super) alone: Alone,
    /// Blockages that nobody has asked for yet.
    news: Mutex<Vec<Blockage>>,
    /// What went wrong, likewise.
    warnings: Mutex<Vec<String>>,
}

/// The calls of suspects.
pub(super) struct Alone {
    /// One row at a time, in the order in which they came.
    pub(super) turn: Arc<Semaphore>,
    /// The row that has its turn, or [`NOBODY`].
    pub(super) has_turn: AtomicU64,
    /// Calls that want a worker of their own or have it.
    pub(super) wanted: AtomicUsize,
    /// One more wants it.
    pub(super) called: Notify,
    /// Whether the worker has a call that somebody waits for.
    pub(super) busy: AtomicBool,
}

impl Alone {
    /// Whether a call wants the worker or has it.
    pub(super) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Acquire) > 0
    }

    /// Whether the worker has a call that somebody waits for.
    pub(super) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Acquire)
    }
}

impl Pool {
    /// A pool with so many places for ordinary workers, all of which are used.
    pub(super) fn new(settings: Settings, kind: Arc<dyn Kind>, home: Handle, workers: usize) -> Self {
        Self {
            settings,
            kind,
            home,
            ready_after: OnceLock::new(),
            loaded: OnceLock::new(),
            unready: OnceLock::new(),
            places: (0..=workers).map(Place::new).collect(),
            used: AtomicUsize::new(workers),
            room: AtomicUsize::new(usize::MAX),
            pressed: AtomicUsize::new(0),
            ready: RwLock::default(),
            state: watch::Sender::new(State::Open),
            blame: Mutex::default(),
            suspicious: AtomicBool::new(false),
            alone: Alone {
                turn: Arc::new(Semaphore::new(1)),
                has_turn: AtomicU64::new(NOBODY),
                wanted: AtomicUsize::new(0),
                called: Notify::new(),
                busy: AtomicBool::new(false),
            },
            news: Mutex::default(),
            warnings: Mutex::default(),
        }
    }

    /// Notes what a worker has loaded. Returns how it differs from what the first has, in words.
    pub(super) fn loaded(&self, description: &Description) -> Option<String> {
        self.loaded.get_or_init(|| description.clone()).difference(description)
    }

    /// Waits until a worker has loaded something and was ready. Returns whether one was.
    pub(super) async fn is_loaded(&self) -> bool {
        self.wait_for(|| self.loaded.get()).await.is_some()
    }

    /// Whether no worker has loaded anything yet.
    pub(super) fn is_unready(&self) -> bool {
        self.loaded.get().is_none()
    }

    /// Leaves the places beyond these without a worker.
    pub(super) fn use_only(&self, workers: usize) {
        self.used.store(workers, Ordering::Release);
    }

    /// Notes how many workers there is room for, the one for suspects included.
    pub(super) fn has_room_for(&self, workers: usize) {
        self.room.store(workers, Ordering::Release);
    }

    /// Whether the place is to leave its room to the worker for suspects.
    pub(super) fn yields(&self, place: &Place) -> bool {
        place.index + 1 + self.pressed.load(Ordering::Acquire) >= self.room.load(Ordering::Acquire)
            && self.alone.is_wanted()
            && !self.is_for_suspects(place)
    }

    /// Has more and more places leave their room to the worker for suspects, until it was placed on a node: others may
    /// use the cluster too, and then it has less room than it tells.
    pub(super) async fn press_for(&self, place: &Place, node: &Node) {
        self.pressed.store(0, Ordering::Release);
        let mut pressed = 1;
        while self.is_for_suspects(place) && node.get().is_none() {
            sleep(PATIENCE).await;
            if node.get().is_none() {
                self.pressed.store(pressed, Ordering::Release);
                pressed = (pressed * 2).min(self.places.len());
            }
        }
        std::future::pending::<()>().await;
    }

    /// Whether there is room for no other worker than the one for suspects, who wait for it.
    pub(super) fn is_crowded(&self) -> bool {
        self.yields(&self.places[0])
    }

    /// How many places there are for ordinary workers, used or not.
    pub(super) fn most(&self) -> usize {
        self.places.len() - 1
    }

    /// The places of the ordinary workers.
    pub(super) fn ordinary(&self) -> &[Place] {
        &self.places[..self.used.load(Ordering::Acquire)]
    }

    /// Whether this holds for as many places of ordinary workers as there is room for. The others may wait for room that
    /// never comes.
    pub(super) fn are_as_many_as_fit(&self, is_so: impl Fn(&Place) -> bool) -> bool {
        let room = self.room.load(Ordering::Acquire).max(1);
        self.ordinary().iter().filter(|place| is_so(place)).count() >= room.min(self.ordinary().len())
    }

    /// The place of the worker for suspects.
    pub(super) fn for_suspects(&self) -> &Place {
        &self.places[self.places.len() - 1]
    }

    /// Whether the place is that of the worker for suspects.
    pub(super) fn is_for_suspects(&self, place: &Place) -> bool {
        place.index + 1 == self.places.len()
    }

    /// The number of the place's worker, counted from 1, as users see it.
    pub(super) fn number(&self, place: &Place) -> usize {
        if self.is_for_suspects(place) { self.ordinary().len() + 1 } else { place.index + 1 }
    }

    /// What was started and has not ended.
    pub(super) fn lives(&self) -> Vec<Arc<dyn Life>> {
        self.places.iter().filter_map(Place::life).collect()
    }

    /// Calls may be given to the worker from now on.
    pub(super) fn enter(&self, place: &Place, worker: &Arc<Worker>) {
        place.enter(Arc::clone(worker));
        if !self.is_for_suspects(place) {
            self.ready.write().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(worker));
        }
        self.look_again();
    }

    /// Has whoever waits for a worker look again.
    pub(super) fn look_again(&self) {
        self.state.send_modify(|_| {});
    }

    /// No call is given to the worker any more.
    pub(super) fn leave(&self, place: &Place, worker: &Arc<Worker>) {
        place.leave();
        self.ready.write().unwrap_or_else(PoisonError::into_inner).retain(|one| !Arc::ptr_eq(one, worker));
    }

    /// The ordinary worker with the fewest calls.
    pub(super) fn least_loaded(&self) -> Option<Arc<Worker>> {
        let ready = self.ready.read().unwrap_or_else(PoisonError::into_inner);
        ready.iter().min_by_key(|worker| worker.remote.calls()).cloned()
    }

    pub(super) fn state(&self) -> State {
        *self.state.borrow()
    }

    /// Takes no more calls. The first reason holds.
    pub(super) fn end(&self, how: State) {
        self.state.send_if_modified(|state| {
            // Workers are closed also if no others can be had.
            let news =
                *state == State::Open || matches!((*state, how), (State::Failed(_), State::Closing(_)));
            if news {
                *state = how;
            }
            news
        });
    }

    /// How calls end that are not taken any more.
    pub(super) fn end_of_calls(&self) -> BridgeError {
        match self.state() {
            State::Failed(error) => error,
            State::Open | State::Closing(_) => BridgeError::LoopStopped,
        }
    }

    /// Whether no worker is started any more.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.state(), State::Closing(_) | State::Failed(BridgeError::ClusterLost))
    }

    /// Resolves once the workers are to end, to the time that they have for it.
    pub(super) async fn closing(&self) -> Duration {
        let mut state = self.state.subscribe();
        let closing = state.wait_for(|state| matches!(state, State::Closing(_))).await;
        match closing.map(|state| *state) {
            Ok(State::Closing(within)) => within,
            _ => Duration::ZERO,
        }
    }

    /// Judges rows, after which there may be suspects.
    pub(super) fn blame<T>(&self, judge: impl FnOnce(&mut Blame) -> T) -> T {
        self.suspicious.store(true, Ordering::Release);
        judge(&mut self.blame.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the row may be called only alone.
    pub(super) fn suspects(&self, row: u64) -> bool {
        self.suspicious.load(Ordering::Acquire)
            && self.blame.lock().unwrap_or_else(PoisonError::into_inner).suspects(row)
    }

    /// Waits until there is something, each time a worker is ready. None if no worker will be.
    pub(super) async fn wait_for<T>(&self, look: impl Fn() -> Option<T>) -> Option<T> {
        let mut state = self.state.subscribe();
        loop {
            if *state.borrow_and_update() != State::Open {
                return None;
            }
            if let Some(found) = look() {
                return Some(found);
            }
            state.changed().await.ok()?;
        }
    }

    /// Keeps blockages until they are asked for.
    pub(super) fn note(&self, blocked: &mut Vec<Blockage>) {
        self.news.lock().unwrap_or_else(PoisonError::into_inner).append(blocked);
    }

    /// Keeps what went wrong until it is asked for.
    pub(super) fn warn(&self, text: String) {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    }

    /// Takes what went wrong.
    pub(super) fn warnings(&self) -> Vec<String> {
        std::mem::take(&mut *self.warnings.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn health(&self) -> Health {
        let mut health = Health::default();
        for place in &self.places {
            let Some((lane, nulled, mut news)) = place.health() else { continue };
            self.note(&mut news);
            health.lanes.push(LaneHealth { for_suspects: self.is_for_suspects(place), ..lane });
            health.nulled = sum(health.nulled, nulled);
        }
        health.blocked = std::mem::take(&mut *self.news.lock().unwrap_or_else(PoisonError::into_inner));
        health
    }
}
