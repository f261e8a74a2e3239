//! The journal: the only truth about a run. Append-only, checksummed, one record a line; resume, the answers file and
//! the reports derive from it. Not how any of them looks.
//!
//! ```text
//! header          a session starts: input, selection, identity, settings; written twice, a blank line between
//! started         rows about to be called for the first time in this session
//! outcome         one row's final outcome in this session, an answer or a failure
//! end             the session ended in order
//! ```
//!
//! A line is `<crc32 of the JSON, 8 hex digits> <JSON>`, so `cut -c10- answers.csv.journal | jq` reads it. A row's last
//! answer decides it; without an answer, its last failure does.

mod encode;
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
mod windows;
mod writer;

pub use error::JournalError;
pub use fields::Fields;
pub(crate) use file::{directory_of, sync_directory_of};
pub use file::{holds_lines, is_journal, set_aside};
pub use index::{Counts, Index, Status};
pub use reader::Reader;
pub use record::{AnswerFields, Record, Recorded, Values, Verdict};
pub use recover::{Damaged, Recovered};
pub use session::{End, Header, InputIdentity, VERSION};
pub use suspects::{CRASHES, Poison, Suspects};
pub use transcribe::Transcribed;
pub use writer::{Journal, JournalStats};
