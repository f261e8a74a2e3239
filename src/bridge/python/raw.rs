//! Calls that `pyo3` has no safe form of. `Python::initialize` takes its standard library from the first `python3`
//! on the path and ignores the virtual environment. `PyConfig.executable` does not.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use pyo3::ffi;

fn text(status: &ffi::PyStatus) -> String {
    if status.err_msg.is_null() {
        return "no reason given".to_owned();
    }
    // SAFETY: a non-null `err_msg` is a static NUL-terminated string.
    unsafe { CStr::from_ptr(status.err_msg) }.to_string_lossy().into_owned()
}

/// Whether an interpreter runs in this process.
pub(super) fn is_running() -> bool {
    // SAFETY: may be called at any time.
    unsafe { ffi::Py_IsInitialized() != 0 }
}

/// Whether the attached thread is in the main interpreter.
pub(super) fn is_main() -> bool {
    // SAFETY: the thread is attached. The pointers are only compared.
    unsafe { ffi::PyInterpreterState_Get() == ffi::PyInterpreterState_Main() }
}

/// Starts the interpreter and releases the GIL. Returns false if it runs already.
pub(super) fn initialize(executable: &Path) -> Result<bool, String> {
    let path = CString::new(executable.as_os_str().as_bytes()).map_err(|error| error.to_string())?;
    // SAFETY: the documented sequence of PEP 587 on a zeroed configuration that `PyConfig_InitPythonConfig`
    // fills in before anything reads it; the interpreter is not running (guarded by `STARTED`), and the GIL this
    // thread then holds is given up at once, as `Python::initialize` does.
    unsafe {
        if ffi::Py_IsInitialized() != 0 {
            return Ok(false);
        }
        let mut config: ffi::PyConfig = std::mem::zeroed();
        ffi::PyConfig_InitPythonConfig(&raw mut config);
        config.install_signal_handlers = 0;
        config.parse_argv = 0;
        let target = &raw mut config.executable;
        let mut status = ffi::PyConfig_SetBytesString(&raw mut config, target, path.as_ptr());
        if ffi::PyStatus_Exception(status) == 0 {
            status = ffi::Py_InitializeFromConfig(&raw const config);
        }
        ffi::PyConfig_Clear(&raw mut config);
        if ffi::PyStatus_Exception(status) != 0 {
            return Err(text(&status));
        }
        ffi::PyEval_SaveThread();
    }
    Ok(true)
}
