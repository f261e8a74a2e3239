//! Why an answers file cannot be written or audited.

use std::io;
use std::path::{Path, PathBuf};

use crate::input::{Fault, InputError, Source};
use crate::journal::JournalError;

/// Why an answers file could not be written or audited. An old answers file is left as it was.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The input cannot be read.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A record of the input is not the one that was answered.
    #[error("line {line} of `{}` is not the record that was answered\nhint: restore the file as it was when the run started; the answers are safe in the journal", path.display())]
    Changed {
        /// The input file.
        path: PathBuf,
        /// 1-based line on which the record starts.
        line: u64,
    },
    /// The input has lost records at its end.
    #[error("`{}` ends after {records} records, the run asked for the first {wanted}\nhint: restore the file as it was when the run started; the answers are safe in the journal", path.display())]
    Shrunk {
        /// The input file.
        path: PathBuf,
        /// How many records it has.
        records: u64,
        /// How many it should have, at least: up to the last row that was asked for.
        wanted: u64,
    },
    /// A record of the input is not a JSON object.
    #[error("failed to read `{}`: line {line} {fault}", path.display())]
    Malformed {
        /// The input file.
        path: PathBuf,
        /// 1-based line of the record.
        line: u64,
        /// What is wrong with it.
        fault: Fault,
    },
    /// The answers file was not made from this input.
    #[error("`{}` has no column `{column}` where the answers of this input have it\nhint: name the input that it was made from", path.display())]
    Columns {
        /// The answers file.
        path: PathBuf,
        /// The first column that is missing.
        column: String,
    },
    /// The answers file cannot be read.
    #[error("failed to read `{}`: {source}", path.display())]
    Read {
        /// The answers file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The answers file cannot be written.
    #[error("failed to write `{}`: {source}\nhint: make room; the answers are safe in the journal, and `export` writes them from it", path.display())]
    Write {
        /// The answers file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// Writing or auditing was cancelled.
    #[error(
        "the answers file was not written: the run was cancelled\nhint: `export` writes it from the journal"
    )]
    Cancelled,
}

impl OutputError {
    pub(super) fn malformed(source: &Source, line: u64, fault: Fault) -> Self {
        Self::Malformed { path: source.path.clone(), line, fault }
    }

    /// The file that it is about; none where it was asked to stop.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Input(error) => Some(error.path()),
            Self::Journal(error) => error.path(),
            Self::Changed { path, .. }
            | Self::Shrunk { path, .. }
            | Self::Malformed { path, .. }
            | Self::Columns { path, .. }
            | Self::Read { path, .. }
            | Self::Write { path, .. } => Some(path),
            Self::Cancelled => None,
        }
    }
}
