//! What the journal says of a session as a whole: how it was started and how it ended.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::prompt::Prompt;
use crate::row::RowHash;
use crate::selection::Rows;

/// The version of the format in which sessions are recorded.
pub const VERSION: u32 = 2;

/// The versions that are read. A journal of any other is refused.
pub(super) const VERSIONS: RangeInclusive<u32> = 1..=VERSION;

/// The entry of a session's settings that says what it runs with.
pub const RUN: &str = "run";

/// What a session was started with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// [`VERSION`].
    pub version: u32,
    /// Version of the program that wrote it.
    pub program: String,
    /// When the session started, as RFC 3339.
    pub started_at: String,
    /// Process id, which names the holder of the lock.
    pub pid: u32,
    /// The command line with secrets masked.
    pub argv: Vec<String>,
    /// The input file.
    pub input: InputIdentity,
    /// The selected rows.
    pub selection: Rows,
    /// What makes two sessions the same run, by name, so that a difference can be named.
    pub identity: BTreeMap<String, String>,
    /// SHA-256 of the predictor's source file, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predictor_sha256: Option<String>,
    /// The predictor as it was loaded; none in journals of releases that did not record it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<Prompt>,
    /// Settings that may differ between sessions.
    pub settings: serde_json::Value,
}

impl Header {
    /// The greatest number of calls in flight, if the settings tell.
    pub fn calls(&self) -> Option<u64> {
        self.settings[RUN]["calls"].as_u64()
    }

    /// Whether other processes made the session's calls, so that no call can have ended the session.
    pub fn has_workers(&self) -> bool {
        self.settings[RUN]["workers"].as_u64().is_some_and(|workers| workers > 0)
    }
}

/// What identifies the input file and how it was read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InputIdentity {
    /// Absolute path.
    pub path: String,
    /// `csv` or `jsonl`.
    pub format: String,
    /// CSV's field delimiter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delimiter: Option<char>,
    /// WHATWG name of the encoding.
    pub encoding: String,
    /// SHA-256 of the file's bytes.
    pub sha256: String,
    /// Data records in the file, without the empty ones at its end.
    pub rows: u64,
    /// Records at the end of the file in which every cell is empty.
    #[serde(default, skip_serializing_if = "is_none")]
    pub empty: u64,
    /// Hash of CSV's header record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header_hash: Option<RowHash>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature serde asks for")]
fn is_none(records: &u64) -> bool {
    *records == 0
}

/// A time as RFC 3339 in UTC. A time out of its range, from a clock that is wrong, becomes the nearest one in it.
pub fn timestamp(time: SystemTime) -> String {
    let last = UNIX_EPOCH + Duration::from_secs(253_402_300_799); // The end of the year 9999.
    humantime::format_rfc3339_millis(time.clamp(UNIX_EPOCH, last)).to_string()
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// When the session ended, as RFC 3339.
    pub finished_at: String,
    /// The exit code that the session is about to end with.
    pub exit_code: i32,
    /// Why it stopped before all rows were done, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether calls in flight were cut off by a second signal or a panic, or their outcomes could not be recorded.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hurried: bool,
    /// Whether the bridge to the predictor broke. Its calls have ended, and as after a crash one of their rows may be
    /// to blame.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub broken: bool,
    /// The session's totals.
    pub totals: serde_json::Value,
}

impl End {
    /// Whether every call that was made has a record.
    pub fn in_order(&self) -> bool {
        !self.hurried && !self.broken
    }
}
