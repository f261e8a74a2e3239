//! Calls `fdatasync` continuously on a thread of its own, so that no call's permit is held for the disk.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The rest between one sync and the next, unless somebody waits for it. Each sync holds up the writes beside it.
/// Without a rest, a run of light calls makes ten thousand syncs a second, and no answer is safe any sooner.
const REST: Duration = Duration::from_millis(2);

/// Syncs as long as anything is unsynced. Dropping it waits for a sync that is under way.
#[derive(Debug)]
pub(super) struct Syncer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<SyncState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct SyncState {
    /// When the oldest write was made that no sync has begun to cover.
    unsynced_since: Option<Instant>,
    syncing: bool,
    /// When the last sync ended.
    rested_since: Option<Instant>,
    /// How many callers wait until everything is synced.
    waiting: usize,
    closing: bool,
    syncs: u64,
    longest_unsynced: Duration,
    failure: Option<Arc<io::Error>>,
}

impl Syncer {
    pub(super) fn spawn(sync: impl FnMut() -> io::Result<()> + Send + 'static) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let thread = thread::Builder::new().name("journal-sync".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || shared.run(sync)
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Notes that a `write()` has returned.
    pub(super) fn written(&self) {
        let mut state = self.shared.lock();
        let news = state.unsynced_since.is_none();
        state.unsynced_since.get_or_insert_with(Instant::now);
        drop(state);
        if news {
            self.shared.changed.notify_all();
        }
    }

    /// Fails if any sync so far has failed. The kernel may have dropped what it could not write and does not tell
    /// twice, so no failed sync is tried again.
    pub(super) fn check(&self) -> Result<(), Arc<io::Error>> {
        self.shared.lock().failure.clone().map_or(Ok(()), Err)
    }

    /// Waits until everything written is synced.
    pub(super) fn wait(&self) -> Result<(), Arc<io::Error>> {
        let mut state = self.shared.lock();
        state.waiting += 1;
        self.shared.changed.notify_all();
        while state.failure.is_none() && (state.syncing || state.unsynced_since.is_some()) {
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting -= 1;
        state.failure.clone().map_or(Ok(()), Err)
    }

    /// Completed syncs, and the longest time from a write to the end of the sync that covers it.
    pub(super) fn figures(&self) -> (u64, Duration) {
        let state = self.shared.lock();
        (state.syncs, state.longest_unsynced)
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.shared.lock().closing = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn run(&self, mut sync: impl FnMut() -> io::Result<()>) {
        while let Some(since) = self.next() {
            let result = sync();
            let mut state = self.lock();
            (state.syncing, state.rested_since) = (false, Some(Instant::now()));
            match result {
                Ok(()) => {
                    state.syncs += 1;
                    state.longest_unsynced = state.longest_unsynced.max(since.elapsed());
                }
                Err(error) => state.failure = Some(Arc::new(error)),
            }
            let failed = state.failure.is_some();
            drop(state);
            self.changed.notify_all();
            if failed {
                return;
            }
        }
    }

    /// Waits until there is something to sync; none once the journal is dropped.
    fn next(&self) -> Option<Instant> {
        let mut state = self.lock();
        loop {
            if state.closing {
                return None;
            }
            let rested = state.rested_since.map_or(REST, |since| since.elapsed());
            if state.unsynced_since.is_none() {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            } else if state.waiting == 0 && rested < REST {
                let woken = self.changed.wait_timeout(state, REST.saturating_sub(rested));
                state = woken.unwrap_or_else(PoisonError::into_inner).0;
            } else {
                state.syncing = true;
                return state.unsynced_since.take();
            }
        }
    }

    /// No holder of the lock can panic, so a poisoned lock means nothing.
    fn lock(&self) -> MutexGuard<'_, SyncState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn many_writes_during_one_sync_share_the_next() {
        let (begun, saw) = mpsc::channel();
        let (allow, go) = mpsc::channel();
        let syncer = Syncer::spawn(move || {
            begun.send(()).unwrap();
            go.recv().map_err(io::Error::other)
        })
        .unwrap();
        syncer.written();
        saw.recv().unwrap();
        (0..100).for_each(|_| syncer.written());
        allow.send(()).unwrap();
        saw.recv().unwrap();
        assert_eq!(syncer.figures().0, 1);
        allow.send(()).unwrap();
        syncer.wait().unwrap();
        assert_eq!(syncer.figures().0, 2);
    }

    #[test]
    fn the_longest_window_runs_from_the_write_to_the_end_of_its_sync() {
        let syncer = Syncer::spawn(|| {
            thread::sleep(Duration::from_millis(20));
            Ok(())
        })
        .unwrap();
        syncer.written();
        syncer.wait().unwrap();
        assert!(syncer.figures().1 >= Duration::from_millis(20));
    }

    #[test]
    fn a_failed_sync_fails_everything_after_it_and_is_not_retried() {
        let calls = Arc::new(AtomicU64::new(0));
        let syncer = Syncer::spawn({
            let calls = Arc::clone(&calls);
            move || {
                calls.fetch_add(1, Ordering::Relaxed);
                Err(io::Error::other("the disk is gone"))
            }
        })
        .unwrap();
        syncer.written();
        assert_eq!(syncer.wait().unwrap_err().to_string(), "the disk is gone");
        syncer.written();
        assert!(syncer.check().is_err());
        assert!(syncer.wait().is_err());
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        assert_eq!(syncer.figures().0, 0);
    }
}
