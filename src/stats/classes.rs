//! Counts by error class in bounded memory. Not for deciding anything: classes are names a predictor chose.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// So many classes are counted by name, the rest as [`OTHER`].
const MOST_CLASSES: usize = 100;
/// Where the classes beyond the first hundred are counted.
const OTHER: &str = "other";

/// How often each error class occurred; in JSON an object of class to count.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClassCounts(BTreeMap<Arc<str>, u64>);

impl ClassCounts {
    /// Counts one more of the class.
    pub fn add(&mut self, class: &str) {
        self.add_many(class, 1);
    }

    /// Counts so many more of the class.
    pub fn add_many(&mut self, class: &str, more: u64) {
        if let Some(count) = self.0.get_mut(class) {
            *count += more;
        } else {
            let name = if self.0.len() < MOST_CLASSES { class } else { OTHER };
            *self.0.entry(name.into()).or_default() += more;
        }
    }

    /// What is counted here beyond other counts.
    pub fn beyond(&self, other: &Self) -> BTreeMap<Arc<str>, u64> {
        let beyond = self.0.iter().map(|(class, count)| (class, count.saturating_sub(other.get(class))));
        beyond.filter(|(_, count)| *count > 0).map(|(class, count)| (Arc::clone(class), count)).collect()
    }

    /// Counts one less of the class, which was added before.
    pub fn remove(&mut self, class: &str) {
        let name = if self.0.contains_key(class) { class } else { OTHER };
        if let Some(count) = self.0.get_mut(name) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(name);
            }
        }
    }

    /// How often one class occurred.
    pub fn get(&self, class: &str) -> u64 {
        self.0.get(class).copied().unwrap_or_default()
    }

    /// How many were counted in all.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// The classes, most frequent first, then by name.
    pub fn most_frequent_first(&self) -> Vec<(&str, u64)> {
        let mut classes: Vec<_> = self.0.iter().map(|(class, &count)| (class.as_ref(), count)).collect();
        classes.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
        classes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_beyond_the_hundredth_are_counted_together() {
        let mut counts = ClassCounts::default();
        (0..1_000).for_each(|number| counts.add(&format!("Error{number}")));
        assert_eq!((counts.0.len(), counts.get(OTHER), counts.total()), (MOST_CLASSES + 1, 900, 1_000));
        counts.remove("Error7");
        counts.remove("Error777");
        assert_eq!((counts.get("Error7"), counts.get(OTHER), counts.total()), (0, 899, 998));
    }

    #[test]
    fn the_most_frequent_class_comes_first_and_equal_ones_by_name() {
        let mut counts = ClassCounts::default();
        for class in ["timeout", "output", "timeout", "input"] {
            counts.add(class);
        }
        assert_eq!(counts.most_frequent_first(), [("timeout", 2), ("input", 1), ("output", 1)]);
    }
}
