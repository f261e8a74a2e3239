//! The rows of a session, one at a time, in the order of the input.

use std::error::Error;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::arguments::ArgumentReader;
use super::binding::Binding;
use super::error::InputError;
use super::records::Records;
use super::source::Source;
use crate::row::{Row, RowHash};
use crate::selection::Rows;

/// Where the rows of a session come from.
pub(crate) trait RowSource: Send {
    /// The next row. Ids ascend.
    ///
    /// # Errors
    ///
    /// Fails if the rows cannot be read any further. The session ends with that error.
    fn next_row(&mut self) -> Result<NextRow, Box<dyn Error + Send + Sync>>;

    /// Is ready once [`Self::next_row`] returns something else than [`NextRow::NotYet`].
    fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

/// What a source of rows has next.
#[derive(Debug)]
pub(crate) enum NextRow {
    /// A row.
    Row(Row),
    /// Nothing at the moment. More rows may come.
    NotYet,
    /// Nothing any more.
    End,
}

/// The selected rows of a validated file.
pub(crate) struct RowReader {
    records: Records,
    arguments: ArgumentReader,
    selection: Rows,
}

impl RowReader {
    /// Opens the file again, to read the rows with the ids of `selection`, which may exceed the end of the file.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read, or its header does not fit the binding.
    pub(crate) fn open(
        source: &Source,
        binding: &Binding,
        selection: impl Into<Rows>,
    ) -> Result<Self, InputError> {
        let records = Records::open(source)?;
        let arguments = ArgumentReader::new(binding, records.header(), source)
            .map_err(|fault| InputError::new(source, fault))?;
        Ok(Self { records, arguments, selection: selection.into() })
    }

    /// The next selected row, or `None` at the end.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read, or has changed since it was validated.
    pub(crate) fn next(&mut self) -> Result<Option<Row>, InputError> {
        loop {
            if self.records.next_id() >= self.selection.end {
                return Ok(None);
            }
            let Some(record) = self.records.next()? else { return Ok(None) };
            if !self.selection.contains(record.id) {
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

impl RowSource for RowReader {
    fn next_row(&mut self) -> Result<NextRow, Box<dyn Error + Send + Sync>> {
        Ok(self.next()?.map_or(NextRow::End, NextRow::Row))
    }
}
