//! Keeps Python's garbage collector from running while objects are made by the thousand.

use pyo3::prelude::*;

/// Keeps Python's garbage collector from running while it lives. Objects that are made by the thousand would have it
/// look through all of them again and again. The interpreter's lock is held all that time, so that only handlers of
/// signals can notice.
pub struct GarbagePaused<'py>(Option<Bound<'py, PyModule>>);

impl<'py> GarbagePaused<'py> {
    /// Pauses it, if it is on.
    ///
    /// # Errors
    ///
    /// Fails if Python's `gc` cannot be imported.
    pub fn new(py: Python<'py>) -> PyResult<Self> {
        let gc = py.import("gc")?;
        if !gc.call_method0("isenabled")?.is_truthy()? {
            return Ok(Self(None));
        }
        gc.call_method0("disable")?;
        Ok(Self(Some(gc)))
    }
}

impl Drop for GarbagePaused<'_> {
    fn drop(&mut self) {
        // It has no reason to fail.
        let _ = self.0.as_ref().map(|gc| gc.call_method0("enable"));
    }
}

#[cfg(test)]
mod tests {
    use super::super::interpreter::{self, Interpreter};
    use super::*;

    #[test]
    fn the_collector_is_on_again_only_if_it_was_on() {
        Interpreter::start(&interpreter::choose(None)).unwrap();
        Python::attach(|py| {
            let gc = py.import("gc").unwrap();
            let is_on = || gc.call_method0("isenabled").unwrap().is_truthy().unwrap();
            let outer = GarbagePaused::new(py).unwrap();
            drop(GarbagePaused::new(py).unwrap());
            assert!(!is_on());
            drop(outer);
            assert!(is_on());
        });
    }
}
