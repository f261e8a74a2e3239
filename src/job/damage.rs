//! Reads journals that a run may still be writing to, and reports what is wrong with a journal.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::error::JobError;
use crate::journal::{JournalError, Record, Recovered, holds_lines};
use crate::observe::{Level, Observer};
use crate::report::text::count;
use crate::run::control::Control;

/// A file that can no longer be read once the job is asked to stop.
pub(super) struct Stoppable<'a> {
    /// The file.
    pub file: File,
    /// Stops the job.
    pub control: &'a Control,
}

impl Read for Stoppable<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.control.asked().is_some() { Err(io::Error::other("stopped")) } else { self.file.read(into) }
    }
}

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
    let read = Recovered::from_reader(Stoppable { file, control }, journal, visit);
    read.map_err(|error| match control.asked() {
        Some(signal) => JobError::cut_short("reading the journal", signal).at(journal),
        None => error.into(),
    })
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
