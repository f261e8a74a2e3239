//! The options, in the groups of `docs/contract.md`. Each can come from the environment as `TAB_<OPTION>`.

use std::num::NonZeroU32;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::FalseyValueParser;
use clap::{Args, ValueEnum};
use encoding_rs::Encoding;

use super::near::argument_meant;
use super::recorded::is_key;
use super::values::{concurrency, delimiter, duration, encoding, fields, pair, range, wait};
use super::variables::switch;
use crate::bridge::python::event_loop::LoopKind;
use crate::output::Access;
use crate::policy::limits::MaxFailures;
use crate::policy::rate::Rates;
use crate::policy::retry::RetryPolicy;
use crate::report::progress::ProgressKind;

/// Which program answers.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Predictor")]
pub struct PredictorOptions {
    /// `path/to/file.py:name`, `package.module:name`, or `dspy` for `dspy.ChainOfThought(SIGNATURE)`
    #[arg(long, value_name = "SPEC", default_value = "dspy", env = "TAB_PREDICTOR")]
    pub predictor: String,
    /// Signature of the predictor `dspy`: its fields, or a class, as `path/to/file.py:Class` or `module:Class`
    #[arg(long, default_value = "question -> answer", env = "TAB_SIGNATURE")]
    pub signature: String,
    /// A DSPy program: its state, saved as JSON, for the module that the predictor is; or the directory of a whole one,
    /// saved with `save_program=True` (a pickle, which can run anything)
    #[arg(long, value_name = "PATH", env = "TAB_PROGRAM")]
    pub program: Option<PathBuf>,
    /// `local` (served on this machine) or what DSPy takes, such as `openai/gpt-4o-mini` [default: local]
    #[arg(long, value_name = "NAME", env = "TAB_MODEL")]
    pub model: Option<String>,
    /// Where the model's API is, instead of its provider's own
    #[arg(long, value_name = "URL", env = "TAB_API_BASE")]
    pub api_base: Option<String>,
    /// An argument of the language model: `temperature`, `max_tokens`, … (repeatable)
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair, env = "TAB_LM", value_delimiter = None)]
    pub lm: Vec<(String, String)>,
    /// A file of variables (`NAME=VALUE` lines) to be set where they are not; only its path is recorded
    #[arg(long, value_name = "FILE", env = "TAB_ENV_FILE")]
    pub env_file: Option<PathBuf>,
    /// The Python interpreter [default: that of $`VIRTUAL_ENV`, of .venv here or further up, or `python3`]
    #[arg(long, value_name = "PATH", env = "TAB_PYTHON")]
    pub python: Option<PathBuf>,
    /// The event loop; `auto` takes uvloop where it is installed
    #[arg(long, value_name = "KIND", default_value = "auto", env = "TAB_EVENT_LOOP")]
    pub event_loop: LoopChoice,
    /// The bridge: `python`, `into_future`, or `fake[:SCRIPT]`
    #[arg(long, hide = true, default_value = "python")]
    pub bridge: String,
}

impl PredictorOptions {
    /// Names of the secrets among `--lm`, whose values are never written down.
    pub fn keys(&self) -> Vec<&str> {
        self.lm.iter().map(|(key, _)| key.as_str()).filter(|key| is_key(key)).collect()
    }

    /// A sentence on each argument of the language model that is probably misspelt: it would be sent, and do nothing.
    pub fn misspelt(&self) -> Vec<String> {
        let meant = |key: &str| argument_meant(key).map(|meant| (key.to_owned(), meant));
        let meant = self.lm.iter().filter_map(|(key, _)| meant(key));
        meant
            .map(|(key, meant)| {
                format!("`--lm {key}=…` is no argument that is known\nhint: is `{meant}` meant?")
            })
            .collect()
    }

    /// The model asked for, `local` by default.
    pub fn model_name(&self) -> &str {
        self.model.as_deref().unwrap_or("local")
    }
}

/// `--event-loop`.
#[derive(Debug, Clone, Copy, ValueEnum)]
#[allow(missing_docs)]
pub enum LoopChoice {
    Auto,
    Asyncio,
    Uvloop,
}

impl From<LoopChoice> for LoopKind {
    fn from(choice: LoopChoice) -> Self {
        match choice {
            LoopChoice::Auto => Self::Auto,
            LoopChoice::Asyncio => Self::Asyncio,
            LoopChoice::Uvloop => Self::Uvloop,
        }
    }
}

/// `--format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum FormatChoice {
    Csv,
    Jsonl,
}

/// Which rows, and how they become arguments.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Rows")]
pub struct RowOptions {
    /// The column that becomes the argument `question` [default: question]
    #[arg(long, value_name = "NAME", env = "TAB_COLUMN")]
    pub column: Option<String>,
    /// The column that becomes another argument (repeatable)
    #[arg(long, value_name = "PARAM=COLUMN", value_parser = pair, env = "TAB_MAP")]
    pub map: Vec<(String, String)>,
    /// A column that names the rows; passed on, never a key
    #[arg(long, value_name = "NAME", env = "TAB_ID_COLUMN")]
    pub id_column: Option<String>,
    /// Only the first N rows (not with `--range`)
    #[arg(short = 'n', long, value_name = "N", env = "TAB_LIMIT")]
    pub limit: Option<u64>,
    /// Only rows A to B, 0-based, end exclusive
    #[arg(long, value_name = "A:B", value_parser = range, env = "TAB_RANGE")]
    pub range: Option<Range<u64>>,
    /// The CSV field delimiter [default: what the file's first line says (`sep=;`), or ,]
    #[arg(long, value_name = "CHAR", value_parser = delimiter, env = "TAB_DELIMITER")]
    pub delimiter: Option<u8>,
    /// The input's encoding
    #[arg(long, value_name = "LABEL", value_parser = encoding, default_value = "utf-8", env = "TAB_ENCODING")]
    pub encoding: &'static Encoding,
    /// The input's format, where its name does not tell
    #[arg(long, value_name = "FORMAT", env = "TAB_FORMAT")]
    pub format: Option<FormatChoice>,
}

impl RowOptions {
    /// The rows to run, before the file's length is known.
    pub fn selection(&self) -> Range<u64> {
        match (&self.range, self.limit) {
            (Some(range), _) => range.clone(),
            (None, Some(limit)) => 0..limit,
            (None, None) => 0..u64::MAX,
        }
    }
}

/// One at a time, or several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// One call in flight.
    Sequential,
    /// As many as the concurrency allows.
    Concurrent,
}

/// How many calls at once.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Pace")]
pub struct PaceOptions {
    /// One call at a time
    #[arg(long, overrides_with = "concurrent")]
    pub sequential: bool,
    /// Several calls at a time (the default)
    #[arg(long, overrides_with = "sequential")]
    pub concurrent: bool,
    /// Calls in flight at most
    #[arg(short = 'c', long, value_name = "N", value_parser = concurrency, default_value = "16", env = "TAB_CONCURRENCY")]
    pub concurrency: usize,
}

impl PaceOptions {
    /// The mode: a flag beats both variables, also that of its opposite.
    pub fn mode(&self) -> Result<Mode, String> {
        match (self.sequential, self.concurrent) {
            (true, _) => return Ok(Mode::Sequential),
            (_, true) => return Ok(Mode::Concurrent),
            _ => {}
        }
        match (switched_on("TAB_SEQUENTIAL")?, switched_on("TAB_CONCURRENT")?) {
            (true, true) => Err("`TAB_SEQUENTIAL` and `TAB_CONCURRENT` cannot both be set".to_owned()),
            (true, false) => Ok(Mode::Sequential),
            _ => Ok(Mode::Concurrent),
        }
    }

    /// Calls in flight at most, in the mode chosen.
    pub fn calls(&self) -> Result<usize, String> {
        Ok(if self.mode()? == Mode::Sequential { 1 } else { self.concurrency })
    }
}

/// How many calls a minute.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Pace")]
pub struct RateOptions {
    /// Requests a minute at most, evenly spread
    #[arg(long, value_name = "N", env = "TAB_RPM")]
    pub rpm: Option<NonZeroU32>,
    /// Tokens a minute at most, in and out: estimated before each call, settled by what it used
    #[arg(long, value_name = "N", env = "TAB_TPM")]
    pub tpm: Option<NonZeroU32>,
}

impl RateOptions {
    /// The policy they make.
    pub fn rates(&self) -> Rates {
        Rates { rpm: self.rpm, tpm: self.tpm }
    }
}

/// Whether an environment variable turns a switch on.
fn switched_on(name: &str) -> Result<bool, String> {
    let value = std::env::var(name).unwrap_or_default();
    switch(&value).map_err(|expected| format!("`{name}={value}`: {expected}"))
}

/// How long things may take.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Time")]
pub struct TimeOptions {
    /// For each attempt, from its hand-over to Python
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "60s", env = "TAB_TIMEOUT")]
    pub timeout: Duration,
    /// For all attempts of a row together
    #[arg(long, value_name = "DURATION", value_parser = duration, env = "TAB_ROW_TIMEOUT")]
    pub row_timeout: Option<Duration>,
    /// For the whole run, or all runs of `compare` together; then no new calls are made
    #[arg(long, value_name = "DURATION", value_parser = duration, env = "TAB_DEADLINE")]
    pub deadline: Option<Duration>,
    /// A loop that has not turned for the timeout and this much longer ends the run
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "10s", hide = true, env = "TAB_STUCK_AFTER")]
    pub stuck_after: Duration,
    /// How long calls in flight may go on once the run is stopping (Kubernetes kills 30 s after it asks)
    #[arg(long, value_name = "DURATION", value_parser = wait, default_value = "20s", env = "TAB_GRACE")]
    pub grace: Duration,
}

/// `--cut-off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum CutOffChoice {
    Keep,
    Fail,
}

/// What is tried again.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Retry")]
pub struct RetryOptions {
    /// Retries a row may use up
    #[arg(long, value_name = "N", default_value_t = 3, env = "TAB_RETRIES")]
    pub retries: u32,
    /// Upper bound of the first wait; it doubles with every retry
    #[arg(long, value_name = "DURATION", value_parser = wait, default_value = "1s", env = "TAB_BACKOFF")]
    pub backoff: Duration,
    /// Upper bound of every wait
    #[arg(long, value_name = "DURATION", value_parser = wait, default_value = "60s", env = "TAB_BACKOFF_MAX")]
    pub backoff_max: Duration,
    /// Whether an answer that the model was cut off in, at its `max_tokens`, is kept and counted, or fails its row
    #[arg(long, value_name = "WHAT", default_value = "keep", env = "TAB_CUT_OFF")]
    pub cut_off: CutOffChoice,
}

impl RetryOptions {
    /// The policy they make.
    pub fn policy(&self) -> RetryPolicy {
        RetryPolicy { retries: self.retries, base: self.backoff, cap: self.backoff_max }
    }
}

/// When to give up.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Stop")]
pub struct StopOptions {
    /// Stop at so many failed rows, or over P% of the finished ones (from 20 on); 100% never stops
    #[arg(long, value_name = "N|P%", env = "TAB_MAX_FAILURES")]
    pub max_failures: Option<MaxFailures>,
}

/// Which of the predictor's fields become columns of the answers.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Output")]
pub struct FieldOptions {
    /// The predictor's columns in the answers, in this order; `finish_reason`, `input_tokens` and `output_tokens` can be
    /// asked for too [default: all fields]
    #[arg(long, value_name = "NAME,…", value_parser = fields, env = "TAB_FIELDS")]
    pub fields: Option<FieldNames>,
}

/// Names of fields, at least one, none twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldNames(pub Vec<String>);

impl FieldOptions {
    /// The names; none for all fields.
    pub fn names(&self) -> &[String] {
        self.fields.as_ref().map_or(&[], |names| &names.0)
    }
}

/// What is written beside the answers.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Output")]
pub struct PageOptions {
    /// Write the report as a page, `<ANSWERS>.report.html`, too (the default)
    #[arg(long, overrides_with = "no_html")]
    pub html: bool,
    /// Write no page
    #[arg(long, overrides_with = "html")]
    pub no_html: bool,
}

impl PageOptions {
    /// Whether the page is wanted: a flag beats both variables, also that of its opposite.
    pub fn wanted(self) -> Result<bool, String> {
        match (self.html, self.no_html) {
            (true, _) => return Ok(true),
            (_, true) => return Ok(false),
            _ => {}
        }
        match (switched_on("TAB_HTML")?, switched_on("TAB_NO_HTML")?) {
            (true, true) => Err("`TAB_HTML` and `TAB_NO_HTML` cannot both be set".to_owned()),
            (_, without) => Ok(!without),
        }
    }
}

/// Who may read what a run writes.
#[derive(Debug, Clone, Copy, Default, Args)]
#[command(next_help_heading = "Output")]
pub struct AccessOptions {
    /// Let nobody but you read the answers and reports, whatever the umask says; the journal never lets others
    #[arg(long, env = "TAB_PRIVATE", value_parser = FalseyValueParser::new())]
    pub private: bool,
}

impl AccessOptions {
    /// The access they make.
    pub fn access(self) -> Access {
        if self.private { Access::Private } else { Access::Usual }
    }
}

/// `--color`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum ColorChoice {
    Auto,
    Always,
    Never,
}

/// What is shown.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Show")]
pub struct ShowOptions {
    /// Progress on standard error
    #[arg(long, value_name = "KIND", default_value = "auto", env = "TAB_PROGRESS")]
    pub progress: ProgressKind,
    /// No summary and no progress; errors only
    #[arg(short, long, env = "TAB_QUIET")]
    pub quiet: bool,
    /// More on standard error (twice: even more)
    #[arg(short, long, action = clap::ArgAction::Count, env = "TAB_VERBOSE")]
    pub verbose: u8,
    /// Colours
    #[arg(long, value_name = "WHEN", default_value = "auto", env = "TAB_COLOR")]
    pub color: ColorChoice,
}

impl ShowOptions {
    /// Whether to colour what goes to a stream that is, or is not, a terminal.
    pub fn colored(&self, is_terminal: bool) -> bool {
        match self.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => {
                is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            }
        }
    }
}
