//! Which file is read and how: path, format, delimiter, encoding. Not for standard input, which is spooled to a file.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use encoding_rs::Encoding;
use serde::{Deserialize, Serialize};

use super::delimiter::{separator, splits};
use super::encoding::Utf8Reader;
use super::error::{Fault, InputError};

/// How much of a file is read to find its first line, where that is a short one.
const HEAD: u64 = 64;

/// A file format of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// RFC 4180 with a header record; LF, CRLF or CR end a record.
    Csv,
    /// One JSON object a line (jsonlines.org); blank lines are skipped.
    Jsonl,
}

impl Format {
    /// The format that the extension names: `.csv`, `.jsonl` or `.ndjson`, in any case.
    ///
    /// # Errors
    ///
    /// Fails where the extension names no format that is read.
    pub fn from_path(path: &Path) -> Result<Self, InputError> {
        let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        match &*extension {
            "csv" => Ok(Self::Csv),
            "jsonl" | "ndjson" => Ok(Self::Jsonl),
            _ => Err(InputError::unknown_format(path)),
        }
    }
}

/// An input file and how to read it.
#[derive(Debug, Clone)]
pub struct Source {
    /// A regular file; it is read at least twice.
    pub path: PathBuf,
    /// The same, absolute: a predictor may change the process's directory.
    pub at: PathBuf,
    /// Its format.
    pub format: Format,
    /// CSV only: what separates fields, an ASCII byte other than a quote, a line end or NUL.
    pub delimiter: u8,
    /// What the bytes mean. A byte order mark is stripped.
    pub encoding: &'static Encoding,
}

impl Source {
    /// A file of comma-separated values, or of JSON lines, in UTF-8.
    pub fn new(path: impl Into<PathBuf>, format: Format) -> Self {
        let path = path.into();
        let at = std::path::absolute(&path).unwrap_or_else(|_| path.clone());
        Self { path, at, format, delimiter: b',', encoding: encoding_rs::UTF_8 }
    }

    /// The delimiter that the file itself names in a first line such as `sep=;`.
    pub fn own_delimiter(&self) -> Option<u8> {
        if self.format == Format::Jsonl {
            return None;
        }
        let mut head = Vec::new();
        let reader = Utf8Reader::new(self.open().ok()?, self.encoding).ok()?;
        // What cannot be read is told by whoever reads the file whole.
        reader.take(HEAD).read_to_end(&mut head).ok()?;
        let mut lines = head.split(|byte| matches!(byte, b'\n' | b'\r'));
        lines.find(|line| !line.is_empty()).and_then(separator)
    }

    /// Opens the file, refusing what cannot be read twice.
    pub(super) fn open(&self) -> Result<File, InputError> {
        let refuse = |fault: Fault| InputError::new(self, fault);
        if !splits(self.delimiter) {
            return Err(refuse(Fault::Delimiter(self.delimiter)));
        }
        // Asked before the file is opened: opening a pipe waits for its writer.
        let metadata = std::fs::metadata(&self.at).map_err(|error| refuse(error.into()))?;
        if metadata.is_dir() {
            return Err(refuse(Fault::Directory));
        }
        if !metadata.is_file() {
            return Err(refuse(Fault::NotRegular));
        }
        File::open(&self.at).map_err(|error| refuse(error.into()))
    }
}
