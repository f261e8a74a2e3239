//! Sets the variables of `--env-file` for the whole process. Variables that give options (`TAB_…`) have no effect
//! there, because they are read before.

use crate::environment::locked;
use crate::job::env_file::EnvFile;

/// Sets the variables that are not set already. Call this while no other thread than Python's reads them.
#[allow(unsafe_code)]
pub(crate) fn set(file: EnvFile) {
    let variables = file.into_variables();
    locked(|| {
        for (name, value) in &variables {
            if std::env::var_os(name).is_none() {
                // SAFETY: no other thread of this program runs yet, and Python's read the environment under the lock.
                unsafe { std::env::set_var(name, value) };
            }
        }
    });
}
