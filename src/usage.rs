//! What calls use: tokens, requests and money, for one attempt or summed over many.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Tokens and requests a call used, as the predictor reported them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Prompt tokens.
    pub input: u64,
    /// Completion tokens.
    pub output: u64,
    /// Requests to the model.
    pub calls: u64,
    /// US dollars, if a price is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
}

impl Usage {
    /// Prompt and completion tokens together.
    pub fn tokens(&self) -> u64 {
        self.input.saturating_add(self.output)
    }
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.input = self.input.saturating_add(other.input);
        self.output = self.output.saturating_add(other.output);
        self.calls = self.calls.saturating_add(other.calls);
        self.cost_usd = match (self.cost_usd, other.cost_usd) {
            (Some(a), Some(b)) => Some(a + b),
            (one, None) | (None, one) => one,
        };
    }
}

impl std::ops::Sub for Usage {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            input: self.input.saturating_sub(other.input),
            output: self.output.saturating_sub(other.output),
            calls: self.calls.saturating_sub(other.calls),
            cost_usd: self.cost_usd.map(|cost| (cost - other.cost_usd.unwrap_or_default()).max(0.0)),
        }
    }
}

/// Sums over many attempts: those of a run, or of the rows that have been removed from its input.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Spent {
    /// Calls handed to the bridge.
    pub attempts: u64,
    /// Attempts after the first of a row in its session.
    pub retries: u64,
    /// Attempts that timed out.
    pub timeouts: u64,
    /// Attempts that ignored their cancellation and kept running.
    pub abandoned: u64,
    /// Failed attempts by class.
    pub by_error: ClassCounts,
    /// Failed attempts by the server's HTTP status, if there was one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub by_status: BTreeMap<u16, u64>,
    /// What the attempts used, as far as they told. The cost is the sum of those that are known.
    pub usage: Usage,
    /// Attempts that may be billed for more than they told.
    pub untold: u64,
    /// Calls that may have been in flight when a session died, in addition to the attempts. What became of them is
    /// unknown.
    pub lost: u64,
}

impl Spent {
    /// All calls, including those lost when the process died.
    pub fn calls(&self) -> u64 {
        self.attempts + self.lost
    }

    /// Calls that may be billed for more than is known.
    pub fn unknown(&self) -> u64 {
        self.untold + self.lost
    }

    /// What was spent in excess of what `kept` counts of the same sessions; none if nothing was.
    #[must_use]
    pub fn beyond(&self, kept: &Self) -> Option<Self> {
        let by_status = self.by_status.iter().map(|(status, count)| {
            (*status, count.saturating_sub(kept.by_status.get(status).copied().unwrap_or_default()))
        });
        let beyond = Self {
            attempts: self.attempts.saturating_sub(kept.attempts),
            retries: self.retries.saturating_sub(kept.retries),
            timeouts: self.timeouts.saturating_sub(kept.timeouts),
            abandoned: self.abandoned.saturating_sub(kept.abandoned),
            by_error: self.by_error.beyond(&kept.by_error),
            by_status: by_status.filter(|(_, count)| *count > 0).collect(),
            usage: self.usage - kept.usage,
            untold: self.untold.saturating_sub(kept.untold),
            lost: self.lost.saturating_sub(kept.lost),
        };
        (beyond.calls() > 0).then_some(beyond)
    }
}

impl std::ops::AddAssign<&Self> for Spent {
    fn add_assign(&mut self, other: &Self) {
        self.attempts += other.attempts;
        self.retries += other.retries;
        self.timeouts += other.timeouts;
        self.abandoned += other.abandoned;
        for (class, count) in &other.by_error.0 {
            self.by_error.add_many(class, *count);
        }
        for (status, count) in &other.by_status {
            *self.by_status.entry(*status).or_default() += count;
        }
        self.usage += other.usage;
        self.untold += other.untold;
        self.lost += other.lost;
    }
}

/// This many classes are counted by name, the rest as [`OTHER`].
const MOST_CLASSES: usize = 100;
/// Counts the classes beyond the first hundred.
const OTHER: &str = "other";

/// How often each error class occurred. In JSON this is an object of class to count.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClassCounts(BTreeMap<Arc<str>, u64>);

impl ClassCounts {
    /// Counts one more of the class.
    pub fn add(&mut self, class: &str) {
        self.add_many(class, 1);
    }

    /// Counts `more` of the class.
    pub fn add_many(&mut self, class: &str, more: u64) {
        if let Some(count) = self.0.get_mut(class) {
            *count += more;
        } else {
            let name = if self.0.len() < MOST_CLASSES { class } else { OTHER };
            *self.0.entry(name.into()).or_default() += more;
        }
    }

    /// What is counted here in excess of other counts.
    #[must_use]
    pub fn beyond(&self, other: &Self) -> Self {
        let beyond = self.0.iter().map(|(class, count)| (class, count.saturating_sub(other.get(class))));
        Self(
            beyond.filter(|(_, count)| *count > 0).map(|(class, count)| (Arc::clone(class), count)).collect(),
        )
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
