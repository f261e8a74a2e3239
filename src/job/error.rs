//! Why a job cannot be prepared, run, resumed or read: [`JobError`].

use std::error::Error;
use std::path::{Path, PathBuf};

use crate::input::InputError;
use crate::journal::JournalError;
use crate::output::OutputError;
use crate::policy::stop::Signal;
use crate::report::json::ReportError;
use crate::run::control::Control;

/// The kinds of [`JobError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The options contradict each other, or do not fit the predictor.
    Usage,
    /// The input cannot be read, or has a row that the predictor cannot be called with.
    Input,
    /// A file cannot be written, or would replace one that must stay.
    Output,
    /// The journal is missing, in use, damaged, or of another version.
    Journal,
    /// The journal holds another job than the one that was asked for.
    Changed,
    /// Python, the predictor or the local model cannot be started.
    Predictor,
    /// The cluster cannot be reached, was lost before the first call, or had no room for an actor before the deadline.
    /// The same job may find it otherwise later.
    Cluster,
    /// The job was stopped before its first call, or another step before its end.
    Stopped(Signal),
    /// A bug in this library.
    Internal,
}

/// Why a job failed. The text names what failed, then its causes, and may end with a line `hint: …`.
#[derive(Debug, thiserror::Error)]
#[error("{}", with_causes(text, self.source()))]
pub struct JobError {
    kind: ErrorKind,
    text: String,
    file: Option<PathBuf>,
    line: Option<u64>,
    called: bool,
    #[source]
    cause: Option<Box<dyn Error + Send + Sync>>,
}

impl JobError {
    /// Makes an error. `text` may end with a line `hint: …` that says what to do about it.
    pub(crate) fn new(kind: ErrorKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into(), file: None, line: None, called: false, cause: None }
    }

    /// Names the file that the error is about.
    pub(crate) fn at(self, file: &Path) -> Self {
        Self { file: Some(file.to_owned()), ..self }
    }

    /// Sets the cause of the error.
    pub(crate) fn because(self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { cause: Some(cause.into()), ..self }
    }

    /// Notes whether calls were made before the error.
    pub(crate) fn after_calls(self, called: bool) -> Self {
        Self { called: self.called || called, ..self }
    }

    /// Reports a journal without a session. Readers refuse such a journal before.
    pub(crate) fn no_session(journal: &Path) -> Self {
        Self::new(ErrorKind::Journal, "the journal has no session").at(journal)
    }

    /// Reports a stop before the first call.
    pub(crate) fn stopped(signal: Signal) -> Self {
        Self::new(ErrorKind::Stopped(signal), "the job was stopped before its first call")
    }

    /// Reports a stop before the end of a step that makes no calls.
    pub(crate) fn cut_short(step: &str, signal: Signal) -> Self {
        Self::new(ErrorKind::Stopped(signal), format!("{step} was stopped"))
    }

    /// Reports why such a step failed, or that `control` stopped it.
    pub(crate) fn of_step(step: &str, error: impl Into<Self>, control: &Control) -> Self {
        control.asked().map_or_else(|| error.into(), |signal| Self::cut_short(step, signal))
    }

    /// Reports a panic on one of this library's threads.
    pub(crate) fn panicked(error: &tokio::task::JoinError) -> Self {
        Self::new(ErrorKind::Internal, format!("an internal thread panicked: {error}"))
    }

    /// The kind of the error.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The file that the error is about, if it is about one.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// The line in [`Self::file`], counted from 1, if one is known.
    pub fn line(&self) -> Option<u64> {
        self.line
    }

    /// What to do about the error, if that is known.
    pub fn hint(&self) -> Option<String> {
        self.to_string().split_once("\nhint: ").map(|(_, hint)| hint.to_owned())
    }

    /// Whether calls were made before the error, which may have cost money. Their answers are in the journal.
    pub fn called(&self) -> bool {
        self.called
    }
}

/// A text, followed by the causes that it does not tell already.
pub(crate) fn with_causes(text: &str, cause: Option<&(dyn Error + 'static)>) -> String {
    let causes = std::iter::successors(cause, |error| (*error).source()).map(ToString::to_string);
    causes
        .fold(text.to_owned(), |text, cause| if text.contains(&cause) { text } else { text + ": " + &cause })
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

/// Returns a [`JobError`] of a kind and about a file from the enclosing function, with a formatted text.
macro_rules! refuse {
    ($kind:ident, $file:expr, $($text:tt)+) => {
        return Err($crate::job::error::JobError::new($crate::job::error::ErrorKind::$kind, format!($($text)+)).at($file))
    };
}
pub(crate) use refuse;

/// Turns any error into a [`JobError`].
pub(crate) trait Explain<T> {
    /// Wraps the error as the cause of a [`JobError`] with this kind, file and text.
    fn explain(self, kind: ErrorKind, file: &Path, text: impl FnOnce() -> String) -> Result<T, JobError>;
}

impl<T, E: Into<Box<dyn Error + Send + Sync>>> Explain<T> for Result<T, E> {
    fn explain(self, kind: ErrorKind, file: &Path, text: impl FnOnce() -> String) -> Result<T, JobError> {
        self.map_err(|error| JobError::new(kind, text()).at(file).because(error))
    }
}
