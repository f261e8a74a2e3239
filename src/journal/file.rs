//! The journal as a file: created whole or not at all, locked, set aside. Not its contents.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::error::JournalError;
use super::recover::last_header;

/// Creates the file under its name with its first bytes, locked and synced, mode 0600. A crash on the way leaves no
/// journal without a header.
pub(super) fn create(path: &Path, first: &[u8]) -> Result<File, JournalError> {
    let io = |source| JournalError::Io { action: "create", path: path.to_owned(), source };
    let mut file = tempfile::Builder::new().append(true).tempfile_in(directory_of(path)).map_err(io)?;
    lock(file.as_file(), path)?;
    file.write_all(first).and_then(|()| file.as_file().sync_all()).map_err(io)?;
    let file = match file.persist_noclobber(path) {
        Ok(file) => file,
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
            open_locked(path)?;
            return Err(JournalError::Exists { path: path.to_owned() });
        }
        Err(error) => return Err(io(error.error)),
    };
    sync_directory_of(path).map_err(io)?;
    Ok(file)
}

/// Opens the file to read and append, and takes the lock.
pub(super) fn open_locked(path: &Path) -> Result<File, JournalError> {
    let file = OpenOptions::new().read(true).append(true).open(path);
    let file = file.map_err(|source| JournalError::Io { action: "open", path: path.to_owned(), source })?;
    lock(&file, path)?;
    Ok(file)
}

/// Refuses a journal that a running process records into, naming the process.
pub fn refuse_locked(path: &Path) -> Result<(), JournalError> {
    open_locked(path).map(drop)
}

/// Renames a journal that no process holds to `<path>.<time>` and returns that name.
pub fn set_aside(path: &Path, time: &str) -> Result<PathBuf, JournalError> {
    let _lock = open_locked(path)?;
    let mut name = OsString::from(path);
    name.push(".");
    name.push(time);
    let aside = PathBuf::from(name);
    let io = |source| JournalError::Io { action: "set aside", path: path.to_owned(), source };
    // A hard link refuses to replace what is there; a rename would not.
    fs::hard_link(path, &aside).and_then(|()| fs::remove_file(path)).map_err(io)?;
    sync_directory_of(path).map_err(io)?;
    Ok(aside)
}

/// Makes a rename in the file's directory last through a power loss.
pub(crate) fn sync_directory_of(path: &Path) -> io::Result<()> {
    File::open(directory_of(path))?.sync_all()
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn lock(file: &File, path: &Path) -> Result<(), JournalError> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            let pid =
                File::open(path).ok().and_then(|file| last_header(&file).ok()?).map(|header| header.pid);
            Err(JournalError::Locked { path: path.to_owned(), pid })
        }
        Err(TryLockError::Error(source)) => {
            Err(JournalError::Io { action: "lock", path: path.to_owned(), source })
        }
    }
}
