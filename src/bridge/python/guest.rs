//! Whether another program runs the interpreter in this process. Then nothing of the process is ours to keep.

use std::sync::atomic::{AtomicBool, Ordering};

static IS_GUEST: AtomicBool = AtomicBool::new(false);

/// Notes that another program runs the interpreter.
pub(super) fn enter() {
    IS_GUEST.store(true, Ordering::Relaxed);
}

/// Whether another program runs the interpreter.
pub(super) fn is_guest() -> bool {
    IS_GUEST.load(Ordering::Relaxed)
}
