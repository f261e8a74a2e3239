//! The offset of each row's deciding record in the journal, and whether it is an answer, in 8 bytes a row.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::outcome::Outcome;
use crate::selection::{Rows, Selection};

/// One slot for each row of the shard, from the first that was ever selected to the last. Readers share it with the one
/// writer.
#[derive(Debug)]
pub struct Index {
    /// The rows that any session selected.
    selection: Selection,
    /// The place of the first slot's row in the shard.
    start: u64,
    /// 0 for no record, else the record's offset times two, plus one for an answer. No outcome lies at offset 0, where
    /// the header is.
    slots: Box<[AtomicU64]>,
}

/// How a row was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Answered, and never called again.
    Ok,
    /// Failed; `resume` calls it again.
    Failed,
}

impl Status {
    /// How an outcome decides its row.
    pub fn of(outcome: &Outcome) -> Self {
        if outcome.result.is_ok() { Self::Ok } else { Self::Failed }
    }
}

/// How many rows of the selection are in which state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Answered.
    pub ok: u64,
    /// Failed for now.
    pub failed: u64,
    /// Without any outcome.
    pub unfinished: u64,
}

impl Counts {
    /// Counts one more row.
    pub fn add(&mut self, status: Option<Status>) {
        match status {
            Some(Status::Ok) => self.ok += 1,
            Some(Status::Failed) => self.failed += 1,
            None => self.unfinished += 1,
        }
    }
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.ok += other.ok;
        self.failed += other.failed;
        self.unfinished += other.unfinished;
    }
}

impl Index {
    /// An index of these rows, none of them decided.
    pub fn new(rows: impl Into<Rows>) -> Self {
        let rows = rows.into();
        let slots = rows.places().map(|_| AtomicU64::new(0)).collect();
        Self { start: rows.places().start, slots, selection: rows.into() }
    }

    /// The same decisions with room for the rows of one more session; none if these are of another shard, or if memory
    /// cannot hold them.
    pub(super) fn covering(&self, rows: &Rows) -> Option<Self> {
        let mut selection = self.selection.clone();
        if !selection.takes(rows) {
            return None;
        }
        selection.cover(*rows);
        let index = Self::try_new(selection.hull())?;
        for (place, slot) in (self.start..).zip(&self.slots) {
            if let Some(wider) = index.at(place) {
                wider.store(slot.load(Ordering::Acquire), Ordering::Release);
            }
        }
        Some(Self { selection, ..index })
    }

    /// Whether all rows of a session are among the selected ones.
    pub(super) fn covers(&self, rows: &Rows) -> bool {
        let mut wider = self.selection.clone();
        wider.takes(rows) && {
            wider.cover(*rows);
            wider == self.selection
        }
    }

    /// An index of rows that a file names; none if memory cannot hold it.
    fn try_new(rows: Rows) -> Option<Self> {
        let length = usize::try_from(rows.len()).ok()?;
        let mut slots = Vec::new();
        slots.try_reserve_exact(length).ok()?;
        slots.resize_with(length, AtomicU64::default);
        Some(Self { start: rows.places().start, slots: slots.into(), selection: rows.into() })
    }

    /// The rows that any session selected.
    pub fn selection(&self) -> &Selection {
        &self.selection
    }

    /// How the row is decided, if it is.
    pub fn status(&self, row: u64) -> Option<Status> {
        self.slot(row).and_then(|slot| status(slot.load(Ordering::Acquire)))
    }

    /// Offset of the row's deciding record.
    pub fn offset(&self, row: u64) -> Option<u64> {
        let slot = self.slot(row)?.load(Ordering::Acquire);
        (slot != 0).then_some(slot >> 1)
    }

    /// How many of the selected rows are in which state. Looks at every row.
    pub fn counts(&self) -> Counts {
        self.count(self.selection.rows())
    }

    /// How many of these rows are in which state.
    pub fn count(&self, rows: impl Iterator<Item = u64>) -> Counts {
        let mut counts = Counts::default();
        rows.for_each(|row| counts.add(self.status(row)));
        counts
    }

    /// Ids of the rows without an answer, ascending.
    pub fn unanswered(&self) -> impl Iterator<Item = u64> {
        self.selection.rows().filter(|row| self.status(*row) != Some(Status::Ok))
    }

    /// Adds one more record: the last answer wins, else the last record. False for a row outside the selection.
    pub(super) fn decide(&self, row: u64, offset: u64, decided: Status) -> bool {
        let Some(slot) = self.slot(row).filter(|_| self.selection.contains(row)) else { return false };
        if decided == Status::Ok || status(slot.load(Ordering::Acquire)) != Some(Status::Ok) {
            slot.store(offset << 1 | u64::from(decided == Status::Ok), Ordering::Release);
        }
        true
    }

    fn slot(&self, row: u64) -> Option<&AtomicU64> {
        self.at(self.selection.shard().place(row)?)
    }

    fn at(&self, place: u64) -> Option<&AtomicU64> {
        self.slots.get(usize::try_from(place.checked_sub(self.start)?).ok()?)
    }
}

fn status(slot: u64) -> Option<Status> {
    match slot {
        0 => None,
        slot if slot & 1 == 1 => Some(Status::Ok),
        _ => Some(Status::Failed),
    }
}

#[cfg(test)]
mod tests {
    use super::Status::{Failed, Ok};
    use super::*;
    use crate::selection::Shard;

    #[test]
    fn the_last_answer_wins_else_the_last_record() {
        let index = Index::new(10..14);
        let decisions = [(10, Failed), (10, Failed), (11, Ok), (11, Failed), (12, Ok), (12, Ok)];
        for (offset, (row, status)) in (1..).zip(decisions) {
            assert!(index.decide(row, offset, status));
        }
        assert_eq!([10, 11, 12, 13].map(|row| index.offset(row)), [Some(2), Some(3), Some(6), None]);
        assert_eq!(index.status(10), Some(Failed));
        assert_eq!(index.status(11), Some(Ok));
        assert_eq!(index.counts(), Counts { ok: 2, failed: 1, unfinished: 1 });
        assert_eq!(index.unanswered().collect::<Vec<_>>(), [10, 13]);
    }

    #[test]
    fn rows_outside_the_selection_are_not_taken() {
        let index = Index::new(10..12);
        assert!(!index.decide(9, 1, Ok));
        assert!(!index.decide(12, 1, Ok));
        assert_eq!(index.status(9), None);
    }

    #[test]
    fn a_row_of_the_shard_takes_eight_bytes_and_others_none() {
        assert_eq!(size_of_val(&*Index::new(0..1000).slots), 8000);
        let shard = Shard::new(1, 4).unwrap();
        let index = Index::new(Rows::new(0..1000, shard));
        assert_eq!(size_of_val(&*index.slots), 2000);
        assert!(index.decide(5, 7, Ok) && !index.decide(6, 8, Ok));
        let wider = index.covering(&Rows::new(1000..2000, shard)).unwrap();
        assert_eq!((wider.offset(5), wider.offset(6), wider.selection().len()), (Some(7), None, 500));
        assert!(index.covering(&(0..9).into()).is_none(), "one journal is of one shard");
    }
}
