//! Reads the spec from a session's settings in the journal, or from the options that version 0.1 kept instead.

use std::path::{Path, PathBuf};

use clap::FromArgMatches;
use serde_json::Value;

use super::keywords::command;
use super::whole::{JobSpec, VERSION, WholePatch};
use crate::input::Format;
use crate::job::error::{ErrorKind, JobError};
use crate::journal::Header;

/// The name of the spec among a session's settings.
pub(super) const SPEC: &str = "spec";

/// The settings of a session, which hold its spec.
pub fn settings(spec: &JobSpec) -> Value {
    serde_json::json!({ SPEC: spec })
}

/// Reads the spec of a session.
///
/// # Errors
///
/// Fails if a later version of this program wrote the spec, or if it cannot be read.
pub fn of_header(header: &Header) -> Result<JobSpec, JobError> {
    match header.settings.get(SPEC) {
        Some(spec) => {
            let version = &spec["version"];
            if version.as_u64().is_none_or(|version| version > VERSION.into()) {
                let text = "which this program does not know\nhint: use the program that wrote it";
                let text = format!("the journal holds a job of version {version}, {text}");
                return Err(JobError::new(ErrorKind::Journal, text));
            }
            serde_json::from_value(spec.clone()).map_err(unreadable)
        }
        None => of_options(header),
    }
}

fn unreadable(error: impl std::error::Error + Send + Sync + 'static) -> JobError {
    JobError::new(ErrorKind::Journal, "failed to read the journal's job").because(error)
}

/// Reads the options that version 0.1 recorded as they were given.
fn of_options(header: &Header) -> Result<JobSpec, JobError> {
    let texts = |name: &str| {
        let texts = header.settings[name].as_array().into_iter().flatten();
        texts.filter_map(|text| text.as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    // The recorded options hold, whatever the environment says today.
    let matches = command::<WholePatch>().try_get_matches_from(texts("options")).map_err(unreadable)?;
    let patch = WholePatch::from_arg_matches(&matches).map_err(unreadable)?;
    let directory = PathBuf::from(header.settings["directory"].as_str().unwrap_or("."));
    let format = if header.input.format == "jsonl" { Format::Jsonl } else { Format::Csv };
    let mut spec = JobSpec::new(&directory, Path::new(&header.input.path), format);
    spec.stream = header.settings["stdin"].as_bool().unwrap_or_default();
    spec.lay_all(patch, &directory);
    for key in texts("keys") {
        spec.predictor.lm.expect(key);
    }
    Ok(spec)
}
