//! Replaces a file whole or not at all, also through a power loss. Not what is written.

use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::NamedTempFile;

use super::error::OutputError;
use crate::journal::{directory_of, sync_directory_of};

const BUFFER: usize = 256 << 10;

/// Who may read a file that is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Access {
    /// As with other tools: whom the umask leaves, or whom the file lets that is replaced.
    #[default]
    Usual,
    /// Its owner alone.
    Private,
}

/// Writes a file beside the destination and renames it onto it. After an error the destination is as it was.
///
/// # Errors
///
/// Fails with what `write` failed with, or where the file cannot be made, synced or renamed.
pub fn write_atomically<T>(
    destination: &Path,
    access: Access,
    write: impl FnOnce(&mut BufWriter<&File>) -> Result<T, OutputError>,
) -> Result<T, OutputError> {
    let failed = |source| OutputError::Write { path: destination.to_owned(), source };
    let temporary = replacement(destination, access).map_err(failed)?;
    let mut writer = BufWriter::with_capacity(BUFFER, temporary.as_file());
    let written = write(&mut writer)?;
    writer.flush().map_err(failed)?;
    drop(writer);
    replace(temporary, destination).map_err(failed)?;
    Ok(written)
}

/// The same of text that is in memory.
///
/// # Errors
///
/// As [`write_atomically`].
pub fn write_text(destination: &Path, access: Access, text: &[u8]) -> io::Result<()> {
    let mut temporary = replacement(destination, access)?;
    temporary.write_all(text)?;
    replace(temporary, destination)
}

/// A new file beside the destination, with the mode that this is to have.
fn replacement(destination: &Path, access: Access) -> io::Result<NamedTempFile> {
    let (mode, old) = match access {
        Access::Usual => (0o666, fs::metadata(destination).ok()),
        Access::Private => (0o600, None),
    };
    // The umask takes its part of a new file's mode when that is created.
    let new = tempfile::Builder::new()
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(directory_of(destination))?;
    if let Some(old) = old {
        new.as_file().set_permissions(Permissions::from_mode(old.permissions().mode() & 0o777))?;
    }
    Ok(new)
}

fn replace(new: NamedTempFile, destination: &Path) -> io::Result<()> {
    new.as_file().sync_all()?;
    new.persist(destination).map_err(|error| error.error)?;
    sync_directory_of(destination)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_on_the_way_leaves_the_old_file_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("answers.csv");
        fs::write(&path, "old").unwrap();
        let result: Result<(), _> = write_atomically(&path, Access::Usual, |writer| {
            writer.write_all(&vec![b'x'; 1 << 20]).unwrap();
            Err(OutputError::Cancelled)
        });
        assert!(matches!(result, Err(OutputError::Cancelled)));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
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
            write_text(path, access, b"new").unwrap();
            assert_eq!(fs::read(path).unwrap(), b"new");
            assert_eq!(mode(path), expected);
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }
}
