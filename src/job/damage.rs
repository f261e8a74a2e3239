//! Reads journals that a run may still be writing to, and reports what is wrong with a journal.

use std::path::Path;

use crate::journal::{JournalError, Record, Recovered, holds_lines};
use crate::observe::{Level, Observer};
use crate::report::text::count;

/// Reads a journal, and returns whether a process is writing to it. If one is, an incomplete last line is no damage.
///
/// # Errors
///
/// Fails if the journal cannot be read.
pub(crate) fn read(
    journal: &Path,
    visit: impl FnMut(&Record<'_>),
) -> Result<(Recovered, bool), JournalError> {
    // Asked before reading: if the process ends meanwhile, its last calls are not taken for lost.
    let running = matches!(holds_lines(journal), Err(JournalError::Locked { .. }));
    let mut recovered = Recovered::read(journal, visit)?;
    if running {
        recovered.torn_bytes = 0;
    }
    Ok((recovered, running))
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
