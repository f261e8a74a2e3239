//! Makes the records of the answers file for a block of rows.

use super::blocks::Block;
use super::cell;
use super::encoder::Encoder;
use super::error::OutputError;
use super::input_columns::InputColumns;
use crate::input::{RawRecord, Source};
use crate::journal::{Counts, Index, Reader, Status};
use crate::row::RowHash;

/// How many bytes are handed over at once. The answers of a block may be far longer than its questions.
const BYTES: usize = 128 << 10;

/// Makes records, on its own thread.
pub(super) struct BlockWriter<'a> {
    pub(super) source: &'a Source,
    pub(super) index: &'a Index,
    pub(super) journal: Reader,
    /// The columns of the input; `None` if its records are copied.
    pub(super) own: Option<InputColumns>,
    /// The fields of the predictor.
    pub(super) fields: &'a [String],
    pub(super) encoder: Encoder,
}

/// Records to be written to the file.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) bytes: Vec<u8>,
    /// The rows by status.
    pub(super) rows: Counts,
}

impl Written {
    /// No records yet, but room for all except long ones: buffers that grow leave one of each size to the allocator.
    fn new() -> Self {
        Self { bytes: Vec::with_capacity(BYTES + BYTES / 4), rows: Counts::default() }
    }
}

impl BlockWriter<'_> {
    /// Makes the records of a block and passes them to `give` in order, some at a time, until `give` returns false.
    pub(super) fn write(
        &mut self,
        block: &Block,
        give: &mut dyn FnMut(Written) -> bool,
    ) -> Result<(), OutputError> {
        let mut written = Written::new();
        for record in block.iter() {
            self.record(&record, &mut written)?;
            if written.bytes.len() >= BYTES && !give(std::mem::replace(&mut written, Written::new())) {
                return Ok(());
            }
        }
        give(written);
        Ok(())
    }

    fn record(&mut self, record: &RawRecord<'_>, written: &mut Written) -> Result<(), OutputError> {
        let outcome = self.journal.outcome(self.index, record.id)?;
        if outcome.as_ref().is_some_and(|outcome| outcome.hash != RowHash::of(record.raw.as_bytes())) {
            return Err(OutputError::Changed { path: self.source.path.clone(), line: record.line });
        }
        written.rows.add(outcome.as_ref().map(Status::of));
        let copied = self.own.is_none().then_some(record.raw);
        let mut cells = Vec::new();
        if let Some(own) = &mut self.own {
            own.cells(record.raw, &mut cells)
                .map_err(|fault| OutputError::malformed(self.source, record.line, fault))?;
        }
        cell::added(outcome.as_ref(), self.fields, &mut cells);
        self.encoder.record(copied, &cells, &mut written.bytes);
        Ok(())
    }
}
