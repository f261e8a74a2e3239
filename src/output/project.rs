//! Walks the input's records in order and appends to each what the journal says of its row. Not the formats.

use std::io::Write;
use std::path::Path;

use indexmap::IndexSet;

use super::cell;
use super::columns::{self, Renamed};
use super::encoder::Encoder;
use super::error::OutputError;
use super::own::Own;
use super::write_atomically;
use crate::input::{Fault, Format, Record, Records, Source, entries};
use crate::journal::{Counts, Fields, Index, Reader, Recorded};
use crate::row::RowHash;

/// How many rows are written between two looks at the cancellation.
const STRIDE: u64 = 4096;

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
    /// `cancelled` is asked every few thousand rows. After any error the old file is untouched.
    pub fn write(&self, cancelled: impl Fn() -> bool) -> Result<Projected, OutputError> {
        let mut records = Records::open(self.source)?;
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
        let mut own = (!copied).then(|| Own::new(self.source, own));
        let mut journal = Reader::open(self.journal)?;
        let mut rows = Counts::default();

        write_atomically(self.destination, |writer| {
            let mut write = |bytes: &[u8]| {
                let path = || self.destination.to_owned();
                writer.write_all(bytes).map_err(|source| OutputError::Write { path: path(), source })
            };
            let mut out = Vec::new();
            encoder.header(header.filter(|_| copied).map(|header| header.raw).as_deref(), &names, &mut out);
            write(&out)?;
            self.each(&mut records, &cancelled, |record| {
                let outcome = self.outcome(&mut journal, &record)?;
                rows.add(outcome.as_ref().map(|outcome| outcome.result.status()));
                let mut cells = Vec::with_capacity(names.len());
                if let Some(own) = &mut own {
                    own.cells(record.raw, &mut cells).map_err(|fault| self.malformed(&record, fault))?;
                }
                cells.extend(cell::added(outcome.as_ref(), &fields));
                out.clear();
                encoder.record(copied.then_some(record.raw), &cells, &mut out);
                write(&out)
            })
        })?;
        Ok(Projected { rows, renamed })
    }

    /// The outcome of the record's row, if it was this very record that was asked.
    fn outcome<'j>(
        &self,
        journal: &'j mut Reader,
        record: &Record<'_>,
    ) -> Result<Option<Recorded<'j>>, OutputError> {
        let outcome = journal.outcome(self.index, record.id)?;
        match &outcome {
            Some(outcome) if outcome.hash != RowHash::of(record.raw.as_bytes()) => {
                Err(OutputError::Changed { path: self.source.path.clone(), line: record.line })
            }
            _ => Ok(outcome),
        }
    }

    /// The keys of all the selection's objects, in order of first appearance.
    fn keys(&self, cancelled: &impl Fn() -> bool) -> Result<Vec<String>, OutputError> {
        let mut keys = IndexSet::new();
        self.each(&mut Records::open(self.source)?, cancelled, |record| {
            for (key, _) in entries(record.raw).map_err(|fault| self.malformed(&record, fault))? {
                if !keys.contains(&*key) {
                    keys.insert(key.into_owned());
                }
            }
            Ok(())
        })?;
        Ok(keys.into_iter().collect())
    }

    /// Passes over the selection's records, of which none may be missing.
    fn each(
        &self,
        records: &mut Records,
        cancelled: &impl Fn() -> bool,
        mut take: impl FnMut(Record<'_>) -> Result<(), OutputError>,
    ) -> Result<(), OutputError> {
        let selection = self.index.selection();
        for row in 0..selection.end {
            if row.is_multiple_of(STRIDE) && cancelled() {
                return Err(OutputError::Cancelled);
            }
            let Some(record) = records.next()? else {
                let path = self.source.path.clone();
                return Err(OutputError::Shrunk { path, records: row, wanted: selection.end });
            };
            if selection.contains(&record.id) {
                take(record)?;
            }
        }
        Ok(())
    }

    fn malformed(&self, record: &Record<'_>, fault: Fault) -> OutputError {
        OutputError::Malformed { path: self.source.path.clone(), line: record.line, fault }
    }
}
