//! Which rows, and how they become arguments.

use std::ops::Range;
use std::path::Path;

use clap::{Args, ValueEnum};
use encoding_rs::Encoding;
use serde::{Deserialize, Serialize};

use super::group::group;
use super::values::{delimiter, encoding, pair, range};
use super::words::{Words, chosen};
use crate::input::{Format, InputError, Source};

group! {
    /// Which rows, and how they become arguments.
    [next_help_heading = "Rows"] RowSpec RowPatch {
        /// The column that becomes the argument `question` [default: question]
        [value_name = "NAME", env = "TAB_COLUMN"]
        column: Option<String> as (String) = None,
        /// The column that becomes another argument (repeatable)
        [value_name = "PARAM=COLUMN", value_parser = pair, env = "TAB_MAP"]
        map: Vec<(String, String)> as (Vec<(String, String)>) = Vec::new(),
        /// A column that names the rows; passed on, never a key
        [value_name = "NAME", env = "TAB_ID_COLUMN"]
        id_column: Option<String> as (String) = None,
        /// Only the first N rows (not with `--range`)
        [short = 'n', value_name = "N", env = "TAB_LIMIT"]
        limit: Option<u64> as (u64) = None,
        /// Only rows A to B, 0-based, end exclusive
        [value_name = "A:B", value_parser = range, env = "TAB_RANGE"]
        range: Option<Range<u64>> as (Range<u64>) = None,
        /// The CSV field delimiter [default: what the file's first line says (`sep=;`), or ,]
        [value_name = "CHAR", value_parser = delimiter, env = "TAB_DELIMITER"]
        delimiter: Option<u8> as (u8) = None,
        /// The input's encoding
        [value_name = "LABEL", value_parser = encoding, env = "TAB_ENCODING"]
        encoding: &'static Encoding as (&'static Encoding) = encoding_rs::UTF_8,
        /// The input's format, where its name does not tell
        [value_name = "FORMAT", env = "TAB_FORMAT"]
        format: Option<FormatChoice> as (FormatChoice) = None,
    }
}

/// `--format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum FormatChoice {
    Csv,
    Jsonl,
}

chosen!(FormatChoice);

impl RowSpec {
    /// The rows to run, before the file's length is known.
    pub fn selection(&self) -> Range<u64> {
        match (&self.range, self.limit) {
            (Some(range), _) => range.clone(),
            (None, Some(limit)) => 0..limit,
            (None, None) => 0..u64::MAX,
        }
    }

    /// An input's format: `--format`, or what its name says.
    pub fn format_of(&self, input: &Path) -> Result<Format, InputError> {
        match self.format {
            Some(FormatChoice::Csv) => Ok(Format::Csv),
            Some(FormatChoice::Jsonl) => Ok(Format::Jsonl),
            None => Format::from_path(input),
        }
    }

    /// The input file and how it is read.
    pub fn source(&self, path: &Path, format: Format) -> Source {
        let mut source = Source { encoding: self.encoding, ..Source::new(path, format) };
        source.delimiter = self.delimiter_of(&source);
        source
    }

    /// What separates the fields of an input: `--delimiter`, what its own first line says (`sep=;`), or a comma.
    pub fn delimiter_of(&self, source: &Source) -> u8 {
        self.delimiter.or_else(|| source.own_delimiter()).unwrap_or(b',')
    }
}
