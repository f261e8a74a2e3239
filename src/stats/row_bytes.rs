//! One byte for each row of the selections so far.

use crate::selection::{Rows, Shard};

/// The bytes of a shard's rows, from the first that was ever selected to the last; 0 where nothing is noted.
#[derive(Debug, Default)]
pub(super) struct RowBytes {
    shard: Shard,
    /// The place of the first byte's row in the shard.
    start: u64,
    bytes: Vec<u8>,
}

impl RowBytes {
    /// Makes room for the rows of a selection.
    pub(super) fn cover(&mut self, selection: &Rows) {
        let places = selection.places();
        if places.is_empty() {
            return;
        }
        if self.bytes.is_empty() {
            (self.shard, self.start) = (selection.shard, places.start);
        }
        let before = self.start.saturating_sub(places.start);
        self.bytes.splice(0..0, std::iter::repeat_n(0, before as usize));
        self.start -= before;
        let rows = self.bytes.len().max((places.end - self.start) as usize);
        self.bytes.resize(rows, 0);
    }

    /// Notes a byte for a row, and returns the one before; 0 for a row that there is no room for.
    pub(super) fn replace(&mut self, row: u64, byte: u8) -> u8 {
        let place = self.shard.place(row).and_then(|place| place.checked_sub(self.start));
        let slot = place.and_then(|place| self.bytes.get_mut(place as usize));
        slot.map_or(0, |slot| std::mem::replace(slot, byte))
    }

    /// The bytes of some rows, as far as there is room for them.
    pub(super) fn of(&self, rows: &Rows) -> &[u8] {
        let at = |place: u64| (place.saturating_sub(self.start) as usize).min(self.bytes.len());
        let places = rows.places();
        self.bytes.get(at(places.start)..at(places.end)).unwrap_or_default()
    }

    /// The rows in their order, each with its byte.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u8)> {
        (self.start..).map(|place| self.shard.row(place)).zip(self.bytes.iter().copied())
    }
}
