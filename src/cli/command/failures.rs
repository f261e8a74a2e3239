//! Prints what `report --failures` shows: each failed or cut-off row with its recorded error, in the order of the
//! input.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;

use super::show::ShowOptions;
use super::streams::Streams;
use crate::error::{Failure, hint_of};
use crate::job::{JobError, damage};
use crate::journal::{Index, Reader, Record, Status};
use crate::outcome::Outcome;
use crate::report::text::{count, escape, escape_lines};
use crate::run::control::Control;

/// The most attempts of a row that are listed.
const MOST_ATTEMPTS: usize = 10;

/// Prints the rows of a journal that failed, and the rows whose answers were cut off.
pub(super) fn print(
    journal: &Path,
    show: &ShowOptions,
    streams: &mut Streams,
    control: &Control,
) -> anyhow::Result<()> {
    let index = damage::read(journal, control, |_| {})?.0.index;
    let mut earlier = earlier_attempts(journal, &index, control)?;
    let mut reader = Reader::open(journal)?;
    let mut none = true;
    for row in index.selection().rows() {
        if let Some(signal) = control.asked() {
            return Err(JobError::cut_short("the list", signal).into());
        }
        let outcome = reader.outcome(&index, row)?;
        let earlier = earlier.remove(&row).unwrap_or_default();
        if let Some(text) = outcome.and_then(|outcome| told(&outcome, earlier)) {
            none = false;
            streams.say(show, &text)?;
        }
    }
    if none {
        streams.say(show, "No row failed, and no answer was cut off.\n")?;
    }
    Ok(())
}

/// For each failed row, the attempts before the last one, in the session of its last outcome.
fn earlier_attempts(
    journal: &Path,
    index: &Index,
    control: &Control,
) -> Result<HashMap<u64, Vec<String>>, JobError> {
    let (mut open, mut decided) = (HashMap::<u64, Vec<String>>::new(), HashMap::new());
    damage::read(journal, control, |record| match record {
        Record::Header(_) => open.clear(),
        Record::Attempt(attempt) if index.status(attempt.row) == Some(Status::Failed) => {
            let attempts = open.entry(attempt.row).or_default();
            if attempts.len() < MOST_ATTEMPTS {
                attempts.push(named(&attempt.failure));
            }
        }
        Record::Outcome(outcome) if index.status(outcome.row) == Some(Status::Failed) => {
            decided.insert(outcome.row, open.remove(&outcome.row).unwrap_or_default());
        }
        _ => {}
    })?;
    Ok(decided)
}

/// The text about a row; `None` if its answer is whole.
fn told(outcome: &Outcome, earlier: Vec<String>) -> Option<String> {
    let failure = match &outcome.result {
        Err(failure) => failure,
        Ok(answer) => {
            let text = || format!("row {}: answered, but cut off at max_tokens\n", outcome.row);
            return answer.is_cut_off().then(text);
        }
    };
    let mut text = format!("row {}: {}", outcome.row, escape(&failure.class));
    if !failure.message.is_empty() {
        text += &format!(": {}", escape_lines(&failure.message).replace('\n', "\n  "));
    }
    text += &request(failure);
    text += &attempts(outcome, failure, earlier);
    text.push('\n');
    for line in failure.trace().lines() {
        let _ = writeln!(text, "  {}", escape(line));
    }
    if let Some(hint) = hint_of(&failure.class) {
        let _ = writeln!(text, "  hint: {hint}");
    }
    Some(text)
}

/// Lists the errors of the attempts, if there was more than one attempt.
fn attempts(outcome: &Outcome, failure: &Failure, mut attempts: Vec<String>) -> String {
    if !outcome.told_before {
        attempts.push(named(failure));
    }
    if attempts.len() < 2 {
        return String::new();
    }
    let more = if attempts.len() > MOST_ATTEMPTS { ", …" } else { "" };
    attempts.truncate(MOST_ATTEMPTS);
    format!(" ({} attempts: {}{more})", count(outcome.attempts.into()), attempts.join(", "))
}

/// Names an attempt by the class of its error.
fn named(failure: &Failure) -> String {
    escape(&failure.class).to_string() + &request(failure)
}

/// The server's ID of the request, if it gave one.
fn request(failure: &Failure) -> String {
    failure.request_id.as_deref().map(|id| format!(" (request {})", escape(id))).unwrap_or_default()
}
