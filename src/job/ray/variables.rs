//! The variables that actors get: those that `--ray-env` names, and those of an env file.

use std::ffi::OsString;
use std::path::Path;

use crate::environment::variable;
use crate::job::env_file::EnvFile;
use crate::job::error::{ErrorKind, JobError};

/// The variables with these names, each with its value: that of the environment, or else that of the env file.
///
/// # Errors
///
/// Fails if one of them is not set, or is no text, or if the env file cannot be read.
pub(super) fn variables(
    names: &[String],
    env_file: Option<&Path>,
) -> Result<Vec<(String, String)>, JobError> {
    let refused =
        |name: &str, reason: &str| JobError::new(ErrorKind::Usage, format!("`--ray-env {name}`: {reason}"));
    let mut taken = Vec::new();
    let mut missing = Vec::new();
    for name in names {
        match variable(name).map(OsString::into_string) {
            Some(Ok(value)) => taken.push((name.clone(), value)),
            Some(Err(_)) => return Err(refused(name, "the variable's value is not UTF-8")),
            None => missing.push(name),
        }
    }
    let file = env_file.filter(|_| !missing.is_empty()).map(EnvFile::read).transpose();
    let file = file.map_err(|error| JobError::new(ErrorKind::Predictor, error.to_string()).because(error))?;
    let file = file.map(EnvFile::into_variables).unwrap_or_default();
    for name in missing {
        let value = file.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        let hint = "the variable is not set here\nhint: set it, or name a file that has it with `--env-file`";
        taken.push((name.clone(), value.ok_or_else(|| refused(name, hint))?));
    }
    Ok(taken)
}

/// The variables of an env file with the values that they have in this process, where one that is set keeps its own.
pub(in crate::job) fn as_here(mut variables: Vec<(String, String)>) -> Vec<(String, String)> {
    for (name, value) in &mut variables {
        if let Some(own) = variable(name).and_then(|own| own.into_string().ok()) {
            *value = own;
        }
    }
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_that_of_the_environment_or_of_the_env_file() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "TAB_TEST_KEY=sk-1\nPATH=none\n").unwrap();
        let taken = variables(&names(&["TAB_TEST_KEY", "PATH"]), Some(file.path())).unwrap();
        assert!(taken.contains(&("TAB_TEST_KEY".to_owned(), "sk-1".to_owned())));
        assert!(taken.contains(&("PATH".to_owned(), std::env::var("PATH").unwrap())));
        let refused = variables(&names(&["TAB_TEST_NONE"]), Some(file.path())).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Usage);
        assert!(refused.to_string().starts_with("`--ray-env TAB_TEST_NONE`: the variable is not set here"));
    }
}
