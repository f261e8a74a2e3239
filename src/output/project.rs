//! Writes the input's records in order, each with what the journal says of its row, on all cores. Not the formats.

use std::io::{BufWriter, Write};
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
use crate::input::{Fault, Format, RawRecord, Records, Source, entries};
use crate::journal::{Counts, Fields, Index, Reader};
use crate::outcome::Outcome;
use crate::row::RowHash;

/// More threads would wait for the one that reads the input.
const MOST_WORKERS: usize = 4;
/// Bytes written to the file at once.
const BUFFER: usize = 256 << 10;

/// An answers file to be written: one record a row of the index's selection.
#[derive(Debug)]
pub struct Projection<'a> {
    /// The input file, as it was read for the run.
    pub source: &'a Source,
    /// The journal; a running job may be appending to it.
    pub journal: &'a Path,
    /// Where each row was decided.
    pub index: &'a Index,
    /// The predictor's field names.
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
pub struct Projected {
    /// Records by status.
    pub rows: Counts,
    /// Columns whose names were taken.
    pub renamed: Vec<Renamed>,
}

impl Projection<'_> {
    /// Writes the answers file. A record that is not the one that was answered is refused, and so is the whole file;
    /// `cancelled` is asked every thousand rows and every few hundred kilobytes. After any error the old file is untouched.
    ///
    /// # Errors
    ///
    /// Fails where the input or the journal cannot be read or has changed, where the file cannot be written, and when
    /// cancelled.
    pub fn write(&self, cancelled: impl Fn() -> bool) -> Result<Projected, OutputError> {
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
            let mut rows =
                BlockWriter { projection: self, journal, own, fields: &fields, encoder: encoder.clone() };
            Ok(move |block: Block, give: &mut dyn FnMut(Written) -> bool| rows.write(&block, give))
        };
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let workers = (0..cores.min(MOST_WORKERS)).map(|_| worker()).collect::<Result<_, _>>()?;
        let mut blocks = Blocks::new(Selected::new(self, records, &cancelled));
        let mut rows = Counts::default();
        let failed = |source| OutputError::Write { path: self.destination.to_owned(), source };
        let replacement = Replacement::of(self.destination, self.access).map_err(failed)?;
        let mut writer = BufWriter::with_capacity(BUFFER, replacement.file());
        writer.write_all(&head).map_err(failed)?;
        let mut take = |written: Written| {
            if cancelled() {
                return Err(OutputError::Cancelled);
            }
            rows += written.rows;
            writer.write_all(&written.bytes).map_err(failed)
        };
        ordered_pool::run(workers, || blocks.next(), &mut take)?;
        writer.flush().map_err(failed)?;
        drop(writer);
        replacement.commit().map_err(failed)?;
        Ok(Projected { rows, renamed })
    }

    /// The keys of all the selection's objects, in order of first appearance.
    fn keys(&self, cancelled: impl Fn() -> bool) -> Result<Vec<String>, OutputError> {
        let mut keys = IndexSet::new();
        let mut records = Selected::new(self, Records::open(self.source)?, cancelled);
        while let Some(record) = records.next()? {
            for (key, _) in entries(record.raw).map_err(|fault| self.malformed(&record, fault))? {
                if !keys.contains(&*key) {
                    keys.insert(key.into_owned());
                }
            }
        }
        Ok(keys.into_iter().collect())
    }

    /// Refuses a record other than the one that was asked.
    pub(super) fn check(&self, record: &RawRecord<'_>, outcome: Option<&Outcome>) -> Result<(), OutputError> {
        match outcome {
            Some(outcome) if outcome.hash != RowHash::of(record.raw.as_bytes()) => {
                Err(OutputError::Changed { path: self.source.path.clone(), line: record.line })
            }
            _ => Ok(()),
        }
    }

    /// A record with a fault.
    pub(super) fn malformed(&self, record: &RawRecord<'_>, fault: Fault) -> OutputError {
        OutputError::Malformed { path: self.source.path.clone(), line: record.line, fault }
    }
}
