//! The predictor's field names, in order of first appearance among the input's rows whatever order the rows end in.

use std::collections::HashMap;

/// Field names, each with the first place where it was seen.
#[derive(Debug, Clone, Default)]
pub struct Fields(HashMap<Box<str>, Place>);

/// Row id, then position within its answer.
type Place = (u64, usize);

impl Fields {
    /// Adds the fields of one answer.
    pub(super) fn see<'a>(&mut self, row: u64, names: impl IntoIterator<Item = &'a str>) {
        for (position, name) in names.into_iter().enumerate() {
            let place = (row, position);
            match self.0.get_mut(name) {
                Some(first) => *first = place.min(*first),
                None => {
                    self.0.insert(name.into(), place);
                }
            }
        }
    }

    /// The names asked for, in that order; all names if none is asked for.
    #[must_use]
    pub fn only(&self, asked: &[String]) -> Self {
        if asked.is_empty() {
            return self.clone();
        }
        Self(asked.iter().enumerate().map(|(position, name)| (name.as_str().into(), (0, position))).collect())
    }

    /// The names in order.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<(Place, &str)> = self.0.iter().map(|(name, place)| (*place, &**name)).collect();
        names.sort_unstable();
        names.into_iter().map(|(_, name)| name).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_order_is_that_of_the_rows_not_of_completion() {
        let mut fields = Fields::default();
        fields.see(5, ["late", "answer"]);
        fields.see(2, ["reasoning", "answer"]);
        assert_eq!(fields.names(), ["reasoning", "answer", "late"]);
    }

    #[test]
    fn names_asked_for_stand_in_their_own_order_whatever_was_seen() {
        let mut fields = Fields::default();
        fields.see(2, ["reasoning", "answer"]);
        let asked = ["answer", "finish_reason"].map(str::to_owned);
        assert_eq!(fields.only(&asked).names(), asked);
        assert_eq!(fields.only(&[]).names(), fields.names());
    }

    proptest! {
        #[test]
        fn any_order_of_completion_gives_the_same_names(
            answers in proptest::collection::vec(proptest::sample::subsequence(vec!["a", "b", "c", "d", "e"], 0..5), 0..8),
            rotation in 0_usize..8,
        ) {
            let mut forward = Fields::default();
            let mut backward = Fields::default();
            let mut rows: Vec<_> = answers.iter().enumerate().collect();
            for (row, names) in &rows {
                forward.see(*row as u64, names.iter().copied());
            }
            rows.reverse();
            let middle = rotation.min(rows.len());
            rows.rotate_left(middle);
            for (row, names) in &rows {
                backward.see(*row as u64, names.iter().copied());
            }
            prop_assert_eq!(forward.names(), backward.names());
        }
    }
}
