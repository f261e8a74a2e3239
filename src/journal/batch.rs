//! The lines that are gathered and then written to the journal together.

use std::borrow::Cow;
use std::io::{self, Write};

use super::error::JournalError;
use super::format::Record;
use super::index::Status;
use super::line;
use super::session::Header;
use crate::outcome::Outcome;
use crate::row::RowHash;

/// Lines that wait to be written in one write.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    /// How many of these bytes a write that then failed has already put into the file.
    pub(super) written: usize,
    /// The rows that the batch's outcomes decide.
    pub(super) decided: Vec<Decided>,
}

/// How a row is decided once the batch is written.
#[derive(Debug)]
pub(super) struct Decided {
    pub(super) row: u64,
    pub(super) status: Status,
    /// Offset of the record within the batch.
    pub(super) at: usize,
}

impl Batch {
    pub(super) fn append(&mut self, record: &Record<'_>) -> Result<(), JournalError> {
        Ok(line::append(&mut self.bytes, record)?)
    }

    pub(super) fn started(&mut self, rows: &[(u64, RowHash)]) -> Result<(), JournalError> {
        self.append(&Record::Started(Cow::Borrowed(rows)))
    }

    pub(super) fn outcome(&mut self, outcome: &Outcome) -> Result<(), JournalError> {
        let at = self.bytes.len();
        self.append(&Record::Outcome(Cow::Borrowed(outcome)))?;
        let status = Status::of(outcome);
        self.decided.push(Decided { row: outcome.row, status, at });
        Ok(())
    }

    /// Appends the header twice, because nothing else can be read without it. The blank line between the copies keeps a
    /// damaged line feed from joining both into one damaged line. Behind them room is reserved for the session's end;
    /// returns the offset of that room in the batch.
    pub(super) fn header(&mut self, header: &Header) -> Result<usize, JournalError> {
        let record = Record::Header(Cow::Borrowed(header));
        self.append(&record)?;
        self.bytes.push(b'\n');
        self.append(&record)?;
        let room = self.bytes.len();
        self.bytes.extend_from_slice(&line::BLANK);
        self.bytes.push(b'\n');
        Ok(room)
    }

    pub(super) fn write_to(&mut self, writer: &mut impl Write) -> io::Result<()> {
        while self.written < self.bytes.len() {
            match writer.write(&self.bytes[self.written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.written += written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Puts other lines in front of this batch's, and has all of them written from the beginning.
    pub(super) fn come_after(&mut self, first: Self) {
        let own = std::mem::replace(&mut self.bytes, first.bytes);
        for decided in &mut self.decided {
            decided.at += self.bytes.len();
        }
        self.bytes.extend_from_slice(&own);
        self.written = 0;
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.decided.clear();
        self.written = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::journal::testing::answered;

    /// Takes as many bytes in each call as the step says; `None` means that the disk is full.
    struct Stutter<'a> {
        taken: Vec<u8>,
        steps: std::slice::Iter<'a, Option<usize>>,
    }

    impl Write for Stutter<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = match self.steps.next() {
                Some(None) => return Err(io::ErrorKind::StorageFull.into()),
                Some(Some(step)) => bytes.len().min(*step),
                None => bytes.len(),
            };
            self.taken.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    proptest! {
        #[test]
        fn a_full_disk_neither_loses_nor_repeats_a_byte(
            steps in proptest::collection::vec(proptest::option::of(1_usize..400), 0..40),
        ) {
            let mut batch = Batch::default();
            let mut disk = Stutter { taken: Vec::new(), steps: steps.iter() };
            let mut appended = Vec::new();
            let mut row = 0;
            loop {
                let before = batch.bytes.len();
                batch.outcome(&answered(row)).unwrap();
                appended.extend_from_slice(&batch.bytes[before..]);
                row += 1;
                if batch.write_to(&mut disk).is_ok() {
                    break;
                }
            }
            prop_assert_eq!(disk.taken, appended);
        }
    }
}
