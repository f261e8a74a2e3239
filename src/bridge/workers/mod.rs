//! Worker processes as one bridge: each has an interpreter, an event loop and the predictor, and is reached over a
//! socket ([`super::remote`]). What happens to them stays here; the engine learns that calls were lost.
//!
//! # Who takes a call
//!
//! The ready worker with the fewest calls. While none is ready, rows wait without a permit for their turn
//! ([`Bridge::turn`]). A call that finds none all the same waits too, and the wait is charged to no timeout.
//!
//! # A worker's death
//!
//! A worker is dead when it was waited for ([`process`]): an end of the connection proves nothing, since a process that
//! the predictor forked may hold it, and a worker without it may still run its calls. Only when it was reaped, and what
//! it has started was killed, do its calls end, so that no row is called while an earlier call of it runs. Another
//! worker takes its place: the first at once, later ones after longer and longer waits if they are of no use.
//!
//! The rows that a worker held at its death are suspects ([`blame`]). The engine hands them over again, and then each is
//! called alone, on a worker of their own, which is started when there are suspects. They wait for their turn without a
//! permit, and the others go on meanwhile at full width. A suspect whose call ends is cleared. A row that was alone at two or three deaths is set aside.
//!
//! # Actors
//!
//! A worker may also be an actor on a Ray cluster ([`ray`]), of which there are as many as the cluster has room for. The
//! first that is ready begins, and the others join, also those on nodes that come later. Where there is no room for the
//! worker for suspects, another one leaves it its own. An actor that cannot be reached blames no row: its calls are lost
//! once it must have ended itself, and counted as abandoned. If the cluster is lost, all calls end so, and the run with
//! them.
//!
//! # A worker that is ended
//!
//! One whose event loop has not turned for `kill_after` is killed. If its pulses come and name the row that holds the
//! loop up, that row fails for good. If they come and name none, because code holds the interpreter's lock, the rows
//! are suspects, and the one that holds up its loop alone fails. If no pulses come, because the worker was stopped, no
//! row is to blame. Nor is any for a worker that is replaced because it takes too much memory: it gets no more calls,
//! and is closed when those it has are over.
//!
//! # The end of the coordinator
//!
//! A worker ends itself as soon as it sees its coordinator go, without asking the interpreter ([`child`]).
//!
//! # The files
//!
//! | file | what |
//! | --- | --- |
//! | `mod.rs` | [`Workers`]: the bridge as the engine sees it |
//! | `settings.rs` | what workers are started with |
//! | `refusal.rs` | why there are no workers |
//! | `pool.rs` | what the workers of a job share |
//! | `taking.rs` | who takes a call, and who waits |
//! | `place.rs` | a place for a worker, and what is told of all that it had |
//! | `keeper.rs` | keeps a place filled: starts, ends, judges and replaces its worker |
//! | `watching.rs` | when a worker is to be ended, and why |
//! | `growing.rs` | as many workers as a cluster holds |
//! | `blame.rs` | which rows are suspects, and which are set aside |
//! | `death.rs` | how a process died |
//! | `lane.rs` | the lanes of calls, as the engine sees them |
//! | `life.rs` | what a worker lives in, whatever that is |
//! | `process.rs` | processes that are killed with all that they have started |
//! | `ray/` | actors on a Ray cluster, and the process that reaches them |
//! | `memory.rs` | how many workers fit into memory |
//! | `child.rs` | the worker's end |

mod blame;
mod child;
mod death;
mod growing;
mod keeper;
mod lane;
mod life;
mod memory;
mod place;
mod pool;
mod process;
mod ray;
mod refusal;
mod settings;
mod taking;
mod watching;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Handle};
use tokio::task::JoinSet;
use tokio::time::timeout_at;
use tokio_util::sync::CancellationToken;

pub use self::child::serve_coordinator;
use self::keeper::{CannotStart, Live};
use self::life::Kind;
pub use self::life::Node;
use self::pool::{Pool, State};
use self::process::{Processes, Starter};
pub use self::process::{Program, resume, suspend};
use self::ray::Relay;
pub use self::ray::{Cluster, Connect, Log, Warn};
pub use self::refusal::NoWorkers;
pub use self::settings::{Count, Hosts, Settings, Which};
use super::{AwaitTurn, Bridge, Call, Description, Health};
use crate::call::Attempt;
use crate::input::{Misfit, TypedValue, Types};

/// How long workers whose bridge is dropped may take to end.
const DROPPED: Duration = Duration::from_secs(3);
/// How often it is looked whether the workers have ended.
const LOOK: Duration = Duration::from_millis(1);
/// How long before its time is up a worker that has not ended is killed.
const KILL: Duration = Duration::from_millis(300);

/// Worker processes as one bridge. They end by [`Bridge::close`], or unobserved once this is dropped.
pub struct Workers {
    pool: Arc<Pool>,
    description: Description,
    is_typed: bool,
    facts: Vec<u8>,
    note: String,
    /// Ends once the bridge is closed and all workers were reaped.
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workers").field("note", &self.note).finish_non_exhaustive()
    }
}

impl Workers {
    /// Starts the workers, side by side. Call it within a Tokio runtime, on which the calls will be awaited. Blocks
    /// until all are ready, or until `stop` is cancelled, after which all are killed.
    ///
    /// # Errors
    ///
    /// Fails if no worker can load the predictor, with the reason that the first gave, if the machine has no room for
    /// that many processes, if there is no cluster, or if `stop` is cancelled meanwhile.
    pub fn start(settings: Settings, which: Which, stop: CancellationToken) -> Result<Self, NoWorkers> {
        let home = Handle::current();
        let failed = |error: std::io::Error| NoWorkers::Refused(CannotStart::from(error).to_string());
        let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (told, started) = sync_channel(1);
        // A runtime of their own, so that workers are heard also while the job's thread writes to a slow disk.
        let run = move || runtime.block_on(run(settings, which, home, stop, &told));
        let thread = std::thread::Builder::new().name("pool".into()).spawn(run).map_err(failed)?;
        let panicked = |_| NoWorkers::Refused("the thread of the workers has panicked".to_owned());
        let mut workers = started.recv().map_err(panicked)??;
        workers.thread = Some(thread);
        Ok(workers)
    }

    /// What the first worker told when it was ready.
    pub fn facts(&self) -> &[u8] {
        &self.facts
    }

    /// What the predictor is and takes, to be told otherwise where it was loaded on another machine.
    pub fn description(&mut self) -> &mut Description {
        &mut self.description
    }

    /// How many workers there are, and why.
    pub fn note(&self) -> &str {
        &self.note
    }

    /// How long the first worker took, from the start of its process until it was ready.
    pub fn ready_after(&self) -> Duration {
        self.pool.ready_after.get().copied().unwrap_or_default()
    }

    /// Waits until the thread of the workers has ended, or the time has come. Returns whether it has. Blocks.
    fn has_ended_by(&self, until: Instant) -> bool {
        let Some(thread) = &self.thread else { return true };
        while !thread.is_finished() {
            if Instant::now() > until {
                return false;
            }
            sleep(LOOK);
        }
        true
    }
}

/// Starts the workers, tells the bridge, and keeps the workers until the bridge is closed.
async fn run(
    settings: Settings,
    which: Which,
    home: Handle,
    stop: CancellationToken,
    told: &SyncSender<Result<Workers, NoWorkers>>,
) {
    let mut keepers = JoinSet::new();
    let begun = match which {
        Which::Processes { program, count } => {
            with_processes(settings, program, count, home, stop, &mut keepers)
                .await
                .map_err(|error| NoWorkers::Refused(error.to_string()))
        }
        Which::Actors(cluster) => with_actors(settings, *cluster, home, stop, &mut keepers).await,
    };
    let started = begun.and_then(|(pool, note)| {
        let first = pool.least_loaded();
        let gone = || NoWorkers::Refused("the worker has ended as soon as it was ready".to_owned());
        let first = first.ok_or_else(gone)?;
        let remote = &first.remote;
        Ok(Workers {
            description: Description { workers: pool.ordinary().len() as u64, ..remote.describe().clone() },
            is_typed: remote.types().is_some(),
            facts: remote.facts().to_owned(),
            pool,
            note,
            thread: None,
        })
    });
    // If nobody waits any more, the bridge is dropped here, and its workers end.
    let _ = told.send(started);
    keepers.join_all().await;
}

/// A pool with workers, and how many there are, in words.
type Begun = (Arc<Pool>, String);

async fn with_processes(
    settings: Settings,
    program: Program,
    count: Count,
    home: Handle,
    stop: CancellationToken,
    keepers: &mut JoinSet<()>,
) -> Result<Begun, CannotStart> {
    let (most, is_bound) = match count {
        Count::Exactly(number) => (number.get(), false),
        Count::UpTo(number) => (number.get(), true),
    };
    let kind = Arc::new(Processes { starter: Starter::new()?, program });
    let pool = Arc::new(Pool::new(settings, kind, home, most));
    end_once(stop, &pool);
    let (lives, note) = if is_bound {
        let mut lives = start_at(&pool, 0, 1).await?;
        let pid = lives.iter().flatten().find_map(|live| live.life.pid());
        let (fit, note) = memory::fitting(most, pid.and_then(memory::resident), memory::available());
        pool.use_only(fit);
        if fit > 1 {
            lives.append(&mut start_at(&pool, 1, fit).await?);
        }
        (lives, note)
    } else {
        let note = if most == 1 { "1 worker".to_owned() } else { format!("{most} workers") };
        (start_at(&pool, 0, most).await?, note)
    };
    for (index, live) in lives.into_iter().enumerate() {
        if let Some(live) = &live {
            pool.enter(&pool.ordinary()[index], &live.worker);
        }
        keepers.spawn(Arc::clone(&pool).keep(Some(index), live));
    }
    keepers.spawn(Arc::clone(&pool).keep(None, None));
    Ok((pool, note))
}

async fn with_actors(
    settings: Settings,
    cluster: Cluster,
    home: Handle,
    stop: CancellationToken,
    keepers: &mut JoinSet<()>,
) -> Result<Begun, NoWorkers> {
    let (asked, asks_for_all, until) = (cluster.connect.actors, cluster.asks_for_all, cluster.until);
    let (relay, connected) = tokio::select! {
        connected = by(until, Relay::start(cluster)) => connected.unwrap_or_else(|| Err(too_late(None)))?,
        () = stop.cancelled() => return Err(NoWorkers::Refused(CannotStart::Closing.to_string())),
    };
    let relay = Arc::new(relay);
    let kind = Arc::clone(&relay) as Arc<dyn Kind>;
    let pool = Arc::new(Pool::new(settings, kind, home, asked));
    end_once(stop, &pool);
    let filled = by(until, pool.fill(&relay, asks_for_all, keepers)).await;
    let filled = filled.unwrap_or_else(|| Err(too_late(relay.why_waiting())));
    if let Err(error) = filled {
        pool.end(State::Closing(DROPPED));
        return Err(error);
    }
    Ok((pool, connected.note))
}

/// Ends the workers once this is cancelled.
fn end_once(stop: CancellationToken, pool: &Arc<Pool>) {
    let pool = Arc::downgrade(pool);
    tokio::spawn(async move {
        stop.cancelled_owned().await;
        let _ = pool.upgrade().map(|pool| pool.end(State::Closing(DROPPED)));
    });
}

/// What comes of it; `None` if the time has come before.
async fn by<T>(until: Option<Instant>, what: impl Future<Output = T>) -> Option<T> {
    match until {
        Some(until) => timeout_at(until.into(), what).await.ok(),
        None => Some(what.await),
    }
}

fn too_late(why: Option<String>) -> NoWorkers {
    let why = why.map(|why| format!(": {why}")).unwrap_or_default();
    NoWorkers::NoCluster(format!("the deadline has passed before an actor was ready{why}"))
}

/// Starts workers at the places, side by side. Those that failed are tried again later, unless all have.
async fn start_at(pool: &Arc<Pool>, from: usize, to: usize) -> Result<Vec<Option<Live>>, CannotStart> {
    let mut starting = JoinSet::new();
    for index in from..to {
        let pool = Arc::clone(pool);
        starting.spawn(async move { (index, pool.start(&pool.ordinary()[index]).await) });
    }
    let mut lives: Vec<_> = (from..to).map(|_| None).collect();
    let mut first = None;
    while let Some(started) = starting.join_next().await {
        match started {
            Ok((index, Ok(live))) => lives[index - from] = Some(live),
            // The others are killed.
            Ok((_, Err(error @ (CannotStart::NoProcess(_) | CannotStart::Changed(_))))) => return Err(error),
            Ok((index, Err(error))) => {
                if first.as_ref().is_none_or(|(other, _)| index < *other) {
                    first = Some((index, error));
                }
            }
            Err(panic) => return Err(std::io::Error::other(panic).into()),
        }
    }
    match first {
        Some((_, error)) if lives.iter().all(Option::is_none) => Err(error),
        Some((_, error)) => {
            pool.warn(format!("a worker could not be started, and is tried again: {error}"));
            Ok(lives)
        }
        None => Ok(lives),
    }
}

impl Bridge for Workers {
    fn describe(&self) -> &Description {
        &self.description
    }

    fn types(&self) -> Option<&dyn Types> {
        self.is_typed.then_some(self)
    }

    fn submit(&self, attempt: Attempt) -> Call {
        self.pool.submit(attempt)
    }

    fn turn(&self, row: u64) -> Option<AwaitTurn> {
        self.pool.turn(row)
    }

    fn health(&self) -> Health {
        self.pool.health()
    }

    fn warnings(&self) -> Vec<String> {
        self.pool.warnings()
    }

    fn left_behind(&self) -> Duration {
        self.pool.kind.left_behind()
    }

    fn close(&self, within: Duration) -> bool {
        let begun = Instant::now();
        let (until, kill) = (begun + within, begun + within.saturating_sub(KILL.min(within / 2)));
        self.pool.end(State::Closing(within));
        // The thread ends once all workers have, those included that were still starting.
        let mut ended = self.has_ended_by(kill);
        if !ended {
            self.pool.lives().iter().for_each(|life| life.kill());
            ended = self.has_ended_by(until);
        }
        self.pool.kind.close(until) && ended
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.pool.end(State::Closing(DROPPED));
    }
}

impl Types for Workers {
    fn check(
        &self,
        directory: &Path,
        batches: &mut (dyn Iterator<Item = Vec<TypedValue>> + Send),
        told: &mut dyn FnMut(Misfit) -> bool,
    ) -> Result<(), String> {
        let worker = self.pool.least_loaded().ok_or("there is no worker left that knows the types")?;
        worker.remote.types().map_or(Ok(()), |types| types.check(directory, batches, told))
    }
}

#[cfg(test)]
mod tests;
