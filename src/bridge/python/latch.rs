//! Something that happens once, and that any number of threads wait for in bounded time.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Closed until [`Self::open`] is called, then open for good.
#[derive(Debug, Default)]
pub(super) struct Latch {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Latch {
    /// Lets all waiting threads go on.
    pub(super) fn open(&self) {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.opened.notify_all();
    }

    /// Waits for at most `bound`; returns whether the latch is open.
    pub(super) fn wait(&self, bound: Duration) -> bool {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.opened.wait_timeout_while(open, bound, |open| !*open);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}
