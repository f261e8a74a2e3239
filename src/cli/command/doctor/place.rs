//! Checks of the system: the limit on open files, and whether the directory of the answers is writable, has room and
//! keeps locks.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::process::{Resource, getrlimit};

use super::check::{Check, Finding};
use crate::fs::directory_of;

/// Files that a run has open besides one connection per call: its own, Python's and the event loop's. 26 were counted.
const OWN_FILES: u64 = 64;
/// Bytes that should be free. The journal of `data/questions.csv` takes 480 bytes per row, so that this is enough for a
/// hundred thousand such rows.
const ROOM: u64 = 64 << 20;

/// Checks that the limit on open files leaves one for each call.
pub(super) fn files(calls: usize) -> Finding {
    let Some(limit) = getrlimit(Resource::Nofile).current else {
        return Ok("no limit".to_owned());
    };
    let needed = calls as u64 + OWN_FILES;
    if limit >= needed {
        Ok(format!("{limit} at most, enough for `-c {calls}`"))
    } else {
        Err(format!(
            "{limit} at most, too few for `-c {calls}`\nhint: run `ulimit -n {needed}`, or lower `-c`"
        ))
    }
}

/// Checks that the answers and their journal can be written to their directory.
pub(super) fn place(output: Option<&Path>) -> Vec<Check> {
    let directory = directory_of(output.unwrap_or(Path::new("answers.csv")));
    let shown = directory.display();
    let elsewhere = "hint: choose another directory with `--output`";
    // An unnamed file first, as a run does: its error does not mention a file that the user does not know.
    let file = tempfile::tempfile_in(directory).and_then(|_| tempfile::NamedTempFile::new_in(directory));
    let file = match file {
        Ok(file) => file,
        Err(error) => {
            return vec![("Disk", Err(format!("failed to write into `{shown}`: {error}\n{elsewhere}")))];
        }
    };
    let room = match room(directory) {
        Ok(free) if free < ROOM => {
            Err(format!("only {} free in `{shown}`\n{elsewhere}, or make room", size(free)))
        }
        Ok(free) => Ok(format!("{} free in `{shown}`", size(free))),
        Err(error) => Err(format!("failed to measure the room in `{shown}`: {error}\n{elsewhere}")),
    };
    let locks = match excludes(file.as_file(), file.path()) {
        Ok(true) => Ok(format!("kept in `{shown}`")),
        Ok(false) => Err(format!("not kept in `{shown}`: two runs could write one journal\n{elsewhere}")),
        Err(error) => Err(format!("failed to lock a file in `{shown}`: {error}\n{elsewhere}")),
    };
    vec![("Disk", room), ("File locks", locks)]
}

/// The number of bytes that this user can still write.
fn room(directory: &Path) -> io::Result<u64> {
    let system = rustix::fs::statvfs(directory)?;
    Ok(system.f_bavail.saturating_mul(system.f_frsize))
}

/// Whether a lock on the file keeps others from locking it.
fn excludes(file: &File, path: &Path) -> io::Result<bool> {
    file.try_lock()?;
    match File::open(path)?.try_lock() {
        Ok(()) => Ok(false),
        Err(std::fs::TryLockError::WouldBlock) => Ok(true),
        Err(std::fs::TryLockError::Error(error)) => Err(error),
    }
}

/// Formats bytes in a unit that fits.
fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000_000 => format!("{} MB", bytes / 1_000_000),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}
