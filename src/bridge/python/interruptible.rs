//! Long work on a thread of Python's, during which signals are looked for.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use pyo3::prelude::*;

/// How long work goes on before signals are looked for.
const LOOK: Duration = Duration::from_millis(50);

/// Does `work` without the interpreter's lock. It is given what it has to ask again and again, every few milliseconds:
/// whether to stop. On Python's main thread, that has the handlers of signals run at least every 100 ms.
///
/// # Errors
///
/// Fails with what a handler raised, such as `KeyboardInterrupt`. The result of `work` is dropped then.
pub fn interruptible<T: Send>(
    py: Python<'_>,
    work: impl FnOnce(&dyn Fn() -> bool) -> T + Send,
) -> PyResult<T> {
    let looked = Mutex::new((None, Instant::now()));
    let stopped = || {
        let (raised, last) = &mut *looked.lock().unwrap_or_else(PoisonError::into_inner);
        if raised.is_none() && last.elapsed() >= LOOK {
            *raised = Python::attach(|py| py.check_signals().err());
            *last = Instant::now();
        }
        raised.is_some()
    };
    let done = py.detach(|| work(&stopped));
    let (raised, _) = looked.into_inner().unwrap_or_else(PoisonError::into_inner);
    raised.map_or(Ok(done), Err)
}
