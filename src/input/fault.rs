//! What can be wrong with an input file.

use super::source::Format;

/// A fault and where it is.
#[derive(Debug)]
pub(super) struct Located {
    /// 1-based physical line; `None` if the file as a whole is at fault.
    pub(super) line: Option<u64>,
    pub(super) fault: Fault,
}

/// One thing that is wrong with an input file. Its text completes `line 7 …` or `it …`.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The file cannot be opened or read.
    #[error("cannot be read: {0}")]
    Io(#[from] std::io::Error),
    /// The path names a directory.
    #[error("is a directory")]
    Directory,
    /// The path names a pipe or a device, which cannot be read twice.
    #[error("is not a regular file, and the rows are read twice")]
    NotRegular,
    /// Neither `.csv` nor `.jsonl`.
    #[error("is named neither `.csv` nor `.jsonl`")]
    UnknownFormat,
    /// The delimiter is a quote, a line end, NUL, or no ASCII character.
    #[error("cannot be split at the delimiter `{}`", .0.escape_ascii())]
    Delimiter(u8),
    /// The file has no record.
    #[error("is empty: line 1 should be {}", match .0 { Format::Csv => "the header", Format::Jsonl => "a JSON object" })]
    Empty(Format),
    /// Some bytes are invalid in the encoding.
    #[error("is not valid {0}")]
    Encoding(&'static str),
    /// The record holds a NUL byte.
    #[error("holds a NUL byte")]
    Nul,
    /// The record is longer than this limit, in bytes.
    #[error("starts a record of more than {} MiB", .0 >> 20)]
    TooLong(usize),
    /// CSV: the file ends within a quoted field.
    #[error("opens a quote that is never closed")]
    UnclosedQuote,
    /// CSV: text follows the closing quote of a field, as in `"a"b`.
    #[error("has text after a closing quote")]
    TextAfterQuote,
    /// CSV: an unquoted field holds a quote, as in `a"b`.
    #[error("has a quote inside an unquoted field")]
    BareQuote,
    /// CSV: the record does not have as many fields as the header.
    #[error("has {fields} field{}, the header has {header}", plural(*.fields as u64))]
    Uneven {
        /// Fields of the record.
        fields: usize,
        /// Fields of the header.
        header: usize,
    },
    /// JSONL: the text is not JSON.
    #[error("is not valid JSON: {0}")]
    Json(String),
    /// JSONL: a value is a number that JSON cannot express.
    #[error("is not valid JSON: `{token}` at byte {byte}")]
    NotFinite {
        /// `NaN`, `Infinity` or `-Infinity`.
        token: &'static str,
        /// 1-based position within the line.
        byte: usize,
    },
    /// JSONL: the line ends before its object does.
    #[error("is torn: it ends within the JSON object")]
    Torn,
    /// JSONL: the value is valid JSON but not an object.
    #[error("is not a JSON object but {0}")]
    NotObject(&'static str),
    /// JSONL: brackets are nested deeper than this limit.
    #[error("nests deeper than {0} levels")]
    TooDeep(usize),
    /// More than one column has the name of a column that the run uses.
    #[error("has {count} columns named `{column}`")]
    DuplicateColumn {
        /// The name.
        column: String,
        /// How many columns have it.
        count: usize,
    },
    /// JSONL: the object lacks a key that a required parameter takes.
    #[error("has no key `{0}`")]
    MissingKey(String),
    /// A value cannot be converted to the type of its parameter.
    #[error("has `{}` in the column `{}`, which is not a valid `{}`: {}", .0.value, .0.column, .0.kind, .0.reason)]
    Misfit(Box<Unfit>),
    /// The types of the parameters cannot be used.
    #[error("cannot be checked against the types of the predictor's parameters: {0}")]
    Types(String),
    /// A column that was asked for is not in the file.
    #[error("has no column `{column}`{}, only {}", wanted_by(.parameter.as_deref(), .column), list(.columns))]
    MissingColumn {
        /// The name asked for.
        column: String,
        /// The parameter that takes it; `None` for `--id-column`.
        parameter: Option<String>,
        /// The columns of the file.
        columns: Vec<String>,
    },
    /// JSONL: no selected row has a key that the user named.
    #[error("has no key `{0}` in any selected row")]
    NamedNowhere(String),
    /// `--map` names a parameter that the predictor does not take.
    #[error("cannot be mapped: the predictor has no parameter `{parameter}`, only {}", list(.parameters))]
    UnknownParameter {
        /// The parameter that was given.
        parameter: String,
        /// The parameters of the predictor.
        parameters: Vec<String>,
    },
    /// `--map` names one parameter twice.
    #[error("cannot be mapped: `--map` gives the parameter `{0}` twice")]
    MappedTwice(String),
    /// `--column` is given, but no parameter takes it.
    #[error(
        "has a column `{column}` that no parameter takes: the predictor has no free parameter `question`"
    )]
    UnusedColumn {
        /// The column given.
        column: String,
        /// A parameter it could be mapped to.
        parameter: Option<String>,
    },
}

/// A value that cannot be converted to the type of its parameter.
#[derive(Debug)]
pub struct Unfit {
    /// The column.
    pub column: String,
    /// The value; of a long one, only the beginning.
    pub value: String,
    /// The type.
    pub kind: String,
    /// Why it cannot be converted.
    pub reason: String,
}

impl Fault {
    pub(super) fn on_line(self, line: u64) -> Located {
        Located { line: Some(line), fault: self }
    }

    /// Locates a fault found while the header was read: faults of the columns are on its line, faults of the options on
    /// none.
    pub(super) fn in_header(self, line: u64) -> Located {
        match self {
            Self::MissingColumn { .. } | Self::DuplicateColumn { .. } => self.on_line(line),
            _ => self.into(),
        }
    }
}

impl From<Fault> for Located {
    fn from(fault: Fault) -> Self {
        Self { line: None, fault }
    }
}

impl std::fmt::Display for Located {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line} {}", self.fault),
            None => write!(f, "it {}", self.fault),
        }
    }
}

/// The ending of a noun that is counted.
pub(super) fn plural(count: u64) -> &'static str {
    if count == 1 { "" } else { "s" }
}

fn wanted_by(parameter: Option<&str>, column: &str) -> String {
    let parameter = parameter.filter(|name| *name != column);
    parameter.map_or(String::new(), |name| format!(" for the parameter `{name}`"))
}

/// How many names a message lists: enough to recognize a file by.
const LISTED: usize = 20;

fn list(names: &[String]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    let mut listed: Vec<_> = names.iter().take(LISTED).map(|name| format!("`{name}`")).collect();
    if names.len() > LISTED {
        listed.push(format!("and {} more", names.len() - LISTED));
    }
    listed.join(", ")
}
