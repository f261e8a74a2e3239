//! The lines for programs. Each is a JSON object with its `type` and its `time` (RFC 3339, UTC).
//!
//! Every second there is a line of type `progress` with the fields of a [`Snapshot`]: the counts of rows `total`,
//! `resumed`, `ok`, `failed`, `unfinished`, `in_flight` and `waiting_retry`; the count of calls `abandoned`; `cost_usd`
//! of the whole job (null where no price is known), `rows_per_s`, `limited_by` (`rpm`, `tpm`, `server`, `outage` or
//! null), `elapsed_s`, and `eta_s` (null before the first outcome). A line of type `status` has the same fields, or
//! none of them before the first call.
//!
//! In between are lines of type `message` with `level` (`note`, `warning` or `error`) and `text`. The error that ends a
//! run has level `error`. A line that Python prints has type `output` and its `text`.
//!
//! Each failed attempt has a line of type `attempt` with the fields of its record in the journal.
//!
//! The last line of `process`, `resume` and `compare`, whatever ended them, has type `finish`: `exit_code`, the paths
//! `answers`, `journal`, `report` and `page` (null for files that were not written), and the fields of the last
//! snapshot.

use std::path::Path;
use std::time::SystemTime;

use serde::Serialize;

use crate::journal::timestamp;
use crate::observe::{Level, Snapshot};
use crate::outcome::FailedAttempt;
use crate::report::text::{escape_json, escape_lines};

/// One line.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Line<'a> {
    Progress(Figures<'a>),
    Status {
        #[serde(flatten)]
        standing: Option<Figures<'a>>,
    },
    Message {
        level: Level,
        text: &'a str,
    },
    Output {
        text: &'a str,
    },
    Attempt(&'a FailedAttempt),
    Finish {
        exit_code: u8,
        #[serde(flatten)]
        written: Written<'a>,
        #[serde(flatten)]
        standing: Option<Figures<'a>>,
    },
}

/// The files of a run, as far as they were written.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Written<'a> {
    /// The answers.
    pub answers: Option<&'a Path>,
    /// The journal.
    pub journal: Option<&'a Path>,
    /// The timing report.
    pub report: Option<&'a Path>,
    /// The page.
    pub page: Option<&'a Path>,
}

/// A snapshot and the figures that follow from it.
#[derive(Debug, Serialize)]
pub(super) struct Figures<'a> {
    #[serde(flatten)]
    snapshot: &'a Snapshot,
    elapsed_s: f64,
    eta_s: Option<f64>,
}

impl<'a> From<&'a Snapshot> for Figures<'a> {
    fn from(snapshot: &'a Snapshot) -> Self {
        let eta_s = snapshot.eta().map(|eta| eta.as_secs_f64());
        Self { snapshot, elapsed_s: snapshot.elapsed.as_secs_f64(), eta_s }
    }
}

#[derive(Serialize)]
struct Timed<'a> {
    time: String,
    #[serde(flatten)]
    line: &'a Line<'a>,
}

impl Line<'_> {
    /// The line's text.
    pub(super) fn text(&self) -> String {
        let time = timestamp(SystemTime::now());
        // Fails only for a path that is not UTF-8.
        escape_json(serde_json::to_string(&Timed { time, line: self }).unwrap_or_default())
    }
}

/// Formats a message as a line, with control characters escaped.
pub(crate) fn message_line(level: Level, text: &str) -> String {
    Line::Message { level, text: &escape_lines(text) }.text()
}
