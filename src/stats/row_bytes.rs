//! One byte for each row of the selections so far.

use std::ops::Range;

/// The bytes, from the first row that was ever selected to the last; 0 where nothing is noted.
#[derive(Debug, Default)]
pub(super) struct RowBytes {
    start: u64,
    bytes: Vec<u8>,
}

impl RowBytes {
    /// Makes room for the rows of a selection.
    pub(super) fn cover(&mut self, selection: &Range<u64>) {
        if self.bytes.is_empty() {
            self.start = selection.start;
        }
        let before = self.start.saturating_sub(selection.start);
        self.bytes.splice(0..0, std::iter::repeat_n(0, before as usize));
        self.start -= before;
        let rows = self.bytes.len().max((selection.end - self.start) as usize);
        self.bytes.resize(rows, 0);
    }

    /// Notes a byte for a row, and returns the one before; 0 for a row that there is no room for.
    pub(super) fn replace(&mut self, row: u64, byte: u8) -> u8 {
        let slot = row.checked_sub(self.start).and_then(|at| self.bytes.get_mut(at as usize));
        slot.map_or(0, |slot| std::mem::replace(slot, byte))
    }

    /// The bytes of some rows, as far as there is room for them.
    pub(super) fn of(&self, rows: &Range<u64>) -> &[u8] {
        let at = |row: u64| (row.saturating_sub(self.start) as usize).min(self.bytes.len());
        self.bytes.get(at(rows.start)..at(rows.end)).unwrap_or_default()
    }

    /// The rows in their order, each with its byte.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u8)> {
        (self.start..).zip(self.bytes.iter().copied())
    }
}
