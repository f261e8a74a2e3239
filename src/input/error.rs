//! What can be wrong with an input file: the fault, its line, the remedy. Not for rows that merely cannot be asked.

use std::path::{Path, PathBuf};

use super::hint;
use super::source::{Format, Source};

/// A refused input file: what is wrong, on which line, and what mends it.
///
/// Its text is the whole message, further faults and the hint on lines of their own.
#[derive(Debug)]
pub struct InputError(Box<Details>);

#[derive(Debug)]
struct Details {
    path: PathBuf,
    first: Located,
    also: Vec<Located>,
    hint: Option<String>,
}

/// A fault and its 1-based physical line; `None` where the file as a whole is meant.
#[derive(Debug)]
pub(super) struct Located {
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
    #[error("is no regular file, and the rows are read twice")]
    NotRegular,
    /// Neither `.csv` nor `.jsonl`.
    #[error("is named neither `.csv` nor `.jsonl`")]
    UnknownFormat,
    /// The delimiter cannot be told from quotes, line ends or text.
    #[error("cannot be split at the delimiter `{}`", .0.escape_ascii())]
    Delimiter(u8),
    /// No record at all.
    #[error("is empty: line 1 should be {}", match .0 { Format::Csv => "the header", Format::Jsonl => "a JSON object" })]
    Empty(Format),
    /// Bytes that the encoding does not have.
    #[error("is not valid {0}")]
    Encoding(&'static str),
    /// A NUL byte.
    #[error("holds a NUL byte")]
    Nul,
    /// A record longer than the limit, in bytes.
    #[error("starts a record of more than {} MiB", .0 >> 20)]
    TooLong(usize),
    /// CSV: end of file within quotes.
    #[error("opens a quote that is never closed")]
    UnclosedQuote,
    /// CSV: `"a"b`.
    #[error("has text after a closing quote")]
    TextAfterQuote,
    /// CSV: `a"b`.
    #[error("has a quote inside an unquoted field")]
    BareQuote,
    /// CSV: a record as wide as the header it is not.
    #[error("has {fields} field{}, the header has {header}", plural(*.fields))]
    Uneven {
        /// Fields of the record.
        fields: usize,
        /// Fields of the header.
        header: usize,
    },
    /// JSONL: the text is not JSON.
    #[error("is not valid JSON: {0}")]
    Json(String),
    /// JSONL: a number that JSON has no way to write.
    #[error("is not valid JSON: `{token}` at byte {byte}")]
    NotFinite {
        /// `NaN`, `Infinity` or `-Infinity`.
        token: &'static str,
        /// 1-based, within the line.
        byte: usize,
    },
    /// JSONL: the line ends before its object does.
    #[error("is torn: it ends within the JSON object")]
    Torn,
    /// JSONL: JSON, but no object.
    #[error("is no JSON object but {0}")]
    NotObject(&'static str),
    /// JSONL: brackets nested deeper than the limit.
    #[error("nests deeper than {0} levels")]
    TooDeep(usize),
    /// A column that the run uses is there more than once.
    #[error("has {count} columns named `{column}`")]
    DuplicateColumn {
        /// The name.
        column: String,
        /// How often it is there.
        count: usize,
    },
    /// JSONL: an object without a key that a required parameter takes.
    #[error("has no key `{0}`")]
    MissingKey(String),
    /// A value that its parameter's type cannot be made of.
    #[error("has `{}` in the column `{}`, which is no `{}`: {}", .0.value, .0.column, .0.kind, .0.reason)]
    Misfit(Box<Unfit>),
    /// The types of the parameters cannot be used.
    #[error("cannot be checked against the types of the predictor's parameters: {0}")]
    Types(String),
    /// A column that was asked for is not in the file.
    #[error("has no column `{column}`{}, only {}", wanted_by(.parameter.as_deref(), .column), list(.columns))]
    MissingColumn {
        /// The name asked for.
        column: String,
        /// The parameter that takes it; none for `--id-column`.
        parameter: Option<String>,
        /// What the file has.
        columns: Vec<String>,
    },
    /// JSONL: no selected row has a key that the user named.
    #[error("has no key `{0}` in any selected row")]
    NamedNowhere(String),
    /// `--map` names a parameter that the predictor does not take.
    #[error("cannot be mapped: the predictor has no parameter `{parameter}`, only {}", list(.parameters))]
    UnknownParameter {
        /// The name given.
        parameter: String,
        /// What the predictor has.
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

/// A value that is none of its parameter's type.
#[derive(Debug)]
pub struct Unfit {
    /// The column.
    pub column: String,
    /// The value, or the beginning of a long one.
    pub value: String,
    /// The type.
    pub kind: String,
    /// Why the value is none.
    pub reason: String,
}

impl Fault {
    pub(super) fn on_line(self, line: u64) -> Located {
        Located { line: Some(line), fault: self }
    }

    /// A fault found with the header at hand: only what is wrong with the columns is on its line, not what is wrong with
    /// the options.
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

impl InputError {
    pub(super) fn new(source: &Source, located: impl Into<Located>) -> Self {
        let first = located.into();
        let hint = hint::of(source, &first.fault);
        Self(Box::new(Details { path: source.path.clone(), first, also: Vec::new(), hint }))
    }

    pub(super) fn unknown_format(path: &Path) -> Self {
        let hint = hint::of_unknown_format(path);
        let first = Fault::UnknownFormat.into();
        Self(Box::new(Details { path: path.to_owned(), first, also: Vec::new(), hint: Some(hint) }))
    }

    /// Adds what else is wrong with the file.
    pub(super) fn add(&mut self, error: Self) {
        self.0.also.push(error.0.first);
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// What is wrong.
    pub fn fault(&self) -> &Fault {
        &self.0.first.fault
    }

    /// 1-based physical line of the fault; `None` where the file as a whole is meant.
    pub fn line(&self) -> Option<u64> {
        self.0.first.line
    }

    /// The option or command that mends it.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
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

impl std::fmt::Display for InputError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Details { path, first, also, hint } = &*self.0;
        write!(f, "failed to read `{}`: {first}", path.display())?;
        for fault in also {
            write!(f, "\n  also {fault}")?;
        }
        hint.as_ref().map_or(Ok(()), |hint| write!(f, "\nhint: {hint}"))
    }
}

impl std::error::Error for InputError {}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

fn wanted_by(parameter: Option<&str>, column: &str) -> String {
    let parameter = parameter.filter(|name| *name != column);
    parameter.map_or(String::new(), |name| format!(" for the parameter `{name}`"))
}

/// Enough names to recognize a file by, not the 9,000 that a wide one has.
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
