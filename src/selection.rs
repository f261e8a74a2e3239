//! The set of rows that were asked for, as ranges of ids.

use std::ops::Range;

/// A set of row ids, kept as ascending ranges that neither touch nor overlap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection(Vec<Range<u64>>);

impl Selection {
    /// Adds the rows of a range.
    pub fn cover(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let touches = |other: &Range<u64>| other.start <= range.end && range.start <= other.end;
        let (mut touching, mut ranges): (Vec<_>, Vec<_>) = self.0.drain(..).partition(touches);
        touching.push(range);
        let start = touching.iter().map(|range| range.start).min().unwrap_or_default();
        let end = touching.iter().map(|range| range.end).max().unwrap_or_default();
        ranges.push(start..end);
        ranges.sort_unstable_by_key(|range| range.start);
        self.0 = ranges;
    }

    /// Whether a row is in the set.
    pub fn contains(&self, row: u64) -> bool {
        let behind = self.0.partition_point(|range| range.end <= row);
        self.0.get(behind).is_some_and(|range| range.contains(&row))
    }

    /// The range from the first row to the last, including all rows between them.
    pub fn hull(&self) -> Range<u64> {
        let start = self.0.first().map_or(0, |range| range.start);
        start..self.0.last().map_or(start, |range| range.end)
    }

    /// Number of rows.
    pub fn len(&self) -> u64 {
        self.0.iter().map(|range| range.end - range.start).sum()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The rows, ascending.
    pub fn rows(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.iter().cloned().flatten()
    }
}

impl From<Range<u64>> for Selection {
    fn from(range: Range<u64>) -> Self {
        let mut selection = Self::default();
        selection.cover(range);
        selection
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_touch_become_one_and_others_stay_apart() {
        let mut selection = Selection::from(10..20);
        for range in [0..5, 30..40, 5..5, 18..31] {
            selection.cover(range);
        }
        assert_eq!(selection, Selection(vec![0..5, 10..40]));
        selection.cover(5..10);
        assert_eq!((selection.hull(), selection.len()), (0..40, 40));
    }

    #[test]
    fn what_lies_between_is_not_among_them() {
        let mut selection = Selection::from(0..2);
        selection.cover(4..6);
        let among: Vec<u64> = (0..9).filter(|row| selection.contains(*row)).collect();
        assert_eq!(among, [0, 1, 4, 5]);
        assert_eq!(selection.rows().collect::<Vec<_>>(), among);
        assert_eq!((selection.hull(), selection.len()), (0..6, 4));
        assert!(Selection::default().is_empty() && Selection::default().hull().is_empty());
    }
}
