//! Matches the rows of one list with those of another by their hashes, even if some hashes are repeated.

use std::collections::HashSet;

/// Rows that can be looked up by their hashes and taken once each. Takes 17 bytes a row.
#[derive(Debug)]
pub(crate) struct Matching {
    /// Pairs of hash and row, sorted.
    rows: Vec<(u64, u64)>,
    taken: Vec<bool>,
    /// The row after the last one that was taken in order.
    next: u64,
    /// Hashes of which no row is left, so that they are not searched for again.
    exhausted: HashSet<u64>,
}

impl Matching {
    /// Takes pairs of hash and row, in any order.
    pub(crate) fn new(mut rows: Vec<(u64, u64)>) -> Self {
        rows.sort_unstable();
        let taken = vec![false; rows.len()];
        Self { rows, taken, next: 0, exhausted: HashSet::new() }
    }

    /// Takes the next row with this hash, or, if there is none, the first one that was passed over.
    pub(crate) fn take(&mut self, hash: u64) -> Option<u64> {
        // All rows taken so far are before `next`.
        let ahead = self.rows.partition_point(|row| *row < (hash, self.next));
        if let Some((found, row)) = self.rows.get(ahead)
            && *found == hash
        {
            self.taken[ahead] = true;
            self.next = row + 1;
            return Some(*row);
        }
        if self.exhausted.contains(&hash) {
            return None;
        }
        let first = self.rows.partition_point(|row| row.0 < hash);
        let passed = (first..ahead).find(|place| !self.taken[*place]);
        match passed {
            Some(place) => self.taken[place] = true,
            None => drop(self.exhausted.insert(hash)),
        }
        passed.map(|place| self.rows[place].1)
    }

    /// Takes the first row with this hash that is left, so that the k-th request gets the k-th row. Must not be mixed
    /// with [`Self::take`].
    pub(crate) fn take_first(&mut self, hash: u64) -> Option<u64> {
        let first = self.rows.partition_point(|row| row.0 < hash);
        let end = first + self.rows[first..].partition_point(|row| row.0 == hash);
        let place = first + self.taken[first..end].partition_point(|taken| *taken);
        *self.taken[..end].get_mut(place)? = true;
        Some(self.rows[place].1)
    }

    /// Whether any row has this hash, whether taken or not.
    pub(crate) fn knows(&self, hash: u64) -> bool {
        let first = self.rows.partition_point(|row| row.0 < hash);
        self.rows.get(first).is_some_and(|row| row.0 == hash)
    }

    /// The rows that have not been taken, ascending.
    pub(crate) fn left(&self) -> Vec<u64> {
        let rows = self.rows.iter().zip(&self.taken).filter(|(_, taken)| !**taken);
        let mut left: Vec<u64> = rows.map(|((_, row), _)| *row).collect();
        left.sort_unstable();
        left
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matching(hashes: &[u64]) -> Matching {
        Matching::new(hashes.iter().copied().zip(0..).collect())
    }

    #[test]
    fn the_kth_of_equal_rows_is_matched_with_the_kth() {
        let mut rows = matching(&[7, 5, 7, 7]);
        assert_eq!([7, 7, 7, 7].map(|hash| rows.take(hash)), [Some(0), Some(2), Some(3), None]);
        assert_eq!(rows.left(), [1]);
        assert!(rows.knows(7) && !rows.knows(6));
    }

    #[test]
    fn the_first_left_is_taken_whatever_came_before() {
        let mut rows = matching(&[7, 5, 7, 9]);
        assert_eq!(
            [9, 7, 7, 7, 6].map(|hash| rows.take_first(hash)),
            [Some(3), Some(0), Some(2), None, None]
        );
    }

    #[test]
    fn rows_in_another_order_are_found_all_the_same() {
        let mut rows = matching(&[1, 2, 3, 1]);
        assert_eq!([3, 1, 1, 2].map(|hash| rows.take(hash)), [Some(2), Some(3), Some(0), Some(1)]);
    }

    proptest! {
        #[test]
        fn as_many_are_matched_as_both_lists_hold_and_none_twice(
            rows in proptest::collection::vec(0_u64..6, 0..30),
            wanted in proptest::collection::vec(0_u64..6, 0..30),
        ) {
            let mut matching = matching(&rows);
            let mut taken: Vec<u64> = wanted.iter().filter_map(|hash| {
                let row = matching.take(*hash)?;
                assert_eq!(rows[row as usize], *hash);
                Some(row)
            }).collect();
            let count = |list: &[u64], hash| list.iter().filter(|other| **other == hash).count();
            let expected: usize = (0..6).map(|hash| count(&rows, hash).min(count(&wanted, hash))).sum();
            prop_assert_eq!(taken.len(), expected);
            taken.extend(matching.left());
            taken.sort_unstable();
            prop_assert_eq!(taken, (0..rows.len() as u64).collect::<Vec<_>>());
        }
    }
}
