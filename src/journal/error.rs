//! What can go wrong with a journal, each with its hint.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why a journal cannot be created, read or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// A run was recorded there before.
    #[error("`{}` holds an earlier run\nhint: continue it with `resume`, or start anew with `--force`, which keeps it under another name", path.display())]
    Exists {
        /// The journal.
        path: PathBuf,
    },
    /// Another process records into it.
    #[error("`{}` is in use by {}\nhint: wait for it to end, or choose another `--output`", path.display(), holder(*pid, *lives))]
    Locked {
        /// The journal.
        path: PathBuf,
        /// The holder's process id, as the kernel or the last session's header gives it.
        pid: Option<u32>,
        /// Whether there is a process of that id.
        lives: bool,
    },
    /// Neither copy of the first header is whole.
    #[error("`{}` has no whole header\nhint: put back a copy of it, or start the run again with `process`; where the file has other lines, `--force` keeps it under another name", path.display())]
    NoHeader {
        /// The file.
        path: PathBuf,
    },
    /// A session was recorded in a format that this version does not read.
    #[error("line {line} of `{}` was written by another version of this program\nhint: use the version that its header names as `program`", path.display())]
    Foreign {
        /// The journal.
        path: PathBuf,
        /// 1-based.
        line: u64,
    },
    /// The checksum is right, but this version does not know the record.
    #[error("line {line} of `{}` holds a record `{kind}` that this version of the program cannot read\nhint: use the version that the journal's last header names as `program`", path.display())]
    Unknown {
        /// The journal.
        path: PathBuf,
        /// 1-based.
        line: u64,
        /// The record's kind.
        kind: String,
    },
    /// The record that an index points to is not there any more.
    #[error("the record of row {row} at byte {offset} of `{}` has changed since it was indexed", path.display())]
    Changed {
        /// The journal.
        path: PathBuf,
        /// The row asked for.
        row: u64,
        /// Offset at which its record was.
        offset: u64,
    },
    /// It cannot be opened, read, or renamed.
    #[error("failed to {action} `{}`: {source}", path.display())]
    Io {
        /// `open`, `read`, …
        action: &'static str,
        /// The journal.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A batch could not be written whole. Another `commit` continues where this one stopped.
    #[error("failed to write to `{}`: {source}{}", path.display(), if is_full(source) { "\nhint: free some space; `resume` then continues" } else { "" })]
    Write {
        /// The journal.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The disk may have lost what was written, so nothing more is recorded.
    #[error("failed to sync `{}`: {source}\nhint: check the disk; answers recorded in the last moments may be lost", path.display())]
    Sync {
        /// The journal.
        path: PathBuf,
        /// The system's error.
        source: Arc<io::Error>,
    },
    /// A record has no JSON form.
    #[error("failed to encode a record: {0}")]
    Encode(#[from] serde_json::Error),
}

impl JournalError {
    /// The journal that it is about; none for a record that has no JSON form.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Exists { path }
            | Self::Locked { path, .. }
            | Self::NoHeader { path }
            | Self::Foreign { path, .. }
            | Self::Unknown { path, .. }
            | Self::Changed { path, .. }
            | Self::Io { path, .. }
            | Self::Write { path, .. }
            | Self::Sync { path, .. } => Some(path),
            Self::Encode(_) => None,
        }
    }

    /// Whether freeing space on the disk would help, so that another `commit` is worth trying.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Write { source, .. } if is_full(source))
    }
}

fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

fn holder(pid: Option<u32>, lives: bool) -> String {
    match pid {
        None => "another process".to_owned(),
        Some(pid) if lives => format!("process {pid}"),
        Some(pid) => format!("a process that the ended process {pid} left behind (`fuser` names it)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_from_a_broken_one() {
        let write = |kind: io::ErrorKind| JournalError::Write { path: "a".into(), source: kind.into() };
        assert!(write(io::ErrorKind::StorageFull).is_disk_full());
        assert!(write(io::ErrorKind::StorageFull).to_string().ends_with("`resume` then continues"));
        assert!(!write(io::ErrorKind::PermissionDenied).is_disk_full());
    }
}
