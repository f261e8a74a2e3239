//! Long work on a thread of Python's, during which signals are looked for.

use std::time::{Duration, Instant};

use pyo3::prelude::*;

/// How long work goes on before signals are looked for.
const LOOK: Duration = Duration::from_millis(50);

/// Does `work` without the interpreter's lock. It is given what it has to ask again and again, every few milliseconds:
/// whether to go on. On Python's main thread, that has the handlers of signals run at least every 100 ms.
///
/// # Errors
///
/// Fails with what a handler raised, such as `KeyboardInterrupt`. The result of `work` is dropped then.
pub fn interruptible<T: Send>(
    py: Python<'_>,
    work: impl FnOnce(&mut dyn FnMut() -> bool) -> T + Send,
) -> PyResult<T> {
    let mut raised = None;
    let mut looked = Instant::now();
    let mut go_on = || {
        if raised.is_none() && looked.elapsed() >= LOOK {
            raised = Python::attach(|py| py.check_signals().err());
            looked = Instant::now();
        }
        raised.is_none()
    };
    let done = py.detach(|| work(&mut go_on));
    raised.map_or(Ok(done), Err)
}
