//! Reads the records of the rows that were asked for, one by one or in blocks for the ordered pool.

use super::error::OutputError;
use super::ordered_pool::Weighed;
use crate::input::{RawRecord, Records, Source};
use crate::selection::Selection;

/// How many records are read between two looks at the cancellation.
pub(super) const STRIDE: u64 = 1024;
/// How many rows a full block has: enough for their outcomes to fill the windows through which the journal is read.
const ROWS: usize = 1024;
/// A block with fewer rows is full once it has this many bytes.
const BYTES: usize = 256 << 10;

/// The records of a selection, none of which may be missing.
pub(super) struct Selected<'a, C> {
    source: &'a Source,
    selection: &'a Selection,
    records: Records,
    /// Id of the next record.
    row: u64,
    /// The rows that are still to come.
    wanted: Box<dyn Iterator<Item = u64> + Send + 'a>,
    cancelled: C,
}

impl<'a, C: Fn() -> bool> Selected<'a, C> {
    /// The records of a selection from `records`, of which none has been read yet.
    pub(super) fn new(source: &'a Source, selection: &'a Selection, records: Records, cancelled: C) -> Self {
        let wanted = Box::new(selection.rows());
        Self { source, selection, records, row: 0, wanted, cancelled }
    }

    /// The next record; `None` after the last one of the selection.
    pub(super) fn next(&mut self) -> Result<Option<RawRecord<'_>>, OutputError> {
        let Some(next) = self.wanted.next() else { return Ok(None) };
        while self.row < next {
            self.step()?;
        }
        self.step().map(Some)
    }

    fn step(&mut self) -> Result<RawRecord<'_>, OutputError> {
        if self.row.is_multiple_of(STRIDE) && (self.cancelled)() {
            return Err(OutputError::Cancelled);
        }
        let Some(record) = self.records.next()? else {
            return Err(OutputError::Shrunk {
                path: self.source.path.clone(),
                records: self.row,
                wanted: self.selection.hull().end,
            });
        };
        self.row += 1;
        Ok(record)
    }
}

/// Copies of consecutive records.
#[derive(Debug, Default)]
pub(super) struct Block {
    text: String,
    /// For each record its id, its line, and the end of its text.
    records: Vec<(u64, u64, usize)>,
}

impl Weighed for Block {
    fn weight(&self) -> usize {
        self.text.len()
    }
}

impl Block {
    fn push(&mut self, record: &RawRecord<'_>) {
        self.text.push_str(record.raw);
        self.records.push((record.id, record.line, self.text.len()));
    }

    fn is_full(&self) -> bool {
        self.records.len() >= ROWS || self.text.len() >= BYTES
    }

    /// The records.
    pub(super) fn iter(&self) -> impl Iterator<Item = RawRecord<'_>> {
        self.records.iter().scan(0, |start, (id, line, end)| {
            let raw = &self.text[std::mem::replace(start, *end)..*end];
            Some(RawRecord { id: *id, line: *line, raw })
        })
    }
}

/// The records of a selection, in blocks.
pub(super) struct Blocks<'a, C> {
    records: Selected<'a, C>,
    /// The error after the last block.
    error: Option<OutputError>,
}

impl<'a, C: Fn() -> bool> Blocks<'a, C> {
    pub(super) fn new(records: Selected<'a, C>) -> Self {
        Self { records, error: None }
    }

    /// The next block. Records read before an error are returned before the error.
    pub(super) fn next(&mut self) -> Result<Option<Block>, OutputError> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        let mut block = Block::default();
        while !block.is_full() {
            match self.records.next() {
                Ok(Some(record)) => block.push(&record),
                Ok(None) => break,
                Err(error) if block.records.is_empty() => return Err(error),
                Err(error) => {
                    self.error = Some(error);
                    break;
                }
            }
        }
        Ok((!block.records.is_empty()).then_some(block))
    }
}
