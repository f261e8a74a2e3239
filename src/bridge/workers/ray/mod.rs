//! Workers that are actors on a Ray cluster. This process does not load Ray: it starts another one, the *relay*, which
//! reaches the cluster, starts the actors, and carries the frames between each actor and a socket of its own.
//!
//! What the relay is told and tells goes over its standard input, which is a socket too ([`control`]). An actor is never
//! restarted: the next one has another number and another socket, so nothing that an earlier one said is taken for the
//! word of a later one.
//!
//! # Deaths
//!
//! The relay says that an actor has died once it cannot be running its calls any more: because its node saw the process
//! end, or because nothing was heard of it for so long that it must have ended itself. The calls of such a one count as
//! abandoned. The relay's own end is the end of the cluster. Actors that it left behind may go on for a while:
//! [`Bridge::left_behind`](crate::bridge::Bridge::left_behind).

mod control;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::ChildStderr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;
use std::time::{Duration, Instant};

use rustix::process::Pid;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

pub use self::control::Connect;
pub(super) use self::control::Connected;
use self::control::{FromRelay, ToRelay, send};
use super::death::Death;
use super::life::{Died, Kind, Life, Node, Started, Starting};
use super::process::{Process, Program, Spawned, Starter};
use super::refusal::NoWorkers;
use crate::secret::Secrets;

/// How long the relay's last words may take to arrive once it has ended.
const PARTING: Duration = Duration::from_secs(1);
/// Lines of the relay's that are repeated in an error.
const LAST_WORDS: usize = 12;
/// The longest line that is taken from the relay's standard error, in bytes.
const LONGEST: u64 = 64 << 10;

/// Shows a line.
pub type Log = Box<dyn Fn(&[u8]) + Send>;

/// Is told what went wrong, in words for people.
pub type Warn = Box<dyn Fn(String) + Send + Sync>;

/// A cluster, and how it is reached.
pub struct Cluster {
    /// The program that becomes the relay.
    pub relay: Program,
    /// What is asked for.
    pub connect: Connect,
    /// Whether all actors are asked for at once, also those that there is no room for: a cluster may grow for them.
    pub asks_for_all: bool,
    /// When the first actor must be ready at the latest.
    pub until: Option<Instant>,
    /// Texts that must not be shown.
    pub secrets: Secrets,
    /// Shows a line that the relay wrote to its standard error.
    pub log: Log,
    /// Is told why there are no actors yet, until the first is ready.
    pub warn: Warn,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("relay", &self.relay)
            .field("connect", &self.connect)
            .finish_non_exhaustive()
    }
}

/// The process that reaches the cluster. Dropping it kills it, and with it all actors end.
pub(super) struct Relay {
    process: Process,
    shared: Arc<Shared>,
    closing: AtomicBool,
}

/// A line for the relay, and a descriptor that goes along.
type Letter = (Vec<u8>, Option<OwnedFd>);

struct Shared {
    letters: Sender<Letter>,
    actors: Mutex<Actors>,
    /// The end of an actor is known.
    ended: Condvar,
    capacity: watch::Sender<usize>,
    /// Why nothing can go on.
    lost: watch::Sender<Option<String>>,
    warn: Mutex<Warn>,
}

#[derive(Default)]
struct Actors {
    next: u64,
    /// Those whose end is not known.
    alive: BTreeMap<u64, Known>,
    /// Whether there can be no more.
    over: bool,
    /// Why the last one that was not placed yet has to wait. It is told once, until one is placed.
    waiting: Option<String>,
    /// How long one may go on that is cut off.
    gone_after: Duration,
    /// When all must have ended that were left behind as the cluster was lost.
    left_until: Option<Instant>,
}

/// What is known of an actor.
struct Known {
    died: watch::Sender<Option<Death>>,
    node: Node,
}

impl Relay {
    /// Starts the relay and waits until it has reached the cluster.
    ///
    /// # Errors
    ///
    /// Fails with the reason and the remedy if it does not.
    pub(super) async fn start(cluster: Cluster) -> Result<(Self, Connected), NoWorkers> {
        let Cluster { relay: program, connect, secrets, log, warn, .. } = cluster;
        let name = program.path.display().to_string();
        let failed = |error: io::Error| {
            NoWorkers::Refused(format!("failed to run `{name}`, which is to reach Ray: {error}"))
        };
        let starter = Starter::new().map_err(failed)?;
        let Spawned { process, socket, mut died, stderr } =
            starter.start(program, true).await.map_err(failed)?;
        let words = Arc::<Mutex<VecDeque<String>>>::default();
        let (letters, outbox) = channel();
        let shared = Arc::new(Shared {
            letters,
            actors: Mutex::default(),
            ended: Condvar::new(),
            capacity: watch::Sender::new(0),
            lost: watch::Sender::new(None),
            warn: Mutex::new(warn),
        });
        let (reader, writer) = (socket.try_clone().map_err(failed)?, socket);
        let (tell, connected) = oneshot::channel();
        let (listening, kept, masked) = (Arc::clone(&shared), Arc::clone(&words), secrets.clone());
        let threads = [
            Builder::new().name("relay says".into()).spawn(move || listen(reader, &listening, &masked, tell)),
            Builder::new().name("relay hears".into()).spawn(move || write(&writer, &outbox)),
            Builder::new().name("relay logs".into()).spawn(move || show(stderr, &*log, &secrets, &kept)),
        ];
        for thread in threads {
            thread.map_err(failed)?;
        }
        shared.tell(&ToRelay::Connect(&connect), None);
        let relay = Self { process, shared, closing: AtomicBool::new(false) };
        match connected.await {
            Ok(Ok(connected)) => {
                relay.shared.capacity.send_replace(connected.capacity);
                Ok((relay, connected))
            }
            Ok(Err(reason)) => Err(reason),
            Err(_) => {
                relay.process.kill();
                let death = timeout(PARTING, died.wait()).await.unwrap_or(Death::Unknown);
                // What it wrote last may still be on its way.
                tokio::time::sleep(Duration::from_millis(100)).await;
                let words = words.lock().unwrap_or_else(PoisonError::into_inner);
                let words = words.iter().map(String::as_str).collect::<Vec<_>>().join("\n");
                let absent = words.contains("No module named");
                let hint = format!(
                    "\nhint: install this program's package and Ray there: `{name} -m pip install \
                     'tokio_asyncio_bridge-….whl[ray]'`"
                );
                Err(NoWorkers::Refused(format!(
                    "`{name}`, which is to reach Ray, {death}: {words}{}",
                    if absent { &*hint } else { "" }
                )))
            }
        }
    }

    /// Has another one be told what goes wrong from now on.
    pub(super) fn warn_by(&self, warn: Warn) {
        *self.shared.warn.lock().unwrap_or_else(PoisonError::into_inner) = warn;
    }

    /// How many actors the cluster holds, as it changes.
    pub(super) fn capacity(&self) -> watch::Receiver<usize> {
        self.shared.capacity.subscribe()
    }

    /// Why an actor waits, if none was placed since that was told.
    pub(super) fn why_waiting(&self) -> Option<String> {
        self.shared.actors().waiting.clone()
    }

    /// Resolves once the cluster is lost, to the reason.
    pub(super) async fn lost(&self) -> String {
        let mut lost = self.shared.lost.subscribe();
        let lost = lost.wait_for(Option::is_some).await;
        lost.ok().and_then(|reason| reason.clone()).unwrap_or_default()
    }

    /// Takes all actors for dead, and starts no more. To be called once the cluster is lost.
    pub(super) fn give_up(&self) {
        let mut actors = self.shared.actors();
        actors.over = true;
        for (_, known) in std::mem::take(&mut actors.alive) {
            let how = "was lost with the cluster".into();
            known.died.send_replace(Some(Death::Told { how, is_seen: false }));
        }
        drop(actors);
        self.shared.ended.notify_all();
    }
}

impl Kind for Relay {
    fn start(&self) -> Starting<'_> {
        let started = self.shared.start();
        Box::pin(std::future::ready(started))
    }

    fn close(&self, until: Instant) -> bool {
        if !self.closing.swap(true, Ordering::Relaxed) {
            let left = until.saturating_duration_since(Instant::now());
            self.shared.tell(&ToRelay::Close(left.as_secs_f64()), None);
        }
        let ended = self.process.await_end(until);
        if !ended {
            self.process.kill();
        }
        ended
    }

    fn left_behind(&self) -> Duration {
        let until = self.shared.actors().left_until;
        until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()))
    }
}

impl Shared {
    fn actors(&self) -> MutexGuard<'_, Actors> {
        self.actors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the relay something, unless it is gone.
    fn tell(&self, message: &ToRelay<'_>, descriptor: Option<OwnedFd>) {
        let mut line = serde_json::to_vec(message).unwrap_or_default();
        line.push(b'\n');
        let _ = self.letters.send((line, descriptor));
    }

    fn start(self: &Arc<Self>) -> io::Result<Started> {
        let (ours, theirs) = UnixStream::pair()?;
        let (tell, died) = watch::channel(None);
        let node = Node::default();
        let mut actors = self.actors();
        if actors.over {
            return Err(io::Error::other("the cluster is lost"));
        }
        let id = actors.next;
        actors.next += 1;
        actors.alive.insert(id, Known { died: tell, node: Arc::clone(&node) });
        drop(actors);
        self.tell(&ToRelay::Start(id), Some(theirs.into()));
        let life = Arc::new(Actor { id, shared: Arc::clone(self), killed: AtomicBool::new(false) });
        Ok(Started { life, socket: ours, died: Died(died), node })
    }

    /// Takes in what the relay says, except for how the connection to the cluster went.
    fn take(&self, message: FromRelay) {
        match message {
            FromRelay::Placed { placed, node } => {
                let mut actors = self.actors();
                actors.waiting = None;
                if let Some(known) = actors.alive.get(&placed) {
                    let _ = known.node.set(node);
                }
            }
            FromRelay::Waiting { why, .. } => {
                if self.actors().waiting.replace(why.clone()).is_none() {
                    self.warn.lock().unwrap_or_else(PoisonError::into_inner)(format!(
                        "an actor waits: {why}"
                    ));
                }
            }
            FromRelay::Died { died, how, proven } => {
                self.end(died, Death::Told { how: how.into(), is_seen: proven });
            }
            FromRelay::Cannot { cannot, why } => self.end(cannot, Death::NotMade(why.into())),
            FromRelay::Capacity { capacity } => {
                self.capacity.send_replace(capacity);
            }
            FromRelay::Lost { lost } => self.lose(lost),
            FromRelay::Connected { .. } | FromRelay::Failed { .. } => {}
        }
    }

    /// An actor has ended.
    fn end(&self, id: u64, death: Death) {
        if let Some(known) = self.actors().alive.remove(&id) {
            known.died.send_replace(Some(death));
        }
        self.ended.notify_all();
    }

    /// The first reason holds.
    fn lose(&self, why: String) {
        let mut actors = self.actors();
        if actors.left_until.is_none() && actors.alive.values().any(|known| known.node.get().is_some()) {
            actors.left_until = Some(Instant::now() + actors.gone_after);
        }
        drop(actors);
        self.lost.send_if_modified(|lost| {
            let is_news = lost.is_none();
            lost.get_or_insert(why);
            is_news
        });
    }
}

/// What is told of the connection to the cluster.
type Tell = oneshot::Sender<Result<Connected, NoWorkers>>;

/// Takes in what the relay says, until it ends.
fn listen(socket: UnixStream, shared: &Shared, secrets: &Secrets, tell: Tell) {
    let mut tell = Some(tell);
    for line in BufReader::new(socket).lines() {
        let Ok(line) = line else { break };
        match serde_json::from_str(&secrets.mask(&line)) {
            Ok(FromRelay::Connected { connected }) => {
                shared.actors().gone_after =
                    Duration::try_from_secs_f64(connected.gone_after).unwrap_or_default();
                let _ = tell.take().map(|tell| tell.send(Ok(connected)));
            }
            Ok(FromRelay::Failed { failed, unreachable }) => {
                let kind = if unreachable { NoWorkers::NoCluster } else { NoWorkers::Refused };
                let _ = tell.take().map(|tell| tell.send(Err(kind(failed))));
            }
            Ok(message) => shared.take(message),
            Err(error) => tracing::error!("failed to read what the relay to Ray said: {error}"),
        }
    }
    shared.lose("the process that reaches it has ended".to_owned());
}

/// Sends what the relay is told, until nobody is left to tell it, or it is gone.
fn write(socket: &UnixStream, letters: &Receiver<Letter>) {
    for (line, descriptor) in letters {
        if send(socket, &line, descriptor.as_ref()).is_err() {
            return;
        }
    }
}

/// Shows what the relay writes to its standard error, line by line, and keeps the last ones.
fn show(
    stderr: Option<ChildStderr>,
    log: &dyn Fn(&[u8]),
    secrets: &Secrets,
    words: &Mutex<VecDeque<String>>,
) {
    let Some(stderr) = stderr else { return };
    let mut stderr = BufReader::new(stderr);
    let mut line = Vec::new();
    while stderr.by_ref().take(LONGEST).read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        let shown = secrets.mask_bytes(&line);
        log(&shown);
        let mut words = words.lock().unwrap_or_else(PoisonError::into_inner);
        if words.len() == LAST_WORDS {
            words.pop_front();
        }
        words.push_back(String::from_utf8_lossy(&shown).trim_end().to_owned());
        line.clear();
    }
}

/// An actor.
struct Actor {
    id: u64,
    shared: Arc<Shared>,
    killed: AtomicBool,
}

impl fmt::Debug for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Actor").field(&self.id).finish()
    }
}

impl Life for Actor {
    fn kill(&self) {
        let lives = self.shared.actors().alive.contains_key(&self.id);
        if lives && !self.killed.swap(true, Ordering::Relaxed) {
            self.shared.tell(&ToRelay::Kill(self.id), None);
        }
    }

    fn pid(&self) -> Option<Pid> {
        None
    }

    fn await_end(&self, until: Instant) -> bool {
        let mut actors = self.shared.actors();
        while actors.alive.contains_key(&self.id) {
            let Some(left) = until.checked_duration_since(Instant::now()) else { return false };
            actors = self.shared.ended.wait_timeout(actors, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    fn is_refused(&self) {
        self.shared.tell(&ToRelay::Refused(self.id), None);
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        self.kill();
    }
}
