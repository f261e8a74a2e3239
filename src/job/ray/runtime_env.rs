//! Reads a file with a runtime environment of Ray's.

use std::path::Path;
use std::process::Command;

use serde_json::{Map, Value};

use crate::bridge::python::interpreter::executable;
use crate::environment::output;
use crate::job::error::{ErrorKind, Explain as _, JobError};

/// Turns YAML into JSON, by the library that Ray brings along.
const TO_JSON: &str =
    "import json, sys, yaml; json.dump(yaml.safe_load(open(sys.argv[1], 'rb')), sys.stdout)";

/// The runtime environment in a file, which is JSON, or YAML that `python` can read.
///
/// # Errors
///
/// Fails if the file cannot be read, or is neither.
pub(super) fn read(file: &Path, python: Option<&Path>) -> Result<Map<String, Value>, JobError> {
    let failed = || format!("failed to read the runtime environment `{}`", file.display());
    let text = std::fs::read_to_string(file).explain(ErrorKind::Predictor, file, failed)?;
    let value = match serde_json::from_str(&text) {
        Ok(value) => value,
        Err(_) => of_yaml(file, python).map_err(|reason| {
            JobError::new(ErrorKind::Predictor, format!("{}: {reason}", failed())).at(file)
        })?,
    };
    let Value::Object(fields) = value else {
        let text = format!("{}: expected fields such as `working_dir` or `pip`", failed());
        return Err(JobError::new(ErrorKind::Predictor, text).at(file));
    };
    Ok(fields)
}

fn of_yaml(file: &Path, python: Option<&Path>) -> Result<Value, String> {
    let python = executable(python).map_err(|error| error.to_string())?;
    let mut command = Command::new(&python);
    command.args(["-c", TO_JSON]).arg(file);
    let read =
        output(&mut command).map_err(|error| format!("failed to run `{}`: {error}", python.display()))?;
    let told = String::from_utf8_lossy(&read.stderr);
    // The last line of a traceback says what is wrong.
    let reason = || told.trim().lines().last().unwrap_or("it is neither JSON nor YAML").to_owned();
    if read.status.success() {
        serde_json::from_slice(&read.stdout).map_err(|error| error.to_string())
    } else {
        Err(reason())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_read_and_what_is_no_environment_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let read = |text: &str| {
            std::fs::write(file.path(), text).unwrap();
            read(file.path(), None)
        };
        assert_eq!(read(r#"{"pip": ["dspy"]}"#).unwrap()["pip"][0], "dspy");
        assert!(read("[]").unwrap_err().to_string().contains("expected fields such as"));
    }
}
