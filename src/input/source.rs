//! Which file the rows come from, and how it is read.

use std::path::PathBuf;

use encoding_rs::Encoding;
use serde::{Deserialize, Serialize};

/// A file format of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// RFC 4180 with a header record; records end with LF, CRLF or CR.
    Csv,
    /// One JSON object a line (jsonlines.org); blank lines are skipped.
    Jsonl,
}

/// An input file and how to read it.
#[derive(Debug, Clone)]
pub struct Source {
    /// The file as the user named it, for messages.
    pub path: PathBuf,
    /// The file to read, absolute, since a predictor may change the directory of the process. It must be a regular
    /// file: it is read at least twice.
    pub at: PathBuf,
    /// Its format.
    pub format: Format,
    /// CSV: the byte that separates fields. It must be ASCII, and no quote, line end or NUL.
    pub delimiter: u8,
    /// The encoding of the text. A byte order mark is stripped.
    pub encoding: &'static Encoding,
}

impl Source {
    /// A file in UTF-8 whose fields, if it is CSV, are separated by commas.
    pub fn new(path: impl Into<PathBuf>, format: Format) -> Self {
        let path = path.into();
        let at = std::path::absolute(&path).unwrap_or_else(|_| path.clone());
        Self { path, at, format, delimiter: b',', encoding: encoding_rs::UTF_8 }
    }
}
