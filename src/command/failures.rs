//! `report --failures`: the rows to look at, each with what is recorded of why, in the order of the input. Not the figures.

use std::fmt::Write as _;
use std::path::Path;

use super::show::ShowOptions;
use crate::journal::{Reader, Recorded, Recovered, Verdict};
use crate::report::text::{count, escape, escape_lines};
use crate::row::CUT_OFF;

use super::streams::Streams;

/// So many attempts of a row are named by their errors' classes.
const MOST_ATTEMPTS: usize = 10;

/// Prints the failed rows of a journal, and those whose answers were cut off.
pub(super) fn print(journal: &Path, show: &ShowOptions, streams: &mut Streams) -> anyhow::Result<()> {
    let index = Recovered::read(journal, |_| {})?.index;
    let mut reader = Reader::open(journal)?;
    let mut none = true;
    for row in index.selection() {
        let outcome = reader.outcome(&index, row)?;
        if let Some(text) = outcome.as_ref().and_then(told) {
            none = false;
            streams.say(show, &text)?;
        }
    }
    if none {
        streams.say(show, "No row failed, and no answer was cut off.\n")?;
    }
    Ok(())
}

/// What there is to say of a row; nothing of one that is as it should be.
fn told(outcome: &Recorded<'_>) -> Option<String> {
    match &outcome.result {
        Verdict::Failed { class, message, traceback, .. } => {
            let mut text = format!("row {}: {}", outcome.row, escape(class));
            if !message.is_empty() {
                text += &format!(": {}", escape_lines(message).replace('\n', "\n  "));
            }
            text += &attempts(outcome);
            text.push('\n');
            // Its first line is in the traceback too, where that was recorded.
            let traceback = traceback.as_deref().unwrap_or_default();
            let whole = traceback.split_once('\n').map_or(traceback, |(_, whole)| whole);
            for line in whole.lines() {
                let _ = writeln!(text, "  {}", escape(line));
            }
            Some(text)
        }
        Verdict::Ok { finish_reason, .. } => (finish_reason.as_deref() == Some(CUT_OFF))
            .then(|| format!("row {}: answered, but cut off at max_tokens\n", outcome.row)),
    }
}

/// The errors of the attempts, where there was more than one.
fn attempts(outcome: &Recorded<'_>) -> String {
    if outcome.errors.len() < 2 {
        return String::new();
    }
    let classes = outcome.errors.iter().take(MOST_ATTEMPTS).map(|class| escape(class));
    let mut classes = classes.collect::<Vec<_>>().join(", ");
    if outcome.errors.len() > MOST_ATTEMPTS {
        classes += ", …";
    }
    format!(" ({} attempts: {classes})", count(outcome.attempts.into()))
}
