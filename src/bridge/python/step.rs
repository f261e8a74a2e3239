//! Makes a call, and runs one step of its coroutine in the call's own context. The only unsafe code besides the
//! interpreter's start.
#![allow(unsafe_code)]

use pyo3::exceptions::PyStopIteration;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::bridge::lease;

/// The result of a step.
pub(super) enum Step<'py> {
    /// The coroutine waits for this.
    Yielded(Bound<'py, PyAny>),
    /// The coroutine has returned.
    Returned(Bound<'py, PyAny>),
    /// The coroutine has raised.
    Raised(PyErr),
}

impl Step<'_> {
    /// The exception that the coroutine has raised.
    pub(super) fn error(&self) -> Option<&PyErr> {
        if let Self::Raised(error) = self { Some(error) } else { None }
    }
}

/// Makes a context the current one for as long as it lives.
struct Entered<'a, 'py>(&'a Bound<'py, PyAny>);

impl<'a, 'py> Entered<'a, 'py> {
    fn new(context: &'a Bound<'py, PyAny>) -> PyResult<Self> {
        // SAFETY: attached (by `Bound`); CPython itself checks that it is a context and not entered yet.
        if unsafe { ffi::PyContext_Enter(context.as_ptr()) } == 0 {
            Ok(Self(context))
        } else {
            Err(PyErr::fetch(context.py()))
        }
    }
}

impl Drop for Entered<'_, '_> {
    fn drop(&mut self) {
        // SAFETY: as above; it is the innermost one entered. A failure leaves an exception set, which is taken away.
        if unsafe { ffi::PyContext_Exit(self.0.as_ptr()) } != 0 {
            drop(PyErr::take(self.0.py()));
        }
    }
}

/// Runs `work` in an empty context.
pub(super) fn within_new_context<T>(py: Python<'_>, work: impl FnOnce() -> T) -> PyResult<T> {
    within(&py.import("contextvars")?.getattr("Context")?.call0()?, work)
}

/// Runs `work` in a context that nobody is in.
pub(super) fn within<T>(context: &Bound<'_, PyAny>, work: impl FnOnce() -> T) -> PyResult<T> {
    let _entered = Entered::new(context)?;
    Ok(work())
}

/// A copy of a context.
pub(super) fn copy<'py>(context: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: attached; CPython checks the type; the result is a new reference or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(context.py(), ffi::PyContext_Copy(context.as_ptr())) }
}

/// Stops a thread for good that ends within Python: until 3.14, a thread that wants the interpreter's lock while the
/// interpreter ends is ended by `pthread_exit`, which unwinds through our frames and would abort the process.
struct Stopped;

impl Drop for Stopped {
    fn drop(&mut self) {
        loop {
            std::thread::park();
        }
    }
}

mod raw {
    //! What `pyo3` declares as functions that do not unwind.

    use pyo3::ffi::{PyObject, PySendResult};

    unsafe extern "C-unwind" {
        pub(super) fn PyIter_Send(
            iterator: *mut PyObject,
            value: *mut PyObject,
            result: *mut *mut PyObject,
        ) -> PySendResult;
        pub(super) fn PyObject_Call(
            target: *mut PyObject,
            arguments: *mut PyObject,
            named: *mut PyObject,
        ) -> *mut PyObject;
        pub(super) fn PyObject_Vectorcall(
            target: *mut PyObject,
            arguments: *const *mut PyObject,
            flags: usize,
            names: *mut PyObject,
        ) -> *mut PyObject;
    }
}

/// Calls `target`, which runs code of the user's for a long time.
pub(super) fn run<'py>(
    target: &Bound<'py, PyAny>,
    arguments: impl IntoPyObject<'py, Target = PyTuple, Output = Bound<'py, PyTuple>, Error: Into<PyErr>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = target.py();
    let arguments = arguments.into_pyobject(py).map_err(Into::into)?;
    let stopped = Stopped;
    // SAFETY: attached; both are valid objects, the second a tuple; the result is a new reference or null with an
    // exception set.
    let result = unsafe {
        let result = raw::PyObject_Call(target.as_ptr(), arguments.as_ptr(), std::ptr::null_mut());
        Bound::from_owned_ptr_or_err(py, result)
    };
    std::mem::forget(stopped);
    result
}

/// Calls `target` with keyword arguments, without making a dictionary of them. `values` are in the order of `names`.
pub(super) fn call<'py>(
    target: &Bound<'py, PyAny>,
    names: &Bound<'py, PyTuple>,
    values: &[Bound<'py, PyAny>],
) -> PyResult<Bound<'py, PyAny>> {
    assert_eq!(names.len(), values.len(), "one value for each name");
    // SAFETY: attached; `values` are as many valid objects as there are names (`Bound` is one pointer, transparently);
    // all of them are keyword arguments; the result is a new reference or null with an exception set.
    let stopped = Stopped;
    let result = unsafe {
        let result = raw::PyObject_Vectorcall(target.as_ptr(), values.as_ptr().cast(), 0, names.as_ptr());
        Bound::from_owned_ptr_or_err(target.py(), result)
    };
    std::mem::forget(stopped);
    result
}

/// Resumes a coroutine (or the iterator of another awaitable).
pub(super) fn resume<'py>(coroutine: &Bound<'py, PyAny>, context: &Bound<'py, PyAny>) -> Step<'py> {
    let py = coroutine.py();
    let _entered = match Entered::new(context) {
        Ok(entered) => entered,
        Err(error) => return Step::Raised(error),
    };
    let mut result = std::ptr::null_mut();
    lease::check();
    let stopped = Stopped;
    // SAFETY: attached; all pointers are valid; `result` becomes a new reference unless an exception is set.
    let step = unsafe {
        match raw::PyIter_Send(coroutine.as_ptr(), ffi::Py_None(), &raw mut result) {
            ffi::PySendResult::PYGEN_NEXT => Step::Yielded(Bound::from_owned_ptr(py, result)),
            ffi::PySendResult::PYGEN_RETURN => Step::Returned(Bound::from_owned_ptr(py, result)),
            ffi::PySendResult::PYGEN_ERROR => Step::Raised(PyErr::fetch(py)),
        }
    };
    std::mem::forget(stopped);
    step
}

/// Raises an exception where the coroutine waits.
pub(super) fn throw<'py>(
    coroutine: &Bound<'py, PyAny>,
    context: &Bound<'py, PyAny>,
    error: &Bound<'py, PyAny>,
) -> Step<'py> {
    let py = coroutine.py();
    let _entered = match Entered::new(context) {
        Ok(entered) => entered,
        Err(error) => return Step::Raised(error),
    };
    match coroutine.call_method1(pyo3::intern!(py, "throw"), (error,)) {
        Ok(yielded) => Step::Yielded(yielded),
        Err(stop) if stop.is_instance_of::<PyStopIteration>(py) => {
            match stop.value(py).getattr(pyo3::intern!(py, "value")) {
                Ok(value) => Step::Returned(value),
                Err(error) => Step::Raised(error),
            }
        }
        Err(error) => Step::Raised(error),
    }
}
