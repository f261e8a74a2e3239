//! The journal: the only truth about a run. Append-only, checksummed, one record a line; `resume`, the answers file and
//! the reports derive from it. How they look is not known here.
//!
//! # The format
//!
//! A line is `<CRC-32 of the JSON, 8 hex digits> <JSON>`, so `cut -c10- answers.csv.journal | jq` reads a journal. The JSON
//! is an object with one name, the kind of the record:
//!
//! | kind | tells | holds |
//! | --- | --- | --- |
//! | `header` | a session starts | [`Header`]: version, program, time, process, command line, input, selection, identity, settings |
//! | `started` | these rows are about to be called for the first time in this session | pairs of row and hash |
//! | `attempt` | an attempt failed, and its row is tried again or was left open | [`FailedAttempt`](crate::outcome::FailedAttempt) |
//! | `outcome` | a row's final outcome in this session | [`Outcome`](crate::outcome::Outcome) |
//! | `end` | the session ended, and how | [`End`] |
//! | `gone` | what was spent on rows that are gone from the input | [`Spent`](crate::usage::Spent) |
//!
//! ```text
//! <crc> {"header":{"version":2,"program":"0.1.0","started_at":"…","input":{…},"selection":{"start":0,"end":2},…}}
//! (256 blanks)
//! <crc> {"header":{…}}
//! <crc> {"started":[[0,"a4fe…"],[1,"05b1…"]]}
//! <crc> {"attempt":{"row":1,"number":1,"began_ns":…,"ended_ns":…,"class":"RateLimitError","status":429,…}}
//! <crc> {"outcome":{"row":0,"hash":"a4fe…","result":{"ok":{"fields":{"answer":"Paris"}}},"attempts":1,…}}
//! <crc> {"outcome":{"row":1,"hash":"05b1…","result":{"failed":{"class":"timeout",…}},"attempts":2,…}}
//! <crc> {"end":{"finished_at":"…","exit_code":3,"totals":{…}}}
//! ```
//!
//! - **A row is decided** by its last answer; without one, by its last failure. `started` alone decides nothing.
//! - **An outcome tells of its row's last attempt.** Each failed attempt before it has a record of its own, so a row that is
//!   answered at once has one record, and what was spent on a row left open is known. A call in flight at the death of
//!   the process leaves its row's `started` and nothing else.
//! - **Times** are nanoseconds of this session. `timing_ns` is an array in the order of [`Timing`](crate::outcome::Timing).
//! - **The header stands twice**, so that one damaged line does not lose the session. The blank line between the copies is
//!   room for the session's `end` on a disk that has no other.
//! - **Damage.** A line whose checksum does not fit costs its own record. A last line without its line feed is torn: it is
//!   cut off when the journal is opened for writing.
//! - **Later versions.** A kind that a program does not know is critical and refuses the journal, or answered rows would be
//!   asked again; only one whose name begins with `_` is passed over. Journals of version 1 are read, and continued with
//!   sessions of version 2.
//!
//! # The files
//!
//! | file | what |
//! | --- | --- |
//! | `session.rs` | a session as a whole: its header and its end |
//! | `format.rs` | the kinds of records, and how they are told apart |
//! | `line.rs` | one line: checksum and JSON |
//! | `file.rs` | the journal as a file: created, locked, set aside |
//! | `write.rs` | [`Journal`], the one writer: append, commit, checkpoint |
//! | `batch.rs` | lines on their way into the file, written together |
//! | `sync.rs` | the thread that calls `fdatasync` all the time |
//! | `recover.rs` | reads a journal from its first line to its last whole record |
//! | `version_1.rs` | makes records of version 1 into those of today |
//! | `index.rs` | where each row's deciding record lies, 8 bytes a row |
//! | `fields.rs` | the predictor's field names in order of first appearance |
//! | `read.rs` | outcomes by row, for whoever walks the rows in order, through a cache of lines |
//! | `blame.rs` | rows in flight when a session died: which to call alone, which to set aside |
//! | `rewrite.rs` | a journal rewritten for rows that have moved |
//! | `loss.rs` | what to do when the file is cut, moved, removed or has no room |
//! | `error.rs` | what can go wrong, each with its hint |
//! | `testing.rs` | records for the tests of other layers |
//! | `tests.rs` | journals cut, flipped and lost |

mod batch;
mod blame;
mod error;
mod fields;
mod file;
mod format;
mod index;
mod line;
mod loss;
mod read;
mod recover;
mod rewrite;
mod session;
mod sync;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod version_1;
mod write;

pub use blame::{CRASHES, Poison, CrashBlame};
pub use error::JournalError;
pub use fields::Fields;
pub use file::{holds_lines, is_journal, set_aside};
pub use format::Record;
pub use index::{Counts, Index, Status};
pub use loss::Loss;
pub use read::Reader;
pub use recover::{Damaged, Recovered};
pub use rewrite::{Rewritten, Rewrite};
pub use session::{End, Header, InputIdentity, RUN, VERSION, timestamp};
pub use write::{Journal, JournalStats};
