//! Keeps a place filled: starts its worker, watches it, ends it where that is needed, judges its calls when it is dead,
//! and starts another one.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::death::Death;
use super::life::{Died, Life, Node, Started};
use super::place::{Place, Worker};
use super::pool::{Pool, State};
use super::watching::{PARTING, Watching, Why, lost};
use crate::bridge::Bridge as _;
use crate::bridge::remote::{ConnectError, Remote, StreamTransport};
use crate::error::{BridgeError, CallError, Failure};

/// How often a worker is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// How long a worker that is not needed any more may take to end.
const LEAVING: Duration = Duration::from_secs(3);
/// The wait before a worker is started when the last one was of no use. It doubles each time.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// The longest such wait.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// A worker that is alive.
pub(super) struct Live {
    pub(super) worker: Arc<Worker>,
    pub(super) life: Arc<dyn Life>,
    died: Died,
}

/// Why a worker cannot be started.
#[derive(Debug, thiserror::Error)]
pub(super) enum CannotStart {
    /// The predictor cannot be loaded. The text holds the reason and the remedy.
    #[error("{0}")]
    Refused(String),
    /// It has loaded another predictor than the workers before it.
    #[error(
        "the predictor is not the one that the run began with: {0} meanwhile\nhint: put back what it was; \
         or end the run, and `resume` goes on with what it is now"
    )]
    Changed(String),
    /// It died before it was ready.
    #[error("worker {0} {1} before it was ready")]
    Died(usize, Death),
    /// There can be no process.
    #[error("failed to start a worker: {0}{hint}", hint = hint(.0))]
    NoProcess(#[from] io::Error),
    /// The job has ended meanwhile.
    #[error("the workers are to end")]
    Closing,
    /// It leaves its room to the worker for suspects.
    #[error("another worker needs its room")]
    Yields,
}

/// The remedy where the machine has no room for a process.
fn hint(error: &io::Error) -> &'static str {
    use rustix::io::Errno;
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    if matches!(errno, Some(Errno::AGAIN | Errno::NOMEM | Errno::MFILE | Errno::NFILE)) {
        "\nhint: the machine allows no more processes, memory or open files: lower `--workers`"
    } else {
        ""
    }
}

/// The wait before the next worker, after so many that were of no use.
fn wait_after(useless: u32) -> Duration {
    match useless {
        0 => Duration::ZERO,
        _ => FIRST_WAIT.saturating_mul(1 << (useless - 1).min(16)).min(LONGEST_WAIT),
    }
}

impl Pool {
    /// Starts a worker and waits until it is ready. It takes no calls yet.
    pub(super) async fn start(&self, place: &Place) -> Result<Live, CannotStart> {
        let begun = Instant::now();
        let Started { life, socket, mut died, node } = self.kind.start().await?;
        place.started(Arc::clone(&life));
        let connected = self.connect(place, socket, &mut died, &node).await;
        let error = match connected {
            Ok(remote) => {
                self.ready_after.get_or_init(|| begun.elapsed());
                let worker = Arc::new(Worker::new(self.number(place), remote, self.settings.kill_after));
                return Ok(Live { worker, life, died });
            }
            Err(error) => error,
        };
        life.kill();
        died.wait().await;
        place.gone(None, false);
        if matches!(error, CannotStart::Refused(_)) {
            place.refused(life, node);
        }
        Err(error)
    }

    async fn connect(
        &self,
        place: &Place,
        socket: std::os::unix::net::UnixStream,
        died: &mut Died,
        node: &Node,
    ) -> Result<Remote, CannotStart> {
        socket.set_nonblocking(true)?;
        let transport = StreamTransport(UnixStream::from_std(socket)?);
        let host = (self.settings.host)(self.number(place), node);
        let connecting = Remote::connect(transport, &self.settings.load, host, &self.home);
        tokio::pin!(connecting);
        let (connected, death) = tokio::select! {
            connected = &mut connecting => (Some(connected), None),
            death = died.wait() => {
                // It may have said why.
                (timeout(PARTING, &mut connecting).await.ok(), Some(death))
            }
            _ = self.closing() => return Err(CannotStart::Closing),
            () = self.must_yield(place) => return Err(CannotStart::Yields),
            () = self.press_for(place, node) => return Err(CannotStart::Yields),
        };
        match (connected, death) {
            (Some(Ok(remote)), None) => match self.loaded(remote.describe()) {
                Some(difference) => Err(CannotStart::Changed(difference)),
                None => Ok(remote),
            },
            (Some(Err(ConnectError::Refused(reason))), _) => Err(CannotStart::Refused(reason)),
            (_, Some(Death::NotMade(reason))) => Err(CannotStart::Refused(reason.to_string())),
            (_, Some(death)) => Err(CannotStart::Died(self.number(place), death)),
            (_, None) => {
                let death = timeout(PARTING, died.wait()).await.unwrap_or(Death::Unknown);
                Err(CannotStart::Died(self.number(place), death))
            }
        }
    }

    /// Keeps the place of an ordinary worker filled, or that of the worker for suspects, until the bridge is closed. `live`
    /// is the worker that it has already.
    pub(super) async fn keep(self: Arc<Self>, index: Option<usize>, mut live: Option<Live>) {
        let place = index.map_or_else(|| self.for_suspects(), |index| &self.ordinary()[index]);

        let mut useless = u32::from(live.is_none() && index.is_some() && !self.is_unready());
        // One that is alive already is ended in order, also if the bridge was closed before this begins.
        while live.is_some() || !self.is_over() {
            let present = match live.take() {
                Some(live) => live,
                None => match self.next(place, useless).await {
                    Ok(live) => {
                        self.enter(place, &live.worker);
                        live
                    }
                    Err(CannotStart::Closing) => return,
                    Err(CannotStart::Yields) => continue,
                    Err(error) if self.is_unready() => {
                        if !self.others_load(place, &error).await {
                            return;
                        }
                        self.cannot_start(place, &error);
                        useless += 1;
                        continue;
                    }
                    Err(error) => {
                        self.cannot_start(place, &error);
                        useless += 1;
                        continue;
                    }
                },
            };
            place.failures.store(0, Ordering::Relaxed);
            let worker = Arc::clone(&present.worker);
            let (death, why) = self.watch(place, present).await;
            // Replies that it sent before it died are still to be read: their rows were answered. The wait is bounded
            // because a process that left its group may hold the connection.
            self.leave(place, &worker);
            let _ = timeout(PARTING, worker.remote.disconnected()).await;
            // Before its calls are ended.
            let was_of_use = worker.was_of_use() || matches!(why, Some(Why::Idle | Why::Leaving));
            self.settle(place, &worker, &death, why.as_ref());
            useless = if was_of_use { 0 } else { useless + 1 };
        }
    }

    /// Starts the next worker: when one is wanted, and after a wait.
    async fn next(&self, place: &Place, useless: u32) -> Result<Live, CannotStart> {
        let wanted = async {
            while self.is_for_suspects(place) && !self.alone.is_wanted() {
                self.alone.called.notified().await;
            }
            while self.yields(place) {
                sleep(LOOK).await;
            }
            sleep(wait_after(useless)).await;
        };
        tokio::select! {
            () = wanted => self.start(place).await,
            _ = self.closing() => Err(CannotStart::Closing),
        }
    }

    /// Resolves once the place is to leave its room to the worker for suspects.
    async fn must_yield(&self, place: &Place) {
        while !self.yields(place) {
            sleep(LOOK).await;
        }
    }

    /// Notes that a worker could not be started before another one has loaded what it is asked for, and waits for one
    /// that has: what none could load is not tried again. Returns whether there is one.
    async fn others_load(&self, place: &Place, error: &CannotStart) -> bool {
        self.unready.get_or_init(|| error.to_string());
        place.failures.fetch_add(1, Ordering::Relaxed);
        if self.are_as_many_as_fit(|place| place.failures.load(Ordering::Relaxed) > 0) {
            self.end(State::Failed(BridgeError::LoopStopped));
        }
        let loaded = self.is_loaded().await;
        place.failures.store(0, Ordering::Relaxed);
        loaded
    }

    /// Notes that a worker could not be started. If there is none and none could be started for long, the run ends. If
    /// only the worker for suspects is missing, they fail, and the others go on.
    fn cannot_start(&self, place: &Place, error: &CannotStart) {
        let failures = place.failures.fetch_add(1, Ordering::Relaxed) + 1;
        let number = self.number(place);
        let is_end = self.least_loaded().is_none() && self.are_as_many_as_fit(Place::is_hopeless);
        if let Some(node) = place.shun() {
            self.warn(format!(
                "worker {number} cannot be started on {node}, which gets no more workers: {error}"
            ));
        } else if !is_end && failures.is_power_of_two() {
            let again = if failures > 1 { format!(", after {failures} attempts") } else { String::new() };
            self.warn(format!("worker {number} cannot be started yet{again}: {error}"));
        }
        if is_end {
            self.warn(format!("no worker could be started {failures} times in a row: {error}"));
            self.end(State::Failed(BridgeError::NoWorkers));
        } else if self.is_for_suspects(place) && place.is_hopeless() {
            // Those that wait for it fail.
            self.look_again();
        }
    }

    /// Watches a worker until its end is known. Returns how it died, and why, if the coordinator ended it.
    async fn watch(&self, place: &Place, live: Live) -> (Death, Option<Why>) {
        let Live { worker, life, mut died } = live;
        let mut watching = Watching::new(self, place, &worker);
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut why = None;
        let mut until: Option<Instant> = None;
        loop {
            tokio::select! {
                biased;
                death = died.wait() => return (death, why),
                within = self.closing(), if why != Some(Why::Closing) => {
                    self.leave(place, &worker);
                    worker.remote.ask_to_close(within);
                    (why, until) = (Some(Why::Closing), Some(Instant::now() + within));
                }
                _ = looks.tick() => {}
            }
            if until.is_some_and(|until| Instant::now() > until) {
                life.kill();
            }
            if why.is_some() {
                continue;
            }
            why = watching.look();
            match &why {
                None => {}
                Some(Why::Leaving | Why::Idle) => {
                    self.leave(place, &worker);
                    worker.remote.ask_to_close(LEAVING);
                    until = Some(Instant::now() + LEAVING);
                }
                Some(_) => {
                    self.leave(place, &worker);
                    life.kill();
                }
            }
        }
    }

    /// Ends the calls of a worker whose end is known.
    fn settle(&self, place: &Place, worker: &Arc<Worker>, death: &Death, why: Option<&Why>) {
        let rows = worker.rows();
        let mut verdict = None;
        let mut is_death = true;
        match why {
            None => {
                tracing::info!("worker {} {death} with {} calls in flight", worker.number, rows.len());
                // What cut a worker off is not to be found in its rows.
                let crash = if death.is_seen() { self.blame(|blame| blame.died(&rows, death)) } else { None };
                verdict = crash.map(|(row, text)| (row, CallError::Crash(text)));
            }
            Some(Why::Blocked(lasted, seen, at)) => {
                let seen = seen.filter(|row| rows.contains(row));
                if let Some(row) = seen.or_else(|| self.blame(|blame| blame.blocked(&rows))) {
                    self.blame(|blame| blame.clear(row));
                    verdict = Some((row, CallError::Predictor(Box::new(Failure::blocked(*lasted, at)))));
                }
            }
            Some(Why::Silent(_) | Why::Cut | Why::Held) => {}
            Some(Why::Leaving | Why::Idle | Why::Closing) => is_death = false,
        }
        let after = match why {
            Some(Why::Closing) => CallError::Bridge(self.end_of_calls()),
            _ if matches!(self.state(), State::Failed(_)) => CallError::Bridge(self.end_of_calls()),
            _ => CallError::Lost(lost(worker.number, death, why)),
        };
        let others = after.clone();
        // Before its calls end, so that whoever has a reply finds the death counted.
        let mut last = worker.remote.health();
        self.note(&mut last.blocked);
        place.gone(Some(last), is_death);
        worker.remote.lose(after, death.is_seen(), |row| match &verdict {
            Some((blamed, error)) if *blamed == row => error.clone(),
            _ => others.clone(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_replacement_is_quick_and_later_ones_are_slower() {
        let waits: Vec<_> = (0..9).map(|useless| wait_after(useless).as_millis()).collect();
        assert_eq!(waits, [0, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(wait_after(u32::MAX), LONGEST_WAIT);
    }

    #[test]
    fn a_machine_without_room_for_a_process_is_told_with_the_remedy() {
        let full = CannotStart::NoProcess(io::Error::from_raw_os_error(11));
        assert!(full.to_string().ends_with("lower `--workers`"), "{full}");
        let absent = CannotStart::NoProcess(io::ErrorKind::NotFound.into());
        assert!(!absent.to_string().contains("hint"));
    }
}
