//! Why an answers file cannot be written. Not why a row failed.

use std::io;
use std::path::{Path, PathBuf};

use crate::input::{Fault, InputError};
use crate::journal::JournalError;

/// Why a projection ended without a new answers file; the old one, if any, is as it was.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The input cannot be read any more.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The journal cannot be read any more.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A record is another one than was answered.
    #[error("line {line} of `{}` is not the record that was answered\nhint: restore the file as it was when the run started; the answers are safe in the journal", path.display())]
    Changed {
        /// The input file.
        path: PathBuf,
        /// 1-based line on which the record starts.
        line: u64,
    },
    /// Records are missing at the end.
    #[error("`{}` ends after {records} records, the run asked for the first {wanted}\nhint: restore the file as it was when the run started; the answers are safe in the journal", path.display())]
    Shrunk {
        /// The input file.
        path: PathBuf,
        /// Records it has.
        records: u64,
        /// Records up to the selection's end.
        wanted: u64,
    },
    /// A record is no JSON object any more.
    #[error("failed to read `{}`: line {line} {fault}", path.display())]
    Malformed {
        /// The input file.
        path: PathBuf,
        /// 1-based.
        line: u64,
        /// What is wrong with it.
        fault: Fault,
    },
    /// The answers file is not one of this input.
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
        /// The system's answer.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("failed to write `{}`: {source}\nhint: make room; the answers are safe in the journal, and `export` writes them from it", path.display())]
    Write {
        /// The answers file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// It was asked to stop.
    #[error(
        "the answers file was not written: the run was cancelled\nhint: `export` writes it from the journal"
    )]
    Cancelled,
}

impl OutputError {
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
