//! The offset of each row's deciding record in the journal, and whether it is an answer, in 8 bytes a row.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::outcome::Outcome;
use crate::selection::Selection;

/// One slot for each row, from the first that was ever selected to the last. Readers share it with the one writer.
#[derive(Debug)]
pub struct Index {
    /// The rows that any session selected.
    selection: Selection,
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
    pub fn new(selection: Range<u64>) -> Self {
        let slots = selection.clone().map(|_| AtomicU64::new(0)).collect();
        Self { start: selection.start, slots, selection: selection.into() }
    }

    /// The same decisions with room for the rows of one more session; none if memory cannot hold them.
    pub(super) fn covering(&self, range: &Range<u64>) -> Option<Self> {
        let mut selection = self.selection.clone();
        selection.cover(range.clone());
        let index = Self::try_new(selection.hull())?;
        for (row, slot) in (self.start..).zip(&self.slots) {
            if let Some(wider) = index.slot(row) {
                wider.store(slot.load(Ordering::Acquire), Ordering::Release);
            }
        }
        Some(Self { selection, ..index })
    }

    /// Whether all rows of a session are among the selected ones.
    pub(super) fn covers(&self, range: &Range<u64>) -> bool {
        let mut wider = self.selection.clone();
        wider.cover(range.clone());
        wider == self.selection
    }

    /// An index of a selection read from a file; none if the selection ends before it starts, or if memory cannot hold
    /// it.
    pub(super) fn try_new(selection: Range<u64>) -> Option<Self> {
        let rows = usize::try_from(selection.end.checked_sub(selection.start)?).ok()?;
        let mut slots = Vec::new();
        slots.try_reserve_exact(rows).ok()?;
        slots.resize_with(rows, AtomicU64::default);
        Some(Self { start: selection.start, slots: slots.into(), selection: selection.into() })
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
        self.slots.get(usize::try_from(row.checked_sub(self.start)?).ok()?)
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
    fn a_row_takes_eight_bytes() {
        assert_eq!(size_of_val(&*Index::new(0..1000).slots), 8000);
    }
}
