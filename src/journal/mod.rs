//! The journal: an append-only file with one checksummed record a line. It is the only truth about a run: `resume`, the
//! answers file and the reports derive from it.
//!
//! # The format
//!
//! A line is `<CRC-32 of the JSON, 8 hex digits> <JSON>`, so `cut -c10- answers.csv.journal | jq` reads a journal. The
//! JSON is an object with one name, the kind of the record:
//!
//! | kind | says | holds |
//! | --- | --- | --- |
//! | `header` | a session starts | [`Header`]: version, program, time, process, command line, input, selection, identity, the predictor's prompts and source files, settings |
//! | `started` | these rows are about to be called for the first time in this session | pairs of row and hash |
//! | `attempt` | an attempt failed, and its row is tried again or is left open | [`FailedAttempt`](crate::outcome::FailedAttempt) |
//! | `outcome` | a row's final outcome in this session | [`Outcome`](crate::outcome::Outcome) |
//! | `end` | the session ended, and how | [`End`] |
//! | `gone` | what was spent on rows that have been removed from the input; without calls, that the session left such rows in flight | [`Spent`](crate::usage::Spent) |
//!
//! ```text
//! <crc> {"header":{"version":2,"program":"0.2.0","started_at":"…","input":{…},"selection":{"start":0,"end":2},…}}
//! (an empty line)
//! <crc> {"header":{…}}
//! (256 blanks)
//! <crc> {"started":[[0,"a4fe…"],[1,"05b1…"]]}
//! <crc> {"attempt":{"row":1,"number":1,"began_ns":…,"ended_ns":…,"class":"RateLimitError","status":429,…}}
//! <crc> {"outcome":{"row":0,"hash":"a4fe…","result":{"ok":{"fields":{"answer":"Paris"}}},"attempts":1,…}}
//! <crc> {"outcome":{"row":1,"hash":"05b1…","result":{"failed":{"class":"timeout",…}},"attempts":2,…}}
//! <crc> {"end":{"finished_at":"…","exit_code":3,"totals":{…}}}
//! ```
//!
//! - **A row is decided** by its last answer or, without an answer, by its last failure. `started` alone decides
//!   nothing.
//! - **An outcome is about its row's last attempt.** Each failed attempt before it has a record of its own. So a row
//!   that is answered at once has one record, and what was spent on a row that is left open is known. A call that was
//!   in flight when the process died leaves nothing but its row's `started`.
//! - **A session is of one range of rows**, or of the part of it that one shard has. All sessions of a journal are of the
//!   same shard.
//! - **Times** are nanoseconds within the session. `timing_ns` is an array in the order of
//!   [`Timing`](crate::outcome::Timing).
//! - **The header is written twice**, so that one damaged line does not lose the session. The blanks behind the copies
//!   are room for the session's `end` if the disk is full.
//! - **Damage.** A line whose checksum does not match costs its own record. A last line without its line feed is torn,
//!   and is cut off when the journal is opened for writing.
//! - **Later versions.** A program that does not know a kind refuses the journal, or it would call answered rows again.
//!   It skips only kinds whose name begins with `_`. Journals of version 1 are read, and continued with sessions of
//!   version 2.
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
//! | `batch.rs` | the lines that are written together |
//! | `sync.rs` | the thread that calls `fdatasync` continuously |
//! | `recover.rs` | reads a journal from its first line to its last whole record |
//! | `version_1.rs` | turns records of version 1 into today's |
//! | `index.rs` | the offset of each row's deciding record, in 8 bytes a row |
//! | `fields.rs` | the predictor's field names in order of first appearance |
//! | `read.rs` | outcomes by row, for whoever walks the rows in order, through a cache of lines |
//! | `blame.rs` | rows in flight when a session died: which to call alone and which to set aside |
//! | `fresh.rs` | a journal that is put together from others, before it has a name |
//! | `rewrite.rs` | rewrites a journal for an input whose rows have moved |
//! | `loss.rs` | a file that somebody cuts, moves or removes during the run |
//! | `error.rs` | what can go wrong, each with its hint |
//! | `testing.rs` | records for the tests of other layers |
//! | `tests.rs` | journals cut, flipped and lost |

mod batch;
mod blame;
mod error;
mod fields;
mod file;
mod format;
mod fresh;
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

pub use blame::{CrashBlame, Poison};
pub use error::JournalError;
pub use fields::Fields;
pub use file::{holds_lines, is_journal, open_at_rest, set_aside};
pub use format::Record;
pub use fresh::Fresh;
pub use index::{Counts, Index, Status};
pub use loss::Loss;
pub use read::Reader;
pub use recover::{Damaged, Recovered, headers};
pub use rewrite::{Rewrite, Rewritten};
pub use session::{End, Header, InputIdentity, RUN, VERSION, timestamp};
pub use write::{Journal, JournalStats};
