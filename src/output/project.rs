//! Writes the records of the input in order, each with the outcome of its row from the journal, on several cores.

use std::io::Write;
use std::path::Path;
use std::thread;

use indexmap::IndexSet;

use super::block_writer::{BlockWriter, Written};
use super::blocks::{Block, Blocks, Selected};
use super::columns::{self, Renamed};
use super::encoder::Encoder;
use super::error::OutputError;
use super::input_columns::InputColumns;
use super::ordered_pool;
use crate::fs::{Access, Replacement};
use crate::input::{Format, Records, Source, entries};
use crate::journal::{Counts, Fields, Index, Reader};

/// The greatest number of threads. More of them would only wait for the one that reads the input.
const MOST_WORKERS: usize = 4;

/// An answers file to be written, with one record for each row of the selection of the index.
#[derive(Debug)]
pub(crate) struct Projection<'a> {
    /// The input, as it was read for the run.
    pub source: &'a Source,
    /// The journal; a running job may be appending to it.
    pub journal: &'a Path,
    /// Where each row was decided, and which rows were asked for.
    pub index: &'a Index,
    /// The field names of the predictor.
    pub fields: &'a Fields,
    /// The answers file.
    pub destination: &'a Path,
    /// Its format.
    pub format: Format,
    /// Who may read it.
    pub access: Access,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Projected {
    /// Records by status.
    pub rows: Counts,
    /// Columns that were renamed because their names were taken.
    pub renamed: Vec<Renamed>,
}

impl Projection<'_> {
    /// Writes the answers file, whole or not at all: after an error the old file is as it was. `cancelled` is asked
    /// every thousand rows and every few hundred kilobytes.
    ///
    /// # Errors
    ///
    /// Fails if the input or the journal cannot be read, a record of the input is not the one that was answered, the
    /// file cannot be written, or when cancelled.
    pub(crate) fn write(&self, cancelled: impl Fn() -> bool) -> Result<Projected, OutputError> {
        let records = Records::open(self.source)?;
        let header = records.header().cloned();
        let copied = self.source.format == self.format;
        let (own, mut renamed) = match &header {
            Some(header) if copied => (header.names.clone(), Vec::new()),
            Some(header) => columns::numbered(&header.names),
            None => (self.keys(&cancelled)?, Vec::new()),
        };
        let fields: Vec<String> = self.fields.names().into_iter().map(str::to_owned).collect();
        let (added, renamed_added) = columns::added(&own, &fields);
        renamed.extend(renamed_added);
        let names = if copied { added } else { own.iter().cloned().chain(added).collect() };
        let mut encoder = Encoder::new(self.format, self.source, &names, records.line_ending());
        let mut head = Vec::new();
        if records.has_separator_line() && self.format == Format::Csv {
            head.extend_from_slice(b"sep=");
            head.push(self.source.delimiter);
            head.extend_from_slice(records.line_ending());
        }
        encoder.header(header.filter(|_| copied).map(|header| header.raw).as_deref(), &names, &mut head);
        let worker = || -> Result<_, OutputError> {
            let own = (!copied).then(|| InputColumns::new(self.source, own.clone()));
            let journal = Reader::open(self.journal)?;
            let mut rows = BlockWriter {
                source: self.source,
                index: self.index,
                journal,
                own,
                fields: &fields,
                encoder: encoder.clone(),
            };
            Ok(move |block: Block, give: &mut dyn FnMut(Written) -> bool| rows.write(&block, give))
        };
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let workers = (0..cores.min(MOST_WORKERS)).map(|_| worker()).collect::<Result<_, _>>()?;
        let mut blocks = Blocks::new(self.selected(records, &cancelled));
        let mut rows = Counts::default();
        let failed = |source| OutputError::Write { path: self.destination.to_owned(), source };
        let replacement = Replacement::of(self.destination, self.access).map_err(failed)?;
        replacement.file().write_all(&head).map_err(failed)?;
        let mut take = |written: Written| {
            if cancelled() {
                return Err(OutputError::Cancelled);
            }
            rows += written.rows;
            replacement.file().write_all(&written.bytes).map_err(failed)
        };
        ordered_pool::run(workers, || blocks.next(), &mut take)?;
        replacement.commit().map_err(failed)?;
        Ok(Projected { rows, renamed })
    }

    /// The keys of all selected objects, in order of first appearance.
    fn keys(&self, cancelled: impl Fn() -> bool) -> Result<Vec<String>, OutputError> {
        let mut keys = IndexSet::new();
        let mut records = self.selected(Records::open(self.source)?, cancelled);
        while let Some(record) = records.next()? {
            for (key, _) in entries(record.raw)
                .map_err(|fault| OutputError::malformed(self.source, record.line, fault))?
            {
                if !keys.contains(&*key) {
                    keys.insert(key.into_owned());
                }
            }
        }
        Ok(keys.into_iter().collect())
    }

    fn selected<C: Fn() -> bool>(&self, records: Records, cancelled: C) -> Selected<'_, C> {
        Selected::new(self.source, self.index.selection(), records, cancelled)
    }
}
