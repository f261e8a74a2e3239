//! Reports what is wrong with a journal.

use std::path::Path;

use crate::journal::{JournalError, Recovered, holds_lines};
use crate::observe::{Level, Observer};
use crate::report::text::count;

/// Whether a process is writing to the journal. Ask this before reading it: its last line may then be incomplete only
/// because it is being written.
pub(crate) fn is_running(journal: &Path) -> bool {
    matches!(holds_lines(journal), Err(JournalError::Locked { .. }))
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
