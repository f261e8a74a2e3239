//! The selection's records, one at a time or in blocks that a thread can be given. Not what is made of them.

use super::error::OutputError;
use super::ordered_pool::Weighed;
use super::project::Projection;
use crate::input::{RawRecord, Records};

/// How many rows are passed over between two looks at the cancellation.
const STRIDE: u64 = 1024;
/// So many rows that their outcomes fill the windows through which the journal is read.
const ROWS: usize = 1024;
/// A block of fewer rows is full when it has so many bytes.
const BYTES: usize = 256 << 10;

/// Walks the selection's records, of which none may be missing.
pub(super) struct Selected<'a, C> {
    projection: &'a Projection<'a>,
    records: Records,
    /// The id of the next record.
    row: u64,
    /// The rows that are still to come.
    wanted: Box<dyn Iterator<Item = u64> + Send + 'a>,
    /// Asked every thousand rows.
    cancelled: C,
}

impl<'a, C: Fn() -> bool> Selected<'a, C> {
    /// `records` stand at the file's first.
    pub(super) fn new(projection: &'a Projection<'a>, records: Records, cancelled: C) -> Self {
        let wanted = Box::new(projection.index.selection().rows());
        Self { projection, records, row: 0, wanted, cancelled }
    }

    /// The next record; none behind the last of the selection.
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
                path: self.projection.source.path.clone(),
                records: self.row,
                wanted: self.projection.index.selection().hull().end,
            });
        };
        self.row += 1;
        Ok(record)
    }
}

/// Some records one after another, copied.
#[derive(Debug, Default)]
pub(super) struct Block {
    text: String,
    /// Each one's id, line, and where its text ends.
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

/// Makes blocks of the selection's records.
pub(super) struct Blocks<'a, C> {
    records: Selected<'a, C>,
    /// What went wrong behind the block given last.
    error: Option<OutputError>,
}

impl<'a, C: Fn() -> bool> Blocks<'a, C> {
    pub(super) fn new(records: Selected<'a, C>) -> Self {
        Self { records, error: None }
    }

    /// The next block. What was read before an error comes before the error.
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
