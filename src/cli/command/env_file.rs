//! Sets the variables of `--env-file` for the whole process. Variables that give options (`TAB_…`) have no effect
//! there, because they are read before.

use crate::job::env_file::EnvFile;

/// Sets the variables that are not set already. Call this while the process has only one thread.
#[allow(unsafe_code)]
pub(crate) fn set(file: EnvFile) {
    for (name, value) in file.into_variables() {
        if std::env::var_os(&name).is_none() {
            // SAFETY: there is no other thread that could be reading the environment.
            unsafe { std::env::set_var(name, value) };
        }
    }
}
