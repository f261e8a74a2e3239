//! The answers file's records of a block of rows. Not the order of the blocks.

use super::blocks::Block;
use super::cell;
use super::encoder::Encoder;
use super::error::OutputError;
use super::input_columns::InputColumns;
use super::project::Projection;
use crate::input::RawRecord;
use crate::journal::{Counts, Reader, Status};

/// So many bytes are given at once: a block's answers may be far longer than its questions.
const BYTES: usize = 128 << 10;

/// Makes records, on a thread of its own.
pub(super) struct BlockWriter<'a> {
    pub(super) projection: &'a Projection<'a>,
    pub(super) journal: Reader,
    /// Takes the input's records apart, where they cannot be copied.
    pub(super) own: Option<InputColumns>,
    /// The predictor's.
    pub(super) fields: &'a [String],
    pub(super) encoder: Encoder,
}

/// Records to be written.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) bytes: Vec<u8>,
    /// By status.
    pub(super) rows: Counts,
}

impl Written {
    /// None yet, with room for all but long ones: buffers that grow leave the allocator with one of each size.
    fn new() -> Self {
        Self { bytes: Vec::with_capacity(BYTES + BYTES / 4), rows: Counts::default() }
    }
}

impl BlockWriter<'_> {
    /// Makes the block's records and gives them in order, some at a time, for as long as they are taken.
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
        let outcome = self.journal.outcome(self.projection.index, record.id)?;
        self.projection.check(record, outcome.as_ref())?;
        written.rows.add(outcome.as_ref().map(Status::of));
        let copied = self.own.is_none().then_some(record.raw);
        let mut cells = Vec::new();
        if let Some(own) = &mut self.own {
            own.cells(record.raw, &mut cells).map_err(|fault| self.projection.malformed(record, fault))?;
        }
        cell::added(outcome.as_ref(), self.fields, &mut cells);
        self.encoder.record(copied, &cells, &mut written.bytes);
        Ok(())
    }
}
