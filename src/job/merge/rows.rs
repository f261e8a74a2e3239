//! Which row has its outcome where: finds rows without one, with one in several journals, and outcomes of no row.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::ops::Range;
use std::path::Path;

use crate::fs::{Hashing, Stoppable};
use crate::input::{InputError, Records, Source};
use crate::job::error::JobError;
use crate::journal::{Index, InputIdentity, Status};
use crate::outcome::Outcome;
use crate::report::text::count;
use crate::row::RowHash;
use crate::run::control::Control;
use crate::selection::Rows;

/// How many places of each kind are told.
const TOLD: usize = 5;

/// Where a row was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// The number of the journal.
    pub part: usize,
    /// The offset of the record in it.
    pub offset: u64,
    /// Whether it is an answer.
    pub ok: bool,
}

/// A mark and flags of its row in 8 bytes; 0 for none.
#[derive(Debug, Clone, Copy, Default)]
struct Packed(u64);

/// The most journals, so that their numbers and the offsets in them fit in 8 bytes.
pub(super) const MOST_PARTS: usize = 1 << 16;
const OFFSET_BITS: u32 = 45;
const FLAG_BITS: u32 = 3;
// The mark is an answer, and the row has an outcome or an answer in several journals.
const OK: u64 = 1;
const DOUBLE: u64 = 2;
const BOUGHT: u64 = 4;

impl Packed {
    fn of(mark: Mark) -> Self {
        Self((mark.part as u64) << (OFFSET_BITS + FLAG_BITS) | mark.offset << FLAG_BITS | u64::from(mark.ok))
    }

    fn mark(self) -> Option<Mark> {
        // No outcome is at offset 0, where a journal's first header is.
        let offset = self.0 >> FLAG_BITS & ((1 << OFFSET_BITS) - 1);
        let part = (self.0 >> (OFFSET_BITS + FLAG_BITS)) as usize;
        (offset != 0).then_some(Mark { part, offset, ok: self.0 & OK != 0 })
    }

    /// Puts another mark of the row in the place of this one.
    fn replace(&mut self, mark: Mark) {
        self.0 = Self::of(mark).0 | self.0 & (DOUBLE | BOUGHT);
    }

    /// Sets a flag. Returns whether it was not set.
    fn set(&mut self, flag: u64) -> bool {
        let is_new = self.0 & flag == 0;
        self.0 |= flag;
        is_new
    }
}

/// How many rows there are of a kind, and the first of them.
#[derive(Debug)]
pub(super) struct Found<T> {
    pub count: u64,
    pub first: Vec<T>,
}

impl<T> Found<T> {
    pub(super) fn none() -> Self {
        Self { count: 0, first: Vec::new() }
    }

    pub(super) fn add(&mut self, place: T) {
        self.count += 1;
        if self.first.len() < TOLD {
            self.first.push(place);
        }
    }

    /// The texts of the first ones, and how many more there are.
    pub(super) fn told(&self, first: &[String]) -> String {
        let more = self.count - first.len() as u64;
        let more = (more > 0).then(|| format!(" and {} more", count(more)));
        first.join(", ") + &more.unwrap_or_default()
    }
}

/// The rows of the merged job, at 16 bytes a row, beside the index of the journal that is being read.
#[derive(Debug)]
pub(super) struct Marks {
    /// The rows, all those of a range.
    pub rows: Rows,
    hashes: Vec<RowHash>,
    decided: Vec<Packed>,
    /// Rows with an outcome in several journals: the row, and where.
    pub double: Found<(u64, Vec<Mark>)>,
    /// How many of them are answered in several.
    pub bought_twice: u64,
}

impl Marks {
    /// The rows from `start` on with these hashes, none of them decided.
    fn new(start: u64, hashes: Vec<RowHash>) -> Self {
        let rows = Rows::from(start..start + hashes.len() as u64);
        let decided = vec![Packed::default(); hashes.len()];
        Self { rows, hashes, decided, double: Found::none(), bought_twice: 0 }
    }

    /// Whether an outcome is of the row of the input that it names.
    pub(super) fn knows(&self, outcome: &Outcome) -> bool {
        let hash = self.place(outcome.row).and_then(|place| self.hashes.get(place));
        hash == Some(&outcome.hash)
    }

    /// Marks the rows that a journal decides. An answer stands before a failure, and the later journal before the
    /// earlier, as in the journal that is written.
    pub(super) fn add(&mut self, part: usize, index: &Index) {
        for row in index.selection().rows() {
            let (Some(status), Some(offset)) = (index.status(row), index.offset(row)) else { continue };
            let mark = Mark { part, offset, ok: status == Status::Ok };
            let Some(slot) = self.place(row).and_then(|place| self.decided.get_mut(place)) else { continue };
            let before = slot.mark();
            if mark.ok || before.is_none_or(|before| !before.ok) {
                slot.replace(mark);
            }
            if let Some(before) = before {
                if slot.set(DOUBLE) {
                    self.double.add((row, vec![before, mark]));
                } else if let Some((_, marks)) = self.double.first.iter_mut().find(|(told, _)| *told == row) {
                    marks.push(mark);
                }
                if before.ok && mark.ok && slot.set(BOUGHT) {
                    self.bought_twice += 1;
                }
            }
        }
    }

    /// The rows without an outcome.
    pub(super) fn missing(&self) -> Found<u64> {
        let mut missing = Found::none();
        let rows = (self.rows.start..).zip(&self.decided);
        rows.filter(|(_, slot)| slot.mark().is_none()).for_each(|(row, _)| missing.add(row));
        missing
    }

    /// Whether every row is answered.
    pub(super) fn is_whole(&self) -> bool {
        self.decided.iter().all(|slot| slot.mark().is_some_and(|mark| mark.ok))
    }

    fn place(&self, row: u64) -> Option<usize> {
        usize::try_from(row.checked_sub(self.rows.start)?).ok()
    }
}

/// Reads the input. The marks are for those of its rows that are in a range, none decided. `was` is how a session read it.
///
/// # Errors
///
/// Fails if the input cannot be read, or if `control` stops the reading.
pub(super) fn read(
    source: &Source,
    was: &InputIdentity,
    range: &Range<u64>,
    control: &Control,
) -> Result<(InputIdentity, Marks), JobError> {
    let stopped = |error| of_reading(error, control);
    let asked = || control.asked().is_some();
    let reader = Hashing::new(Stoppable { reader: source.open()?, stopped: &asked });
    let mut records = Records::from_reader(source, reader).map_err(stopped)?;
    let (mut hashes, mut rows, mut empty) = (Vec::new(), 0, 0);
    while let Some(record) = records.next().map_err(stopped)? {
        if range.contains(&record.id) {
            hashes.push(RowHash::of(record.raw.as_bytes()));
        }
        if source.is_empty(&record) {
            empty += 1;
        } else {
            (rows, empty) = (record.id + 1, 0);
        }
    }
    // Blank records at the end are no rows.
    hashes.truncate(rows.saturating_sub(range.start) as usize);
    let header_hash = records.header().map(|header| RowHash::of(&header.raw));
    let (sha256, _) = records.into_inner().finish();
    let path = source.at.to_string_lossy().into_owned();
    let input = InputIdentity { path, sha256, rows, empty, header_hash, ..was.clone() };
    Ok((input, Marks::new(range.start.min(rows), hashes)))
}

fn of_reading(error: InputError, control: &Control) -> JobError {
    JobError::of_step("the merge", error, control)
}

/// The lines of the input on which these rows stand, which ascend.
///
/// # Errors
///
/// As [`read`].
pub(super) fn lines_of(source: &Source, rows: &[u64], control: &Control) -> Result<Vec<u64>, JobError> {
    let stopped = |error| of_reading(error, control);
    let mut lines = Vec::with_capacity(rows.len());
    let asked = || control.asked().is_some();
    let reader = Stoppable { reader: source.open()?, stopped: &asked };
    let mut records = Records::from_reader(source, reader).map_err(stopped)?;
    while lines.len() < rows.len()
        && let Some(record) = records.next().map_err(stopped)?
    {
        if record.id == rows[lines.len()] {
            lines.push(record.line);
        }
    }
    Ok(lines)
}

/// The line of a file that begins at an offset, counted from 1.
pub(super) fn line_at(file: &Path, offset: u64) -> io::Result<u64> {
    let mut reader = BufReader::new(File::open(file)?.take(offset));
    let (mut line, mut buffer) = (1, vec![0; 64 << 10]);
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(line),
            read => line += memchr::memchr_iter(b'\n', &buffer[..read]).count() as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_comes_back_from_its_eight_bytes() {
        for part in [0, 7, MOST_PARTS - 1] {
            for (offset, ok) in [(1, false), (512, true), ((1 << OFFSET_BITS) - 1, true)] {
                let mark = Mark { part, offset, ok };
                assert_eq!(Packed::of(mark).mark(), Some(mark));
            }
        }
        assert_eq!((Packed::default().mark(), size_of::<Packed>()), (None, 8));
    }

    #[test]
    fn a_line_is_found_by_its_first_byte() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a");
        std::fs::write(&file, "one\n\nthree\n").unwrap();
        assert_eq!([0, 4, 5].map(|offset| line_at(&file, offset).unwrap()), [1, 2, 3]);
    }
}
