//! Reads and writes reports as JSON files. Their shape is that of the types, which `schema/report.schema.json`
//! publishes.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Report, SCHEMA_VERSION};
use crate::fs::{Access, replace};

/// Why a report was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The file could not be written. An old file is left as it was.
    #[error("failed to write `{}`: {error}", .path.display())]
    Write {
        /// The report.
        path: PathBuf,
        /// The reason.
        error: io::Error,
    },
    /// The file could not be read.
    #[error("failed to read `{}`: {error}", .path.display())]
    Read {
        /// The report.
        path: PathBuf,
        /// The reason.
        error: io::Error,
    },
    /// The file does not hold a report.
    #[error("failed to read `{}`: {error}\nhint: give the answers file of a finished run", .path.display())]
    Parse {
        /// The report.
        path: PathBuf,
        /// The reason, with line and column.
        error: serde_json::Error,
    },
    /// The report has another schema version.
    #[error(
        "failed to read `{}`: its schema version is {found}, this program reads {SCHEMA_VERSION}\n\
         hint: use the version of the program that wrote it",
        .path.display()
    )]
    Version {
        /// The report.
        path: PathBuf,
        /// The file's schema version.
        found: u32,
    },
}

impl ReportError {
    /// The path of the report that the error is about.
    pub fn path(&self) -> &Path {
        match self {
            Self::Write { path, .. }
            | Self::Read { path, .. }
            | Self::Parse { path, .. }
            | Self::Version { path, .. } => path,
        }
    }
}

/// Writes a [`Report`] or a [`Comparison`](super::compare::Comparison) as indented JSON, whole or not at all.
///
/// # Errors
///
/// Fails if the file cannot be written. An old file is left as it was.
pub(crate) fn write(path: &Path, access: Access, value: &impl Serialize) -> Result<(), ReportError> {
    let text = serde_json::to_vec_pretty(value).map_err(io::Error::from);
    let written = text.and_then(|mut text| {
        text.push(b'\n');
        replace(path, access, &text)
    });
    written.map_err(|error| ReportError::Write { path: path.to_owned(), error })
}

/// Whether the file is a report or a comparison written by this program, in any version.
pub(crate) fn is_ours(path: &Path) -> bool {
    let text = std::fs::read(path).unwrap_or_default();
    serde_json::from_slice::<serde_json::Value>(&text).is_ok_and(|value| {
        value["schema_version"].is_u64() && (value["latency_ms"].is_object() || value["modes"].is_array())
    })
}

/// Reads a report.
///
/// # Errors
///
/// Fails if the file cannot be read, does not hold a report, or has another schema version.
pub(crate) fn read(path: &Path) -> Result<Report, ReportError> {
    let text = std::fs::read(path).map_err(|error| ReportError::Read { path: path.to_owned(), error })?;
    let parse_error = |error| ReportError::Parse { path: path.to_owned(), error };
    let Versioned { schema_version: found } = serde_json::from_slice(&text).map_err(parse_error)?;
    if found != SCHEMA_VERSION {
        return Err(ReportError::Version { path: path.to_owned(), found });
    }
    serde_json::from_slice(&text).map_err(parse_error)
}

#[derive(Deserialize)]
struct Versioned {
    schema_version: u32,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::report::tests::{sample, workers};
    use crate::stats::Stats;

    /// The published schema, with fields it does not describe forbidden.
    fn strict_schema() -> jsonschema::Validator {
        fn close(schema: &mut Value) {
            if let Some(object) = schema.as_object_mut() {
                if object.contains_key("properties") {
                    object.insert("additionalProperties".into(), json!(false));
                }
                object.values_mut().for_each(close);
            }
        }
        let mut schema = serde_json::from_str(include_str!("../../schema/report.schema.json")).unwrap();
        close(&mut schema);
        jsonschema::draft202012::options().should_validate_formats(true).build(&schema).unwrap()
    }

    fn faults(report: &Value) -> Vec<String> {
        strict_schema().iter_errors(report).map(|error| error.to_string()).collect()
    }

    #[test]
    fn a_full_report_is_what_the_published_schema_describes_and_no_more() {
        let mut report = Report { workers: workers(), ..sample() };
        report.workers[1].for_suspects = true;
        assert_eq!(faults(&serde_json::to_value(report).unwrap()), Vec::<String>::new());
    }

    #[test]
    fn the_report_of_a_run_without_outcomes_is_valid_too() {
        let full = sample();
        let mut empty = sample();
        empty.attempts = Stats::default().attempts().clone();
        empty.latency_ms.ok = Stats::default().latency_ok();
        (empty.cost_usd, empty.stopped) = (None, Some("the deadline has passed".into()));
        assert_ne!(empty, full);
        assert_eq!(faults(&serde_json::to_value(empty).unwrap()), Vec::<String>::new());
    }

    #[test]
    fn the_schema_refuses_a_report_that_lacks_or_renames_a_field() {
        let mut report = serde_json::to_value(sample()).unwrap();
        let wall = report.as_object_mut().unwrap().remove("wall_s").unwrap();
        assert_eq!(faults(&report).len(), 1);
        report["wall_ms"] = wall;
        assert_eq!(faults(&report).len(), 2);
    }

    #[test]
    fn a_report_is_read_back_as_it_was_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("answers.csv.report.json");
        std::fs::write(&path, "old").unwrap();
        assert!(!is_ours(&path));
        write(&path, Access::Usual, &sample()).unwrap();
        assert_eq!(read(&path).unwrap(), sample());
        assert!(is_ours(&path));
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1, "a temporary file was left");
    }

    #[test]
    fn an_unwritable_place_is_refused_by_name() {
        let error = write(Path::new("no/such/directory/report.json"), Access::Usual, &sample()).unwrap_err();
        assert!(
            error.to_string().starts_with("failed to write `no/such/directory/report.json`: "),
            "{error}"
        );
    }

    #[test]
    fn a_report_of_another_version_or_none_at_all_is_refused_with_a_hint() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("report.json");
        std::fs::write(&path, r#"{"schema_version": 2}"#).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.ends_with("its schema version is 2, this program reads 1\nhint: use the version of the program that wrote it"));
        std::fs::write(&path, "question\n").unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("line 1 column 1\nhint: give the answers file"), "{error}");
    }
}
