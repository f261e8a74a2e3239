//! Replaces a file whole or not at all, also through a power loss. Not what is written.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use super::error::OutputError;
use crate::journal::sync_directory_of;

const BUFFER: usize = 256 << 10;

/// Writes a file of mode 0600 beside the destination and renames it onto it. After an error the destination is as it
/// was.
pub fn write_atomically<T>(
    destination: &Path,
    write: impl FnOnce(&mut BufWriter<&File>) -> Result<T, OutputError>,
) -> Result<T, OutputError> {
    let failed = |source| OutputError::Write { path: destination.to_owned(), source };
    let directory = destination.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    let temporary = tempfile::NamedTempFile::new_in(directory).map_err(failed)?;
    let mut writer = BufWriter::with_capacity(BUFFER, temporary.as_file());
    let written = write(&mut writer)?;
    writer.flush().map_err(failed)?;
    drop(writer);
    temporary.as_file().sync_all().map_err(failed)?;
    temporary.persist(destination).map_err(|error| failed(error.error))?;
    sync_directory_of(destination).map_err(failed)?;
    Ok(written)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn an_error_on_the_way_leaves_the_old_file_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("answers.csv");
        fs::write(&path, "old").unwrap();
        let result: Result<(), _> = write_atomically(&path, |writer| {
            writer.write_all(&vec![b'x'; 1 << 20]).unwrap();
            Err(OutputError::Cancelled)
        });
        assert!(matches!(result, Err(OutputError::Cancelled)));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_new_file_replaces_the_old_one_and_only_its_user_may_read_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("answers.csv");
        fs::write(&path, "old").unwrap();
        write_atomically(&path, |writer| {
            writer.write_all(b"new").unwrap();
            Ok(())
        })
        .unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
