//! The spec among a session's settings in the journal, and the options that version 0.1 kept in its place.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, FromArgMatches};
use serde_json::Value;

use super::whole::{JobSpec, VERSION, WholePatch};
use crate::input::Format;
use crate::journal::Header;

/// The name of the spec among a session's settings.
const SPEC: &str = "spec";

/// A session's settings, which hold its spec.
pub fn settings(spec: &JobSpec) -> serde_json::Result<Value> {
    Ok(serde_json::json!({ SPEC: serde_json::to_value(spec)? }))
}

/// The spec of the job that a session was of.
pub fn of_header(header: &Header) -> anyhow::Result<JobSpec> {
    match header.settings.get(SPEC) {
        Some(spec) => {
            let version = &spec["version"];
            if version.as_u64().is_none_or(|version| version > VERSION.into()) {
                bail!(
                    "the journal holds a job of version {version}, which this program does not know\nhint: use the program that wrote it"
                );
            }
            serde_json::from_value(spec.clone()).context("failed to read the journal's job")
        }
        None => of_options(header),
    }
}

/// Version 0.1 kept the options as they were given.
fn of_options(header: &Header) -> anyhow::Result<JobSpec> {
    let texts = |name: &str| {
        let texts = header.settings[name].as_array().into_iter().flatten();
        texts.filter_map(|text| text.as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    let command = clap::Command::new(SPEC).no_binary_name(true).args_override_self(true);
    // What holds was recorded: the environment of today is not asked.
    let command = WholePatch::augment_args(command).mut_args(|argument| argument.env(None::<&str>));
    let matches =
        command.try_get_matches_from(texts("options")).context("failed to read the journal's options")?;
    let patch = WholePatch::from_arg_matches(&matches)?;
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
