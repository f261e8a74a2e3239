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

/// Makes the paths of files that are in `directory` absolute. Ray would look for them where this process runs.
pub(super) fn anchor(fields: &mut Map<String, Value>, directory: &Path) {
    let anchored = |value: &mut Value, is_path: fn(&Path) -> bool| {
        let path = value.as_str().map(|text| directory.join(text)).filter(|path| is_path(path));
        if let Some(path) = path.as_deref().and_then(Path::to_str) {
            *value = path.into();
        }
    };
    for (name, value) in fields {
        match (name.as_str(), value) {
            ("working_dir", value) => anchored(value, Path::exists),
            ("py_modules", Value::Array(modules)) => {
                for module in modules {
                    anchored(module, Path::exists);
                }
            }
            // Or the name of an environment, which is no file.
            ("pip" | "uv" | "conda", value) => anchored(value, Path::is_file),
            _ => {}
        }
    }
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
    fn files_are_found_wherever_the_process_runs() {
        let place = tempfile::tempdir().unwrap();
        std::fs::create_dir(place.path().join("lib")).unwrap();
        std::fs::write(place.path().join("needs.txt"), "").unwrap();
        let at = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
        let mut fields = serde_json::json!({
            "working_dir": "lib", "py_modules": ["lib", "s3://bucket/lib.zip"], "pip": "needs.txt", "conda": "lib",
            "env_vars": {"PLACE": "lib"},
        });
        anchor(fields.as_object_mut().unwrap(), place.path());
        let anchored = serde_json::json!({
            "working_dir": at("lib"), "py_modules": [at("lib"), "s3://bucket/lib.zip"], "pip": at("needs.txt"),
            "conda": "lib", "env_vars": {"PLACE": "lib"},
        });
        assert_eq!(fields, anchored);
    }

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
