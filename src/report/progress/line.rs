//! The lines for programs: one JSON object each, with its `type` and its `time` (RFC 3339, UTC).
//!
//! Every second a line of type `progress` with the fields of a [`Snapshot`]: counts of rows `total`, `resumed`, `ok`,
//! `failed`, `unfinished`, `in_flight`, `waiting_retry`; of calls `abandoned`; then `cost_usd` of the whole job (null
//! where no price is known), `rows_per_s`, `limited_by` (`rpm`, `tpm`, `server`, `outage` or null), `elapsed_s`, `eta_s`
//! (null before the first outcome). A line of type `status` has the same, or none of it before the first call.
//!
//! In between, lines of type `message` with `level` (`note`, `warning`, `error`) and `text`: what went wrong for good is
//! one of level `error`. What Python prints is `output` with its `text`.
//!
//! Each failed attempt is a line of type `attempt` with what the journal records of it.
//!
//! The last line of `process`, `resume` and `compare`, whatever ended them, is `finish`: `exit_code`, the paths `answers`,
//! `journal`, `report` and `page` (null for what was not written), and the fields of the last snapshot.

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

/// A run's files; none for what was not written.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Written<'a> {
    /// The answers.
    pub answers: Option<&'a Path>,
    /// The journal.
    pub journal: Option<&'a Path>,
    /// The timing report.
    pub report: Option<&'a Path>,
    /// The same as a page.
    pub page: Option<&'a Path>,
}

/// A snapshot, with what follows from it.
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
        // A path that is no UTF-8 has no form in JSON.
        escape_json(serde_json::to_string(&Timed { time, line: self }).unwrap_or_default())
    }
}

/// A message as a line of its own, with control characters escaped.
pub fn message_line(level: Level, text: &str) -> String {
    Line::Message { level, text: &escape_lines(text) }.text()
}
