//! The rows of a run, one at a time, in input order. Not for refusing a file; [`super::validate()`] did that before.

use std::ops::Range;
use std::sync::Arc;

use super::arguments::ArgumentReader;
use super::binding::Binding;
use super::error::InputError;
use super::records::Records;
use super::source::Source;
use crate::row::{Row, RowHash};

/// The selected rows of a validated file.
pub struct Rows {
    records: Records,
    arguments: ArgumentReader,
    selection: Range<u64>,
}

impl Rows {
    /// Opens the file again. `selection` holds 0-based row ids; what lies beyond the file is not missed.
    ///
    /// # Errors
    ///
    /// Fails where the file cannot be read, or its header is not the one it was bound to.
    pub fn open(source: &Source, binding: &Binding, selection: Range<u64>) -> Result<Self, InputError> {
        let records = Records::open(source)?;
        let arguments = ArgumentReader::new(binding, records.header(), source)
            .map_err(|fault| InputError::new(source, fault))?;
        Ok(Self { records, arguments, selection })
    }

    /// The next selected row.
    ///
    /// # Errors
    ///
    /// Fails where the file cannot be read, or has changed since it was validated.
    #[expect(clippy::should_implement_trait, reason = "fallible, like `Records`")]
    pub fn next(&mut self) -> Result<Option<Row>, InputError> {
        loop {
            if self.records.next_id() >= self.selection.end {
                return Ok(None);
            }
            let Some(record) = self.records.next()? else { return Ok(None) };
            if record.id < self.selection.start {
                continue;
            }
            let (id, line, hash) = (record.id, record.line, RowHash::of(record.raw.as_bytes()));
            return match self.arguments.read(record.raw) {
                Ok(arguments) => Ok(Some(Row { id, line, hash, arguments: arguments.map(Arc::new) })),
                Err(fault) => Err(InputError::new(self.records.source(), fault.on_line(line))),
            };
        }
    }
}
