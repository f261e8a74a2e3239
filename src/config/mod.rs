//! What the user asked for, validated: options and environment become the values a run needs. Not the run itself.

pub mod env_file;
pub mod money;
pub mod near;
pub mod opposites;
pub mod options;
pub mod paths;
pub mod recorded;
pub mod values;
pub mod variables;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use self::money::MoneyOptions;
use self::options::{
    AccessOptions, FieldOptions, FormatChoice, PaceOptions, PageOptions, PredictorOptions, RateOptions,
    RetryOptions, RowOptions, ShowOptions, StopOptions, TimeOptions,
};
use self::paths::JobPaths;
use crate::input::{Format, InputError, Source};

/// In place of an input where one may be left out: no file can have this name.
pub const NO_INPUT: &str = ".";

/// The options of `process`, and of `doctor`, where the input may be left out ([`NO_INPUT`]).
#[derive(Debug, Clone, Args)]
pub struct ProcessOptions {
    /// A `.csv` or `.jsonl` file, a pipe, or `-` for standard input (with `--format`)
    pub input: PathBuf,
    /// Where the answers go [default: INPUT's stem + `.answers.csv` or `.answers.jsonl`, in the current directory]
    #[arg(short, long, value_name = "ANSWERS")]
    pub output: Option<PathBuf>,
    /// Start anew where a journal stands, or a file that no run wrote; it is kept as `<ANSWERS>.journal.<time>` or
    /// `<ANSWERS>.<time>`
    #[arg(long)]
    pub force: bool,
    /// The directory of a job whose answers nobody wants (`-o /dev/null`); removed at its end
    #[arg(skip)]
    pub scratch: Option<PathBuf>,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub fields: FieldOptions,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub page: PageOptions,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub pace: PaceOptions,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub job: JobOptions,
}

/// What `process`, `resume` and `compare` share.
#[derive(Debug, Clone, Args)]
pub struct JobOptions {
    /// Check everything, call nothing
    #[arg(long, env = "TAB_DRY_RUN")]
    pub dry_run: bool,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub access: AccessOptions,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub predictor: PredictorOptions,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub rows: RowOptions,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub rates: RateOptions,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub time: TimeOptions,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub retry: RetryOptions,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub stop: StopOptions,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub money: MoneyOptions,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub show: ShowOptions,
}

/// The options of `resume`.
#[derive(Debug, Clone, Args)]
pub struct ResumeOptions {
    /// The answers file of the earlier run, whose options hold again unless given anew
    pub answers: PathBuf,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub which: WhichOptions,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub fields: FieldOptions,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub page: PageOptions,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub pace: PaceOptions,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub job: JobOptions,
}

/// Which rows `resume` takes up.
#[derive(Debug, Clone, Copy, Args)]
pub struct WhichOptions {
    /// Only the rows that failed, or only those without an outcome [default: both]
    #[arg(long, value_name = "STATE")]
    pub only: Option<OnlyChoice>,
    /// Go on although the input, the predictor or the selection has changed; rows are matched by their content
    #[arg(long)]
    pub allow_changed: bool,
}

/// `--only`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum OnlyChoice {
    Failed,
    Unfinished,
}

impl ProcessOptions {
    /// Whether the rows come by a stream, which can be read only once.
    pub fn reads_stream(&self) -> bool {
        is_stream(&self.input)
    }

    /// The job's files.
    pub fn paths(&self, format: Format) -> JobPaths {
        let extension = if format == Format::Csv { "csv" } else { "jsonl" };
        // A descriptor's number names nothing.
        let input = if is_descriptor(&self.input) { Path::new("-") } else { &self.input };
        let default = JobPaths::default_answers(input, extension);
        if let Some(scratch) = &self.scratch {
            return JobPaths::of(&scratch.join(default));
        }
        JobPaths::find(self.output.as_ref().unwrap_or(&default))
    }

    /// The input file, or what a stream was spooled to, and how it is read.
    pub fn source(&self, format: Format, paths: &JobPaths) -> Source {
        let path = if self.reads_stream() { &paths.spool } else { &self.input };
        self.job.rows.source(path, format)
    }
}

/// Whether an input can be read only once: standard input, a named pipe, or a descriptor such as `<(…)` gives.
pub fn is_stream(input: &Path) -> bool {
    let is_pipe = || std::fs::metadata(input).is_ok_and(|input| !input.is_file() && !input.is_dir());
    input == Path::new("-") || is_descriptor(input) || is_pipe()
}

/// Whether the name is that of an open file of this process, which no later one has.
fn is_descriptor(input: &Path) -> bool {
    let path = std::path::absolute(input).unwrap_or_default();
    path == Path::new("/dev/stdin") || path.starts_with("/dev/fd") || path.starts_with("/proc")
}

impl RowOptions {
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

/// What makes two sessions the same run; a `resume` that differs in any of it is refused. `program` is the SHA-256 of
/// the saved program.
pub fn identity(
    predictor: &PredictorOptions,
    program: Option<String>,
    rows: &RowOptions,
) -> BTreeMap<String, String> {
    let list = |pairs: &[(String, String)]| {
        let sorted: BTreeMap<_, _> = pairs.iter().map(|(name, value)| (name, value)).collect();
        sorted.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(", ")
    };
    let lm: Vec<_> = predictor.lm.iter().filter(|(key, _)| !recorded::is_key(key)).cloned().collect();
    let selection = rows.selection();
    let end = if selection.end == u64::MAX { String::new() } else { selection.end.to_string() };
    [
        ("predictor", predictor.predictor.clone()),
        ("signature", predictor.signature.clone()),
        ("model", predictor.model_name().to_owned()),
        ("lm", list(&lm)),
        ("column", rows.column.clone().unwrap_or_default()),
        ("map", list(&rows.map)),
        ("selection", format!("{}:{end}", selection.start)),
    ]
    .into_iter()
    .chain(program.map(|sha256| ("program", format!("sha256 {sha256}"))))
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}
