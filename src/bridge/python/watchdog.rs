//! Finds out which call blocks an event loop that does not turn, and at which line. Nothing can end such a call.

use std::mem::discriminant as kind_of;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;

use super::helpers;
use super::pulse::Pulse;
use crate::call::Lane as _;
use crate::event::{Blockage, Blocker};
use crate::secret::Secrets;

/// How often the loop is looked at.
const INTERVAL: Duration = Duration::from_millis(100);
/// A loop that is found stalled so many times in a row is blocked. It is looked into then, and after every so many more
/// looks. Looks are counted instead of timed because a process that was stopped for a while (SIGTSTP) finds its loop
/// late once and turning at the next look.
const LOOKS: u32 = 9;
/// How long to wait for the interpreter's lock. Pure Python gives it up every 5 ms.
const PATIENCE: Duration = Duration::from_millis(500);
/// The most blockages that are kept.
const KEPT: usize = 20;

/// What was found of one loop.
#[derive(Debug, Default)]
pub(in crate::bridge) struct Watchdog(Mutex<Blockages>);

#[derive(Debug, Default)]
struct Blockages {
    news: Vec<Blockage>,
    /// The present blockage.
    now: Option<Blockage>,
    /// For how long the loop had not turned when the present blockage began.
    since: Duration,
    longest: Vec<Blockage>,
}

impl Watchdog {
    /// Watches the loop that the thread runs until `ending`.
    ///
    /// # Errors
    ///
    /// Fails if no thread can be started.
    pub(super) fn start(
        self: Arc<Self>,
        thread_id: u64,
        pulse: Arc<Pulse>,
        ending: Arc<AtomicBool>,
        secrets: Secrets,
    ) -> std::io::Result<()> {
        let watch = move || {
            let mut looks = 0;
            while !ending.load(Ordering::Acquire) {
                std::thread::sleep(INTERVAL);
                let stalled = pulse.stalled_now();
                if stalled.is_zero() {
                    self.turns(pulse.last_stall());
                    looks = 0;
                    continue;
                }
                looks += 1;
                if looks % LOOKS == 0 {
                    let seen = look(thread_id, &pulse, &secrets);
                    self.blocked(seen, pulse.stalled_now());
                }
            }
        };
        std::thread::Builder::new().name("watchdog".into()).spawn(watch).map(drop)
    }

    fn found(&self) -> MutexGuard<'_, Blockages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the loop has not turned for so long, and what was seen of it.
    fn blocked(&self, seen: Option<Seen>, stalled: Duration) {
        let (by, row, stack) = seen.unwrap_or((Blocker::Unseen, None, String::new()));
        let mut found = self.found();
        let mut over = Duration::ZERO;
        if let Some(now) = &mut found.now {
            // An import that loads a C library holds the interpreter's lock for long too.
            let imports = matches!((&now.by, &by), (Blocker::Import(_), Blocker::Unseen));
            // Several calls may block one after the other in one stall. One call may be seen at many lines.
            if imports || now.row == row && kind_of(&now.by) == kind_of(&by) {
                if !imports {
                    (now.by, now.stack) = (by, stack);
                }
                return found.lasts(stalled);
            }
            over = stalled;
        }
        found.ends(over);
        found.since = over;
        let blockage = Blockage { row, by, stack, lasted: stalled.saturating_sub(over) };
        if found.news.len() < KEPT {
            found.news.push(blockage.clone().brief());
        }
        found.now = Some(blockage);
    }

    /// Notes that the loop turns: the blockage is over, and the length of the stall is known.
    fn turns(&self, stalled: Duration) {
        let mut found = self.found();
        found.ends(stalled);
        found.since = Duration::ZERO;
    }

    /// Takes the blockages found since the last call.
    pub(in crate::bridge) fn news(&self) -> Vec<Blockage> {
        std::mem::take(&mut self.found().news)
    }

    /// The longest blockages, including the present one, in the order of their beginning.
    pub(in crate::bridge) fn longest(&self, pulse: &Pulse) -> Vec<Blockage> {
        let mut found = self.found();
        // The stall is over and was not looked at since, or it still goes on.
        let stalled = pulse.stalled_now();
        found.lasts(if stalled.is_zero() { pulse.last_stall() } else { stalled });
        found.longest.iter().chain(&found.now).cloned().collect()
    }
}

impl Blockages {
    fn lasts(&mut self, stalled: Duration) {
        let since = self.since;
        if let Some(now) = &mut self.now {
            now.lasted = stalled.saturating_sub(since);
        }
    }

    fn ends(&mut self, stalled: Duration) {
        self.lasts(stalled);
        self.longest.extend(self.now.take().map(Blockage::brief));
        if self.longest.len() > KEPT
            && let Some((shortest, _)) = self.longest.iter().enumerate().min_by_key(|(_, one)| one.lasted)
        {
            self.longest.remove(shortest);
        }
    }
}

/// Blocker, row and stack.
type Seen = (Blocker, Option<u64>, String);

/// Where the thread is. None if the interpreter's lock cannot be had, or the loop has turned meanwhile.
fn look(thread_id: u64, pulse: &Arc<Pulse>, secrets: &Secrets) -> Option<Seen> {
    let (found, seen) = sync_channel(1);
    let pulse = Arc::clone(pulse);
    // On a thread of its own, because it may wait for the lock for as long as the loop is blocked.
    let asking = std::thread::Builder::new().name("look".into()).spawn(move || {
        let at = Python::try_attach(|py| {
            let traces = helpers::module(py, "traces").ok()?;
            let at = traces.call_method1("where_is", (thread_id,)).ok()?;
            at.extract::<Option<(String, String, Option<u64>, Option<String>)>>().ok()?
        });
        let at = at.flatten().map(|(line, stack, row, import)| match import {
            Some(package) => (Blocker::Import(package), None, stack),
            None => (Blocker::Line(line), row.or(pulse.stepped()), stack),
        });
        let _ = found.send(at.filter(|_| !pulse.stalled_now().is_zero()));
    });
    asking.ok()?;
    let (by, row, stack) = seen.recv_timeout(PATIENCE).ok()??;
    let by = match by {
        Blocker::Line(line) => Blocker::Line(secrets.mask(&line).into_owned()),
        other => other,
    };
    Some((by, row, secrets.mask(&stack).into_owned()))
}
