//! Looks into an event loop that does not turn: whose call holds it up, and where. Does not end it; nothing can.

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

/// How often it looks.
const INTERVAL: Duration = Duration::from_millis(100);
/// A loop found stalled so many times in a row is blocked, and looked into now and after every so many more. Counted,
/// not timed, for a process that was stopped for a while (SIGTSTP) finds its loop late once and turning at the next.
const LOOKS: u32 = 9;
/// How long it waits for the interpreter's lock: pure Python gives it up every 5 ms.
const PATIENCE: Duration = Duration::from_millis(500);
/// How many blockages are kept.
const KEPT: usize = 20;

/// What it has found.
#[derive(Debug, Default)]
pub(in crate::bridge) struct Watchdog(Mutex<Blockages>);

#[derive(Debug, Default)]
struct Blockages {
    news: Vec<Blockage>,
    /// The present one.
    now: Option<Blockage>,
    /// How long the loop had not turned when it began.
    since: Duration,
    longest: Vec<Blockage>,
}

impl Watchdog {
    /// Watches the loop that the thread runs until `ending`.
    pub(super) fn start(
        thread_id: u64,
        pulse: Arc<Pulse>,
        ending: Arc<AtomicBool>,
        secrets: Secrets,
    ) -> PyResult<Arc<Self>> {
        let this = Arc::<Self>::default();
        let watchdog = Arc::clone(&this);
        std::thread::Builder::new().name("watchdog".into()).spawn(move || {
            let mut looks = 0;
            while !ending.load(Ordering::Acquire) {
                std::thread::sleep(INTERVAL);
                let stalled = pulse.stalled_now();
                if stalled.is_zero() {
                    watchdog.turns(pulse.last_stall());
                    looks = 0;
                    continue;
                }
                looks += 1;
                if looks % LOOKS == 0 {
                    let seen = look(thread_id, &pulse, &secrets);
                    watchdog.blocked(seen, pulse.stalled_now());
                }
            }
        })?;
        Ok(this)
    }

    fn found(&self) -> MutexGuard<'_, Blockages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The loop has not turned for so long, and this is seen of it.
    fn blocked(&self, seen: Option<Seen>, stalled: Duration) {
        let (by, row) = seen.unwrap_or((Blocker::Unseen, None));
        let mut found = self.found();
        // In one stall one call may block after the other; the same one is seen at many lines.
        let before = found.now.as_ref().filter(|now| now.row != row || kind_of(&now.by) != kind_of(&by));
        // An import holds the lock for long, too, where it loads a library in C.
        let before = before.filter(|now| !matches!((&now.by, &by), (Blocker::Import(_), Blocker::Unseen)));
        if found.now.is_some() && before.is_none() {
            return found.lasts(stalled);
        }
        let over = if before.is_some() { stalled } else { Duration::ZERO };
        found.ends(over);
        found.since = over;
        let blockage = Blockage { row, by, lasted: stalled.saturating_sub(over) };
        if found.news.len() < KEPT {
            found.news.push(blockage.clone());
        }
        found.now = Some(blockage);
    }

    /// The loop turns: what held it up is over, and the length of the stall known.
    fn turns(&self, stalled: Duration) {
        let mut found = self.found();
        found.ends(stalled);
        found.since = Duration::ZERO;
    }

    /// What was found since this was asked last.
    pub(in crate::bridge) fn news(&self) -> Vec<Blockage> {
        std::mem::take(&mut self.found().news)
    }

    /// The longest ones, the present one included, in the order of their beginning.
    pub(in crate::bridge) fn longest(&self, pulse: &Pulse) -> Vec<Blockage> {
        let mut found = self.found();
        // Over, and not looked at since, or still going on.
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
        self.longest.extend(self.now.take());
        if self.longest.len() > KEPT
            && let Some((shortest, _)) = self.longest.iter().enumerate().min_by_key(|(_, one)| one.lasted)
        {
            self.longest.remove(shortest);
        }
    }
}

/// Blocker and row.
type Seen = (Blocker, Option<u64>);

/// Where the thread is; none where the interpreter's lock cannot be had, or the loop turned meanwhile.
fn look(thread_id: u64, pulse: &Arc<Pulse>, secrets: &Secrets) -> Option<Seen> {
    let (found, seen) = sync_channel(1);
    let pulse = Arc::clone(pulse);
    // On a thread of its own, for it may wait for the lock as long as the loop is blocked.
    let asking = std::thread::Builder::new().name("look".into()).spawn(move || {
        let at = Python::try_attach(|py| {
            let traces = helpers::module(py, "traces").ok()?;
            let at = traces.call_method1("where_is", (thread_id,)).ok()?;
            at.extract::<Option<(String, Option<u64>, Option<String>)>>().ok()?
        });
        let at = at.flatten().map(|(line, row, import)| match import {
            Some(package) => (Blocker::Import(package), None),
            None => (Blocker::Line(line), row.or(pulse.stepped())),
        });
        let _ = found.send(at.filter(|_| !pulse.stalled_now().is_zero()));
    });
    asking.ok()?;
    let (by, row) = seen.recv_timeout(PATIENCE).ok()??;
    Some(match by {
        Blocker::Line(line) => (Blocker::Line(secrets.mask(&line).into_owned()), row),
        other => (other, row),
    })
}
