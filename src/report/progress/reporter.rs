//! What every reporter does, and the words for it. Not how any of them does it.

use serde::Serialize;

use super::Snapshot;
use crate::event::Event;

/// The values of `--progress`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ProgressKind {
    /// A bar on a terminal, lines elsewhere, nothing when quiet.
    #[default]
    Auto,
    /// A bar; lines where there is no terminal.
    Bar,
    /// A line now and then, for pipes and logs.
    Plain,
    /// One JSON object a line, for programs.
    Json,
    /// Messages only.
    None,
}

/// For whom what is said is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// For people.
    Text,
    /// For programs: one JSON object a line.
    Json,
}

impl ProgressKind {
    /// For whom.
    pub fn form(self) -> Form {
        if self == Self::Json { Form::Json } else { Form::Text }
    }
}

/// How much a message matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Good to know; not said when quiet.
    Note,
    /// Something is not as it should be.
    Warning,
    /// Something did not work.
    Error,
}

/// Shows a run while it runs. A reader that has gone away is never an error.
pub trait Reporter: Send {
    /// Something happened to a row, and is recorded.
    fn event(&mut self, event: &Event);
    /// Called several times a second; decides for itself what to show and when.
    fn tick(&mut self, snapshot: &Snapshot);
    /// Says something, without tearing what is shown; the text may have several lines.
    fn message(&mut self, level: Level, text: &str);
    /// The last call: shows how the run ended.
    fn finish(&mut self, snapshot: &Snapshot);
}
