//! The attempts that are known of rows without an outcome, so that their outcomes count none again. Not the counts.

use std::time::Duration;

use crate::call::may_be_billed;
use crate::row::Usage;

/// So many attempts of a row have their times kept.
const MOST_SPANS: usize = 50;

/// One row's failed attempts in the session that is going on, as far as they were told of one by one.
#[derive(Debug, Clone, Default)]
pub struct Tried {
    /// How many.
    pub attempts: u32,
    /// Those that were not the row's first in the session.
    pub retries: u32,
    /// Those that ignored their cancellation.
    pub abandoned: u32,
    /// Those with a request whose reply never came.
    pub unanswered: u32,
    /// What they told that they used.
    pub usage: Usage,
    /// How long they ran, summed.
    pub running: Duration,
    /// When each began and ended, on the run's time; not of all where there are many.
    pub spans: Vec<(Duration, Duration)>,
}

impl Tried {
    /// One more attempt.
    pub(super) fn add(&mut self, attempt: &AttemptView<'_>) {
        self.attempts += 1;
        self.retries += u32::from(attempt.number > 1);
        self.abandoned += attempt.abandoned;
        self.unanswered += attempt.unanswered;
        self.usage += attempt.usage.unwrap_or_default();
        self.running += attempt.to.saturating_sub(attempt.from);
        if self.spans.len() < MOST_SPANS {
            self.spans.push((attempt.from, attempt.to));
        }
    }
}

/// What one failed attempt adds to the figures before its row has an outcome.
#[derive(Debug)]
pub struct AttemptView<'a> {
    /// The row.
    pub row: u64,
    /// From 1 in each session.
    pub number: u32,
    /// Its error's class.
    pub class: &'a str,
    /// The beginning of its error's text, where that is recorded.
    pub message: Option<&'a str>,
    /// The HTTP status that the server answered with.
    pub status: Option<u16>,
    /// When it began, on the run's time.
    pub from: Duration,
    /// When it ended, on the run's time.
    pub to: Duration,
    /// 1 where it ignored its cancellation.
    pub abandoned: u32,
    /// 1 where a request of it went out whose reply never came.
    pub unanswered: u32,
    /// What it told that it used.
    pub usage: Option<Usage>,
}

impl AttemptView<'_> {
    /// Whether it may be billed for more than it told of.
    pub(super) fn is_untold(&self) -> bool {
        self.unanswered > 0 || self.usage.is_none() && may_be_billed(self.class)
    }
}
