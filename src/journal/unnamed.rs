//! A journal without a name, for a run that only measures: it goes with its process, however that ends.

use std::io::{Seek, Write};
use std::path::Path;
use std::sync::Arc;

use super::batch::Batch;
use super::error::JournalError;
use super::fields::Fields;
use super::index::Index;
use super::format::Record;
use super::recover::Recovered;
use super::session::Header;
use super::write::Journal;

impl Journal {
    /// Creates a journal in a directory in which nobody sees it.
    ///
    /// # Errors
    ///
    /// Fails where the file cannot be made in that directory.
    pub fn unnamed(directory: &Path, header: &Header) -> Result<Self, JournalError> {
        let mut batch = Batch::default();
        batch.header(header)?;
        let created = tempfile::tempfile_in(directory).and_then(|mut file| {
            file.write_all(&batch.bytes)?;
            Ok(file)
        });
        let path = directory.to_owned();
        let file = created.map_err(|source| JournalError::Io {
            action: "write into",
            path: path.clone(),
            source,
        })?;
        let index = Arc::new(Index::new(header.selection.clone()));
        let bytes = batch.bytes.len() as u64;
        let mut journal = Self::new(&path, file, bytes, index, Fields::default(), header.clone())?;
        journal.named = false;
        Ok(journal)
    }

    /// Reads what was committed. `visit` is given every record.
    ///
    /// # Errors
    ///
    /// Fails where the file cannot be read.
    pub fn read_back(&self, visit: impl FnMut(&Record<'_>)) -> Result<Recovered, JournalError> {
        let mut file = &*self.file;
        file.rewind().map_err(|source| JournalError::Io {
            action: "read",
            path: self.path.clone(),
            source,
        })?;
        Recovered::from_reader(file, &self.path, visit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::testing::{answered, header};

    #[test]
    fn it_is_read_back_and_leaves_no_file() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = Journal::unnamed(directory.path(), &header(1, 0..3)).unwrap();
        journal.append_outcome(&answered(1)).unwrap();
        journal.checkpoint().unwrap();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);

        let mut rows = Vec::new();
        let visit = |record: &Record<'_>| {
            if let Record::Outcome(outcome) = record {
                rows.push(outcome.row);
            }
        };
        journal.read_back(visit).unwrap();
        assert_eq!(rows, [1]);
        journal.append_outcome(&answered(2)).unwrap();
        journal.commit().unwrap();
        assert_eq!(journal.read_back(|_| ()).unwrap().index.counts().ok, 2, "it can be written on");
    }
}
