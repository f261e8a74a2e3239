//! Reads journals that a run may still be writing to, and reports what is wrong with a journal.

use std::fs::File;
use std::path::Path;

use super::error::JobError;
use crate::fs::Stoppable;
use crate::journal::{JournalError, Record, Recovered, holds_lines};
use crate::observe::{Level, Observer};
use crate::report::text::count;
use crate::run::control::Control;

/// Reads a journal, and returns whether a process is writing to it. If one is, an incomplete last line is no damage.
///
/// # Errors
///
/// Fails if the journal cannot be read, or if `control` stops the reading.
pub(crate) fn read(
    journal: &Path,
    control: &Control,
    visit: impl FnMut(&Record<'_>),
) -> Result<(Recovered, bool), JobError> {
    // Asked before reading: if the process ends meanwhile, its last calls are not taken for lost.
    let running = matches!(holds_lines(journal), Err(JournalError::Locked { .. }));
    let file = File::open(journal);
    let file =
        file.map_err(|source| JournalError::Io { action: "open", path: journal.to_owned(), source })?;
    let mut recovered = read_from(file, journal, control, visit)?;
    if running {
        recovered.torn_bytes = 0;
    }
    Ok((recovered, running))
}

/// Reads a journal that is open already.
///
/// # Errors
///
/// As [`read`].
pub(crate) fn read_from(
    file: File,
    journal: &Path,
    control: &Control,
    visit: impl FnMut(&Record<'_>),
) -> Result<Recovered, JobError> {
    let stopped = || control.asked().is_some();
    let reader = Stoppable { reader: file, stopped: &stopped };
    let read = Recovered::from_reader(reader, journal, visit);
    read.map_err(|error| JobError::of_step("reading the journal", error, control).at(journal))
}

/// One sentence for each fault of the journal.
pub(crate) fn of(recovered: &Recovered) -> Vec<String> {
    let mut faults = Vec::new();
    if recovered.torn_bytes > 0 {
        let bytes = count(recovered.torn_bytes);
        faults.push(format!("the journal's last line was torn; its {bytes} bytes count for nothing"));
    }
    faults.extend(recovered.damaged.iter().map(|damaged| {
        let what = if damaged.header {
            "it is a copy of a session's header, and no row is lost"
        } else {
            "the row it decided counts as unfinished"
        };
        format!("line {} of the journal is damaged: {what}", damaged.line)
    }));
    faults
}

/// Warns of each fault of the journal.
pub(crate) fn tell(recovered: &Recovered, observer: &mut dyn Observer) {
    for fault in of(recovered) {
        observer.message(Level::Warning, &fault);
    }
}
