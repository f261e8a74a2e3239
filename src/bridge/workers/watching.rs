//! Looks at a worker again and again, and finds when it is to be ended, and why.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::death::Death;
use super::place::{Place, Worker};
use super::pool::Pool;
use crate::bridge::Bridge as _;
use crate::event::{Blockage, Blocker};

/// A worker is found stuck so many times in a row before it is killed. Looks are counted instead of timed because a
/// process that was stopped for a while (SIGTSTP) finds its loop late once, and turning at a later look.
const LOOKS: u32 = 6;
/// If this process looks so late, it did not run itself, and the silence of its workers means nothing.
const LATE: Duration = Duration::from_secs(1);
/// A worker that has given no sign of life for so long does not run at all.
const SILENT: Duration = Duration::from_secs(1);
/// How long a worker may live without its connection, or be dead before what it said last has been read.
pub(super) const PARTING: Duration = Duration::from_secs(1);
/// How long a call that was cancelled may go on in a worker that waits for nothing else.
const RELEASE: Duration = Duration::from_secs(2);
/// How long the worker for suspects stays when there are none.
const LINGER: Duration = Duration::from_secs(5);

/// Why the coordinator ended a worker.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Why {
    /// Its loop has not turned for so long. The row that held it up, if it is known, and where its code was.
    Blocked(Duration, Option<u64>, String),
    /// It gave no sign of life for so long.
    Silent(Duration),
    /// It was alive without a connection.
    Cut,
    /// A call of a suspect did not end when it was cancelled.
    Held,
    /// It took too much memory, or leaves its room to another.
    Leaving,
    /// It is not needed any more.
    Idle,
    /// The bridge is closed.
    Closing,
}

/// What a call that is lost with the worker is told.
pub(super) fn lost(number: usize, death: &Death, why: Option<&Why>) -> String {
    let how = match why {
        None => return format!("worker {number} {death}"),
        Some(Why::Blocked(lasted, ..)) => format!("its event loop did not turn for {}", whole(*lasted)),
        Some(Why::Silent(lasted)) => format!("it gave no sign of life for {}", whole(*lasted)),
        Some(Why::Cut) => "its connection was gone".to_owned(),
        Some(Why::Held) => "a call in it did not end when it was cancelled".to_owned(),
        Some(Why::Leaving | Why::Idle | Why::Closing) => "it was not needed any more".to_owned(),
    };
    format!("worker {number} was ended, for {how}")
}

fn whole(time: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(Duration::from_secs(time.as_secs()))
}

/// What is found of a worker by looking at it again and again.
pub(super) struct Watching<'a> {
    pool: &'a Pool,
    place: &'a Place,
    worker: &'a Arc<Worker>,
    for_suspects: bool,
    looked: Instant,
    /// How often in a row it was found stuck.
    stuck: u32,
    /// It takes no calls any more.
    leaving: bool,
    /// Since when it was not connected, had only calls that nobody waits for, or was not needed.
    cut: Option<Instant>,
    held: Option<Instant>,
    idle: Option<Instant>,
}

/// Whether it has been so for long.
fn lasts(since: &mut Option<Instant>, is_so: bool, bound: Duration) -> bool {
    if !is_so {
        *since = None;
        return false;
    }
    since.get_or_insert_with(Instant::now).elapsed() > bound
}

impl<'a> Watching<'a> {
    pub(super) fn new(pool: &'a Pool, place: &'a Place, worker: &'a Arc<Worker>) -> Self {
        Self {
            pool,
            place,
            worker,
            for_suspects: pool.is_for_suspects(place),
            looked: Instant::now(),
            stuck: 0,
            leaving: false,
            cut: None,
            held: None,
            idle: None,
        }
    }

    /// Whether the worker is to be ended now.
    pub(super) fn look(&mut self) -> Option<Why> {
        let (pool, remote) = (self.pool, &self.worker.remote);
        if self.looked.elapsed() > LATE {
            remote.excuse_silence();
            self.stuck = 0;
        }
        self.looked = Instant::now();
        let mut health = remote.health();
        pool.note(&mut health.blocked);
        let lane = health.lanes.into_iter().next().unwrap_or_default();
        if lane.stalled_now > pool.settings.kill_after {
            self.stuck += 1;
        } else {
            self.stuck = 0;
        }
        if self.stuck >= LOOKS {
            if remote.silent_for() > SILENT {
                return Some(Why::Silent(lane.stalled_now));
            }
            // The present one is the last.
            let present = lane.blockages.last();
            let row = present.filter(|it| matches!(it.by, Blocker::Line(_))).and_then(|it| it.row);
            let at = present.map_or_else(|| Blocker::Unseen.to_string(), Blockage::traceback);
            return Some(Why::Blocked(lane.stalled_now, row, at));
        }
        if lasts(&mut self.cut, !remote.is_connected(), PARTING) {
            return Some(Why::Cut);
        }
        let is_large = || pool.settings.max_rss.is_some_and(|most| lane.memory > most);
        if !self.leaving && (is_large() || pool.yields(self.place)) {
            self.leaving = true;
            pool.leave(self.place, self.worker);
        }
        let calls = remote.calls();
        // What ignores its cancellation may never end.
        if self.leaving && (calls == 0 || lasts(&mut self.held, !remote.is_awaited(), RELEASE)) {
            return Some(Why::Leaving);
        }
        if self.for_suspects {
            let alone = &pool.alone;
            if lasts(&mut self.held, calls > 0 && !alone.is_busy(), RELEASE) {
                return Some(Why::Held);
            }
            if lasts(&mut self.idle, !alone.is_wanted(), LINGER) {
                return Some(Why::Idle);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_call_is_told_which_worker_died_and_how() {
        assert_eq!(lost(2, &Death::Signal(11), None), "worker 2 died (SIGSEGV)");
        assert_eq!(lost(1, &Death::Exit(3), None), "worker 1 exited (code 3)");
        let blocked = Why::Blocked(Duration::from_millis(65_300), None, String::new());
        let text = "worker 3 was ended, for its event loop did not turn for 1m 5s";
        assert_eq!(lost(3, &Death::Signal(9), Some(&blocked)), text);
    }
}
