//! Why a job cannot be prepared, run, resumed or read: [`JobError`].

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::input::InputError;
use crate::journal::JournalError;
use crate::output::OutputError;
use crate::policy::stop::Signal;
use crate::report::json::ReportError;

/// What a [`JobError`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// What was asked for contradicts itself, or does not fit the predictor.
    Usage,
    /// The input cannot be read, or has a row that the predictor could not be asked.
    Input,
    /// A file cannot be written, or would replace one that must stay.
    Output,
    /// The journal is missing, in use, damaged, or of another version.
    Journal,
    /// The journal holds another job than the one that was asked for.
    Changed,
    /// Python, the predictor or the local model does not start.
    Predictor,
    /// A stop was asked for before the first call.
    Stopped(Signal),
    /// A defect of this library.
    Internal,
}

/// Why a job did not do what it was asked for.
#[derive(Debug)]
pub struct JobError {
    kind: ErrorKind,
    text: String,
    file: Option<PathBuf>,
    line: Option<u64>,
    called: bool,
    cause: Option<Box<dyn Error + Send + Sync>>,
}

impl JobError {
    /// An error of a kind. `text` may end with a line `hint: …` that tells the remedy.
    pub(crate) fn new(kind: ErrorKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into(), file: None, line: None, called: false, cause: None }
    }

    /// The same, about a file.
    pub(crate) fn at(self, file: &Path) -> Self {
        Self { file: Some(file.to_owned()), ..self }
    }

    /// The same, from a cause.
    pub(crate) fn because(self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { cause: Some(cause.into()), ..self }
    }

    /// The same, after calls were made.
    pub(crate) fn after_calls(self) -> Self {
        Self { called: true, ..self }
    }

    /// The journal has no session, which no reader lets through.
    pub(crate) fn no_session(journal: &Path) -> Self {
        Self::new(ErrorKind::Journal, "the journal has no session").at(journal)
    }

    /// A stop was asked for before the first call.
    pub(crate) fn stopped(signal: Signal) -> Self {
        Self::new(ErrorKind::Stopped(signal), "the job was stopped before its first call")
    }

    /// A thread of ours panicked.
    pub(crate) fn panicked(error: &tokio::task::JoinError) -> Self {
        Self::new(ErrorKind::Internal, format!("an internal thread panicked: {error}"))
    }

    /// What it is about.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The file it is about.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// The line of that file, from 1.
    pub fn line(&self) -> Option<u64> {
        self.line
    }

    /// The remedy, where one is known.
    pub fn hint(&self) -> Option<String> {
        self.to_string().split_once("\nhint: ").map(|(_, hint)| hint.to_owned())
    }

    /// Whether calls had been made, which may have cost money. What was answered is in the journal.
    pub fn called(&self) -> bool {
        self.called
    }
}

impl fmt::Display for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        let mut cause = self.cause.as_deref().map(|cause| cause as &dyn Error);
        let mut told = self.text.clone();
        while let Some(error) = cause {
            let text = error.to_string();
            // Most errors already say what caused them.
            if !told.contains(&text) {
                write!(f, ": {text}")?;
                told += &text;
            }
            cause = error.source();
        }
        Ok(())
    }
}

impl Error for JobError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as &(dyn Error + 'static))
    }
}

impl From<InputError> for JobError {
    fn from(error: InputError) -> Self {
        let (file, line) = (Some(error.path().to_owned()), error.line());
        Self { file, line, ..Self::new(ErrorKind::Input, error.to_string()).because(error) }
    }
}

impl From<JournalError> for JobError {
    fn from(error: JournalError) -> Self {
        let file = error.path().map(Path::to_owned);
        Self { file, ..Self::new(ErrorKind::Journal, error.to_string()).because(error) }
    }
}

impl From<OutputError> for JobError {
    fn from(error: OutputError) -> Self {
        let file = error.path().map(Path::to_owned);
        Self { file, ..Self::new(ErrorKind::Output, error.to_string()).because(error) }
    }
}

impl From<ReportError> for JobError {
    fn from(error: ReportError) -> Self {
        let file = error.path().to_owned();
        Self { file: Some(file), ..Self::new(ErrorKind::Output, error.to_string()).because(error) }
    }
}

/// Returns a [`JobError`] of the kind about the file, with a formatted text.
macro_rules! refuse {
    ($kind:ident, $file:expr, $($text:tt)+) => {
        return Err($crate::job::error::JobError::new($crate::job::error::ErrorKind::$kind, format!($($text)+)).at($file))
    };
}
pub(crate) use refuse;

/// Says what failed, and about which file.
pub(crate) trait Explain<T> {
    /// An error of the kind with this text, caused by what failed.
    fn explain(self, kind: ErrorKind, file: &Path, text: impl FnOnce() -> String) -> Result<T, JobError>;
}

impl<T, E: Into<Box<dyn Error + Send + Sync>>> Explain<T> for Result<T, E> {
    fn explain(self, kind: ErrorKind, file: &Path, text: impl FnOnce() -> String) -> Result<T, JobError> {
        self.map_err(|error| JobError::new(kind, text()).at(file).because(error))
    }
}
