//! The group about rows: which are selected, how they are read, and how they become arguments.

use std::ops::Range;
use std::path::Path;

use clap::{Args, ValueEnum};
use encoding_rs::Encoding;
use serde::{Deserialize, Serialize};

use super::group::group;
use super::shard::shard;
use super::values::{delimiter, encoding, pair, range};
use super::words::{Words, chosen};
use crate::input::{Format, InputError, Source};
use crate::selection::{Rows, Shard};

group! {
    /// Which rows are selected, how they are read, and how they become arguments.
    [next_help_heading = "Rows"] RowSpec RowPatch {
        /// The column that becomes the argument `question` [default: question]
        [value_name = "NAME", env = "TAB_COLUMN"]
        column: Option<String> as (String) = None,
        /// The column that becomes another argument (repeatable)
        [value_name = "PARAM=COLUMN", value_parser = pair, env = "TAB_MAP"]
        map: Vec<(String, String)> as (Vec<(String, String)>) = Vec::new(),
        /// A column that identifies rows for you; copied to the answers, never used to match rows
        [value_name = "NAME", env = "TAB_ID_COLUMN"]
        id_column: Option<String> as (String) = None,
        /// Select only the first N rows, with `--shard` the first N of the shard (not with `--range`)
        [short = 'n', value_name = "N", env = "TAB_LIMIT"]
        limit: Option<u64> as (u64) = None,
        /// Select only rows A to B, 0-based, end exclusive
        [value_name = "A:B", value_parser = range, env = "TAB_RANGE"]
        range: Option<Range<u64>> as (Range<u64>) = None,
        /// Select only one of N shards: every N-th row, from row K on, K counted from 0; `auto/N` takes K from
        /// `JOB_COMPLETION_INDEX` or `SLURM_ARRAY_TASK_ID`
        [value_name = "K/N", value_parser = shard, env = "TAB_SHARD"]
        shard: Option<Shard> as (Shard) = None,
        /// The CSV field delimiter [default: what the file's first line says (`sep=;`), or ,]
        [value_name = "CHAR", value_parser = delimiter, env = "TAB_DELIMITER"]
        delimiter: Option<u8> as (u8) = None,
        /// The input's encoding
        [value_name = "LABEL", value_parser = encoding, env = "TAB_ENCODING"]
        encoding: &'static Encoding as (&'static Encoding) = encoding_rs::UTF_8,
        /// The input's format [default: what its extension says]
        [value_name = "FORMAT", env = "TAB_FORMAT"]
        format: Option<FormatChoice> as (FormatChoice) = None,
    }
}

/// The values of `--format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum FormatChoice {
    Csv,
    Jsonl,
}

chosen!(FormatChoice);

impl From<FormatChoice> for Format {
    fn from(choice: FormatChoice) -> Self {
        match choice {
            FormatChoice::Csv => Self::Csv,
            FormatChoice::Jsonl => Self::Jsonl,
        }
    }
}

impl RowPatch {
    /// The format of an input: the one given, or the one that the extension says.
    ///
    /// # Errors
    ///
    /// Fails if neither tells the format.
    pub fn format_of(&self, input: &Path) -> Result<Format, InputError> {
        self.format.map_or_else(|| Format::from_path(input), |choice| Ok(choice.into()))
    }
}

impl RowSpec {
    /// The selected rows. A range names rows of the input, of which a shard has its own; a limit counts the rows of the
    /// shard. Without either the end is [`u64::MAX`].
    pub fn selection(&self) -> Rows {
        let rows = Rows::new(self.range.clone().unwrap_or(0..u64::MAX), self.shard.unwrap_or_default());
        match self.limit {
            Some(limit) if self.range.is_none() => rows.first(limit),
            _ => rows,
        }
    }

    /// A source that reads the file as these options say.
    pub fn source(&self, path: &Path, format: Format) -> Source {
        let mut source = Source { encoding: self.encoding, ..Source::new(path, format) };
        source.delimiter = self.delimiter_of(&source);
        source
    }

    /// The delimiter of CSV fields: the one given, or the one in the file's first line (`sep=;`), or a comma.
    pub fn delimiter_of(&self, source: &Source) -> u8 {
        self.delimiter.or_else(|| source.own_delimiter()).unwrap_or(b',')
    }
}
