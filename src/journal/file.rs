//! The journal as a file: created whole or not at all, locked, and set aside.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{major, minor};
use rustix::process::{Pid, test_kill_process};
use tempfile::NamedTempFile;

use super::error::JournalError;
use super::recover::{begins_with_header, has_lines, headers};
use crate::fs::{Unnamed, directory_of, sync_directory_of};

/// Creates the file with its first bytes under its name, locked, synced and of mode 0600. A crash on the way leaves no
/// journal without a header.
pub(super) fn create(path: &Path, first: &[u8]) -> Result<File, JournalError> {
    let io = |source| JournalError::Io { action: "create", path: path.to_owned(), source };
    let mut file = temporary(path)?;
    file.write_all(first).map_err(io)?;
    name(file, path)
}

/// Locks and syncs a new file and gives it the journal's name.
pub(super) fn name(file: NamedTempFile, path: &Path) -> Result<File, JournalError> {
    let io = |source| JournalError::Io { action: "create", path: path.to_owned(), source };
    lock(file.as_file(), path)?;
    file.as_file().sync_all().map_err(io)?;
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
    let io = |source| JournalError::Io { action: "open", path: path.to_owned(), source };
    loop {
        let file = OpenOptions::new().read(true).append(true).open(path).map_err(io)?;
        lock(&file, path)?;
        // Its holder may have set it aside meanwhile: the file that is locked must be the one that has the name.
        let (locked, named) = (file.metadata().map_err(io)?, fs::metadata(path).map_err(io)?);
        if (locked.dev(), locked.ino()) == (named.dev(), named.ino()) {
            return Ok(file);
        }
    }
}

/// Opens the journal to read all of it while no process writes to it.
///
/// # Errors
///
/// Fails if it cannot be opened, or if a running process holds it, which is named.
pub fn open_at_rest(path: &Path) -> Result<File, JournalError> {
    let io = |source| JournalError::Io { action: "open", path: path.to_owned(), source };
    let file = File::open(path).map_err(io)?;
    // Shared, because that needs no right to write to the file.
    taken(file.try_lock_shared(), &file, path)?;
    Ok(file)
}

/// Whether the journal has a whole line. Without one its header was never written, and nothing was called.
///
/// # Errors
///
/// Fails if the file cannot be read, or if a running process holds it, which is named.
pub fn holds_lines(path: &Path) -> Result<bool, JournalError> {
    let lines = has_lines(&open_locked(path)?);
    lines.map_err(|source| JournalError::Io { action: "read", path: path.to_owned(), source })
}

/// Whether the file begins as a journal does.
pub fn is_journal(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| begins_with_header(&file))
}

/// Renames a journal that no process holds to `<path>.<time>` and returns that name.
///
/// # Errors
///
/// Fails if a process holds it, or if it cannot be renamed.
pub fn set_aside(path: &Path, time: &str) -> Result<PathBuf, JournalError> {
    let _lock = open_locked(path)?;
    let aside = link_aside(path, time)?;
    let io = |source| JournalError::Io { action: "set aside", path: path.to_owned(), source };
    fs::remove_file(path).and_then(|()| sync_directory_of(path)).map_err(io)?;
    Ok(aside)
}

/// Replaces a journal that this process holds by another file, which is locked too, and keeps the old one as
/// `<path>.<time>`. One of the two has the name at any moment.
pub(super) fn replace(path: &Path, fresh: Unnamed, time: &str) -> Result<(File, PathBuf), JournalError> {
    let io = |source| JournalError::Io { action: "replace", path: path.to_owned(), source };
    fresh.file().sync_all().map_err(io)?;
    let aside = link_aside(path, time)?;
    let named = || {
        let fresh = fresh.named().map_err(io)?;
        lock(fresh.as_file(), path)?;
        fresh.persist(path).map_err(|error| io(error.error))
    };
    // Another name of the journal in use would be taken for an old one.
    let file = named().inspect_err(|_| drop(fs::remove_file(&aside)))?;
    // A file system such as btrfs does not sync a file that has no name.
    file.sync_all().and_then(|()| sync_directory_of(path)).map_err(io)?;
    Ok((file, aside))
}

/// A new file beside the journal, which is to become one.
pub(super) fn temporary(path: &Path) -> Result<NamedTempFile, JournalError> {
    let file = tempfile::Builder::new().append(true).tempfile_in(directory_of(path));
    file.map_err(|source| JournalError::Io { action: "create", path: path.to_owned(), source })
}

/// The name under which a journal is kept that another one replaces: `<path>.<time>`.
pub(super) fn aside(path: &Path, time: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".");
    name.push(time);
    name.into()
}

fn link_aside(path: &Path, time: &str) -> Result<PathBuf, JournalError> {
    let aside = aside(path, time);
    // A hard link fails if that name is taken; a rename would replace what is there.
    fs::hard_link(path, &aside).map(|()| aside).map_err(|source| JournalError::Io {
        action: "set aside",
        path: path.to_owned(),
        source,
    })
}

fn lock(file: &File, path: &Path) -> Result<(), JournalError> {
    taken(file.try_lock(), file, path)
}

fn taken(lock: Result<(), TryLockError>, file: &File, path: &Path) -> Result<(), JournalError> {
    match lock {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            let (pid, lives) = holder(file, path).map_or((None, false), |(pid, lives)| (Some(pid), lives));
            Err(JournalError::Locked { path: path.to_owned(), pid, lives })
        }
        Err(TryLockError::Error(source)) => {
            Err(JournalError::Io { action: "lock", path: path.to_owned(), source })
        }
    }
}

/// The process that holds the lock, as the kernel or else the last header names it, and whether it is alive.
fn holder(file: &File, path: &Path) -> Option<(u32, bool)> {
    let pid = locker(file).or_else(|| Some(headers(File::open(path).ok()?).ok()?.pop()?.pid))?;
    let process = Pid::from_raw(i32::try_from(pid).ok()?);
    Some((pid, process.is_some_and(|process| test_kill_process(process).is_ok())))
}

/// How often the list of locks is read: the kernel gives it in parts, and skips entries while others come and go.
const LOOKS: usize = 5;

/// The process that holds a lock on the file, if the kernel tells (`man 5 proc_locks`). It does not for every file
/// system, nor for a process in another namespace.
fn locker(file: &File) -> Option<u32> {
    let metadata = file.metadata().ok()?;
    let (device, inode) = (metadata.dev(), metadata.ino());
    let place = format!("{:02x}:{:02x}:{inode}", major(device), minor(device));
    let holder = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, "FLOCK", _, _, pid, at, ..] = fields[..] else { return None };
        pid.parse().ok().filter(|pid| at == place && *pid > 0)
    };
    (0..LOOKS).find_map(|_| fs::read_to_string("/proc/locks").ok()?.lines().find_map(holder))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::journal::Journal;
    use crate::journal::testing::header;

    #[test]
    fn only_its_user_may_read_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.journal");
        let _journal = Journal::create(&path, &header(1, 0..1)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn an_existing_journal_is_refused_and_untouched() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.journal");
        drop(Journal::create(&path, &header(1, 0..1)).unwrap());
        let before = fs::read(&path).unwrap();
        let error = Journal::create(&path, &header(2, 0..1)).unwrap_err();
        assert!(matches!(error, JournalError::Exists { .. }));
        assert!(error.to_string().contains("`resume`") && error.to_string().contains("`--force`"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), before);
    }

    #[test]
    fn a_journal_in_use_is_refused_naming_the_process_that_holds_it_whatever_its_headers_say() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.journal");
        let mut journal = Journal::create(&path, &header(41, 0..1)).unwrap();
        journal.append_header(&header(42, 0..1)).unwrap();
        journal.commit().unwrap();
        let errors = [
            Journal::create(&path, &header(1, 0..1)).unwrap_err(),
            Journal::recover(&path, |_| ()).unwrap_err(),
            set_aside(&path, "1").unwrap_err(),
        ];
        for error in errors {
            let JournalError::Locked { pid: Some(pid), lives: true, .. } = error else { panic!("{error}") };
            assert_eq!(pid, std::process::id());
        }
        drop(journal);
        assert!(Journal::recover(&path, |_| ()).is_ok());
    }

    #[test]
    fn a_journal_set_aside_makes_room_and_replaces_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.journal");
        drop(Journal::create(&path, &header(1, 0..1)).unwrap());
        let bytes = fs::read(&path).unwrap();
        let aside = set_aside(&path, "20260101T000000Z").unwrap();
        assert_eq!(aside, directory.path().join("a.journal.20260101T000000Z"));
        assert_eq!(fs::read(&aside).unwrap(), bytes);
        drop(Journal::create(&path, &header(2, 0..1)).unwrap());
        assert!(set_aside(&path, "20260101T000000Z").is_err());
        assert_eq!(fs::read(&aside).unwrap(), bytes);
    }
}
