//! Files as a whole: replaced whole or not at all, hashed, and the directories they are in.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, OFlags, linkat};
use sha2::{Digest, Sha256};
use tempfile::{Builder, NamedTempFile, TempPath};

/// Bytes that are read before it is asked again whether to stop: those of less than 10 ms, also where each is looked at.
const BLOCK: usize = 64 << 10;

/// A file that can no longer be read once `stopped` says so.
pub(crate) struct Stoppable<'a, R> {
    /// The file.
    pub reader: R,
    /// Whether to stop.
    pub stopped: &'a dyn Fn() -> bool,
}

impl<R: Read> Read for Stoppable<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = into.len().min(BLOCK);
        if (self.stopped)() { Err(io::Error::other("stopped")) } else { self.reader.read(&mut into[..most]) }
    }
}

/// Who may read a file that is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Access {
    /// Whoever may read the file that is replaced; for a new file, whoever the umask allows.
    #[default]
    Usual,
    /// Its owner only.
    Private,
}

/// A new file beside the one that it is to become. Until then it has no name, so that nothing is left of it when the
/// process is killed. Only where the file system has no such files, it has the name of a temporary file.
#[derive(Debug)]
pub(crate) struct Unnamed {
    directory: PathBuf,
    file: File,
    name: Option<TempPath>,
}

impl Unnamed {
    /// Creates an empty file in the directory of `path`, to be read and appended to.
    ///
    /// # Errors
    ///
    /// Fails if the directory does not exist or cannot be written to.
    pub(crate) fn beside(path: &Path, mode: u32) -> io::Result<Self> {
        let directory = directory_of(path).to_owned();
        let mut options = OpenOptions::new();
        options.read(true).append(true).mode(mode).custom_flags(OFlags::TMPFILE.bits().cast_signed());
        if let Ok(file) = options.open(&directory)
            && link_to(&file).exists()
            && masked(mode)? == file.metadata()?.permissions().mode() & 0o777
        {
            return Ok(Self { directory, file, name: None });
        }
        let (file, name) = temporary(&directory, mode)?.into_parts();
        Ok(Self { directory, file, name: Some(name) })
    }

    /// The file.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Syncs the file and gives it the name of a temporary file, to be renamed at once.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be synced or named.
    pub(crate) fn named(self) -> io::Result<NamedTempFile> {
        let Self { directory, file, name } = self;
        file.sync_all()?;
        if let Some(name) = name {
            return Ok(NamedTempFile::from_parts(file, name));
        }
        let link = |name: &Path| Ok(linkat(CWD, link_to(&file), CWD, name, AtFlags::SYMLINK_FOLLOW)?);
        match Builder::new().make_in(&directory, link) {
            Ok(linked) => Ok(NamedTempFile::from_parts(file, linked.into_temp_path())),
            Err(_) => copied(&file, &directory),
        }
    }
}

/// The path that leads to an open file.
fn link_to(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

/// The mode that a new file should have. Kernels before 6.0 forget the umask of files without a name.
fn masked(mode: u32) -> io::Result<u32> {
    let status = fs::read_to_string("/proc/self/status")?;
    let umask = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    let umask = umask.and_then(|octal| u32::from_str_radix(octal.trim(), 8).ok()).unwrap_or_default();
    Ok(mode & !umask)
}

/// A file with a name. The umask applies to the mode that a file is created with, and not to one that is set later.
fn temporary(directory: &Path, mode: u32) -> io::Result<NamedTempFile> {
    Builder::new().append(true).permissions(Permissions::from_mode(mode)).tempfile_in(directory)
}

/// A copy, with a name, of a file that cannot be given one.
fn copied(mut file: &File, directory: &Path) -> io::Result<NamedTempFile> {
    let mut copy = temporary(directory, 0o600)?;
    file.rewind()?;
    io::copy(&mut file, &mut copy)?;
    copy.as_file().set_permissions(file.metadata()?.permissions())?;
    copy.as_file().sync_all()?;
    Ok(copy)
}

/// A file being written beside its destination, which stays as it is until [`Replacement::commit`]. Dropping the
/// replacement removes it.
#[derive(Debug)]
pub(crate) struct Replacement<'a> {
    destination: &'a Path,
    file: Unnamed,
}

impl<'a> Replacement<'a> {
    /// Creates an empty file beside the destination, with the mode that the destination is to have.
    ///
    /// # Errors
    ///
    /// Fails if the directory does not exist or cannot be written to.
    pub(crate) fn of(destination: &'a Path, access: Access) -> io::Result<Self> {
        let (mode, replaced) = match access {
            Access::Usual => (0o666, fs::metadata(destination).ok()),
            Access::Private => (0o600, None),
        };
        let file = Unnamed::beside(destination, mode)?;
        if let Some(replaced) = replaced {
            let mode = replaced.permissions().mode() & 0o777;
            file.file().set_permissions(Permissions::from_mode(mode))?;
        }
        Ok(Self { destination, file })
    }

    /// The file to write to.
    pub(crate) fn file(&self) -> &File {
        self.file.file()
    }

    /// Renames the file to the destination. After a power loss the destination has either all of the new content or all
    /// of the old.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be synced or renamed. The destination is then as it was, unless it was only the sync
    /// under its new name that failed.
    pub(crate) fn commit(self) -> io::Result<()> {
        let file = self.file.named()?.persist(self.destination).map_err(|error| error.error)?;
        // A file system such as btrfs does not sync a file that has no name.
        file.sync_all()?;
        sync_directory_of(self.destination)
    }
}

/// Replaces a file with the given bytes, whole or not at all.
///
/// # Errors
///
/// Fails if a file cannot be created beside the destination, written, synced or renamed.
pub(crate) fn replace(destination: &Path, access: Access, bytes: &[u8]) -> io::Result<()> {
    let replacement = Replacement::of(destination, access)?;
    replacement.file().write_all(bytes)?;
    replacement.commit()
}

/// The directory that a file is in; `.` for a bare name.
pub(crate) fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Syncs the directory that a file is in, so that the file's name survives a power loss.
///
/// # Errors
///
/// Fails if the directory cannot be opened or synced.
pub(crate) fn sync_directory_of(path: &Path) -> io::Result<()> {
    File::open(directory_of(path))?.sync_all()
}

/// A reader that computes the SHA-256 and the number of the bytes read through it.
#[derive(Debug)]
pub(crate) struct Hashing<R> {
    reader: R,
    hasher: Sha256,
    bytes: u64,
}

impl<R: Read> Hashing<R> {
    /// Reads from `reader`.
    pub(crate) fn new(reader: R) -> Self {
        Self { reader, hasher: Sha256::new(), bytes: 0 }
    }

    /// The SHA-256 of the bytes read, in lowercase hexadecimal, and how many they were.
    pub(crate) fn finish(self) -> (String, u64) {
        (hexadecimal(&self.hasher.finalize()), self.bytes)
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(into)?;
        self.hasher.update(&into[..count]);
        self.bytes += count as u64;
        Ok(count)
    }
}

/// The SHA-256 of a file of any size, in lowercase hexadecimal. For a directory, that of a list of all its files: name
/// and SHA-256 of each, sorted by name, subdirectories likewise.
///
/// # Errors
///
/// Fails if the file, or any file in the directory, cannot be read.
pub(crate) fn sha256(path: &Path) -> io::Result<String> {
    let file = File::open(path)?;
    if !file.metadata()?.is_dir() {
        return sha256_from(file);
    }
    let entries = fs::read_dir(path)?.collect::<io::Result<Vec<_>>>()?;
    let mut paths: Vec<_> = entries.into_iter().map(|entry| entry.path()).collect();
    paths.sort();
    let mut hasher = Sha256::new();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        hasher.update(format!("{} {name}\n", sha256(&path)?));
    }
    Ok(hexadecimal(&hasher.finalize()))
}

/// The SHA-256 of all that a reader gives, in lowercase hexadecimal.
///
/// # Errors
///
/// Fails if the reader does.
pub(crate) fn sha256_from(reader: impl Read) -> io::Result<String> {
    let mut reader = Hashing::new(reader);
    io::copy(&mut reader, &mut io::sink())?;
    Ok(reader.finish().0)
}

/// The SHA-256 of some bytes, in lowercase hexadecimal.
pub(crate) fn sha256_of(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

fn hexadecimal(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replacement_that_is_not_committed_leaves_the_old_file_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("answers.csv");
        fs::write(&path, "old").unwrap();
        let replacement = Replacement::of(&path, Access::Usual).unwrap();
        replacement.file().write_all(&vec![b'x'; 1 << 20]).unwrap();
        drop(replacement);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn until_it_is_whole_a_new_file_has_no_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("answers.csv");
        let names = || fs::read_dir(directory.path()).unwrap().count();
        let unnamed = || {
            let unnamed = Unnamed::beside(&path, 0o640).unwrap();
            unnamed.file().write_all(b"whole").unwrap();
            unnamed
        };
        let new = unnamed();
        assert_eq!(names(), 0, "this needs a file system with unnamed files");
        let linked = new.named().unwrap();
        let copied = copied(unnamed().file(), directory.path()).unwrap();
        for file in [linked, copied] {
            assert_eq!((names(), fs::read(&file).unwrap()), (2, b"whole".to_vec()));
            assert_eq!(file.as_file().metadata().unwrap().permissions().mode() & 0o777, 0o640);
            file.persist(&path).unwrap();
        }
    }

    #[test]
    fn the_new_file_has_the_old_ones_mode_a_plain_files_or_is_private() {
        let directory = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let path = directory.path().join("answers.csv");
        fs::write(&path, "old").unwrap();
        let plain = mode(&path);
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        for (path, access, expected) in [
            (&path, Access::Usual, 0o640),
            (&directory.path().join("new.csv"), Access::Usual, plain),
            (&path, Access::Private, 0o600),
        ] {
            replace(path, access, b"new").unwrap();
            assert_eq!(fs::read(path).unwrap(), b"new");
            assert_eq!(mode(path), expected);
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_directorys_hash_is_that_of_the_list_of_its_files() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir(at("a")).unwrap();
        for (name, text) in [("b", "abc"), ("a/x", "")] {
            fs::write(at(name), text).unwrap();
        }
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(&at("b")).unwrap(), abc);
        let list = format!("{} a\n{abc} b\n", sha256(&at("a")).unwrap());
        assert_eq!(sha256(directory.path()).unwrap(), hexadecimal(&Sha256::digest(list)));
    }
}
