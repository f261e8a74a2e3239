//! The journal: the only truth about a run. Append-only, checksummed, one record a line; resume, the answers file and
//! the reports derive from it. Not how any of them looks.
//!
//! ```text
//! header          a session starts: input, selection, identity, settings; written twice, a blank line between
//! started         rows about to be called for the first time in this session
//! attempt         one failed attempt of a row without an outcome: it is tried again, or was left open
//! outcome         one row's final outcome in this session, an answer or a failure
//! end             the session ended in order, or says how not
//! gone            what was used for rows that are gone since the input changed
//! ```
//!
//! A line is `<crc32 of the JSON, 8 hex digits> <JSON>`, so `cut -c10- answers.csv.journal | jq` reads it. A row's last
//! answer decides it; without an answer, its last failure does.
//!
//! An outcome tells of its row's last attempt; each failed one before it has a record of its own. So a row answered at once
//! has one record, and of a row left open, at whatever end of the session, what its attempts used is known, but for a call
//! in flight when the process died: that has left nothing behind but that its row had been started.
//!
//! A kind of record that a program does not know is critical, and it refuses the journal, unless the kind's name begins
//! with `_` (see `record`). Journals of version 1 are read, and continued with sessions of version 2.

mod batch;
mod error;
mod fields;
mod file;
mod index;
mod line;
mod mishap;
mod reader;
mod record;
mod recover;
mod session;
mod suspects;
mod sync;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod transcribe;
mod unnamed;
mod version_1;
mod windows;
mod writer;

pub use error::JournalError;
pub use fields::Fields;
pub(crate) use file::{directory_of, sync_directory_of};
pub use file::{holds_lines, is_journal, set_aside};
pub use index::{Counts, Index, Status};
pub use mishap::Loss;
pub use reader::Reader;
pub use record::Record;
pub use recover::{Damaged, Recovered};
pub use session::{End, Header, InputIdentity, RUN, VERSION, timestamp};
pub use suspects::{CRASHES, Poison, Suspects};
pub use transcribe::{Transcribed, Transcript};
pub use writer::{Journal, JournalStats};
