//! Guards that stop a run whose rows keep failing.

use serde::{Deserialize, Serialize};
use std::sync::Arc;

use super::stop::StopReason;
use crate::error::{Failure, FailureKind};
use crate::outcome::Outcome;

/// A predictor counts as broken if this many first rows all fail with the same class. A percentage of failures is
/// applied from this many finished rows on.
pub(crate) const FIRST_ROWS: u64 = 20;
/// If this many consecutive rows get a 403 although others were answered before, the cause is not the rows.
const FORBIDDEN_ROWS: u64 = 20;

/// `--max-failures`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MaxFailures {
    /// This many rows.
    Rows(u64),
    /// This percentage of the finished rows, applied from [`FIRST_ROWS`] on. 100 turns both guards off.
    Percent(f64),
}

impl std::str::FromStr for MaxFailures {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let expected = || format!("`{text}` is neither a number of rows nor a percentage such as `5%`");
        match text.strip_suffix('%') {
            Some(percent) => match percent.trim().parse::<f64>() {
                Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(Self::Percent(percent)),
                _ => Err(expected()),
            },
            None => text.trim().parse().map(Self::Rows).map_err(|_| expected()),
        }
    }
}

/// Counts outcomes and decides when to stop.
#[derive(Debug)]
pub(crate) struct Limits {
    max_failures: Option<MaxFailures>,
    finished: u64,
    failed: u64,
    /// The class with which all called rows have failed so far.
    alike: Option<Arc<str>>,
    /// How many rows failed with it.
    alike_rows: u64,
    /// Whether rows failed with different classes, or one was answered.
    mixed: bool,
    /// Whether any call of the job has been answered.
    answered: bool,
    /// Consecutive rows that got a 403.
    forbidden: u64,
}

/// What a 403 is put down to: the row, whose prompt may have been moderated, or the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    /// The row.
    Row,
    /// Unknown, as long as no call has been answered.
    Unknown,
    /// The key: every row would get it.
    Everybody,
}

impl Limits {
    /// The guards for this `--max-failures`; without it, only the guard against a broken predictor.
    pub(crate) fn new(max_failures: Option<MaxFailures>) -> Self {
        let mixed = max_failures == Some(MaxFailures::Percent(100.0));
        Self {
            max_failures,
            finished: 0,
            failed: 0,
            alike: None,
            alike_rows: 0,
            mixed,
            answered: false,
            forbidden: 0,
        }
    }

    /// Counts the rows that earlier sessions answered as the first and as finished. Otherwise rows that failed before,
    /// which are run again first and often fail again, would stop the session.
    #[must_use]
    pub(crate) fn resuming(mut self, answered: u64) -> Self {
        self.finished += answered;
        self.mixed |= answered > 0;
        self.answered |= answered > 0;
        self
    }

    /// Decides what a 403 is put down to. Must be called for every outcome, before it is recorded. Rows that failed in
    /// an earlier session do not count as evidence against the key: `resume` calls them one after the other, and must
    /// get to the rows after them.
    pub(crate) fn forbidden(&mut self, outcome: &Outcome, failed_before: bool) -> Whose {
        match &outcome.result {
            Err(failure) if failure.kind == FailureKind::Forbidden => {
                self.forbidden += u64::from(!failed_before);
                match self.answered {
                    false => Whose::Unknown,
                    true if self.forbidden >= FORBIDDEN_ROWS => Whose::Everybody,
                    true => Whose::Row,
                }
            }
            result => {
                // A reply that was paid for is an answer, even if it could not be parsed.
                self.answered |= result.is_ok() || outcome.usage().is_some();
                if outcome.attempts > 0 {
                    self.forbidden = 0;
                }
                Whose::Row
            }
        }
    }

    /// Whether any call of the job has been answered.
    pub(crate) fn is_answered(&self) -> bool {
        self.answered
    }

    /// Counts an outcome. Returns a reason if the run is to stop.
    pub(crate) fn observe(&mut self, outcome: &Outcome) -> Option<StopReason> {
        self.finished += 1;
        let Some(failure) = outcome.failure() else {
            self.mixed = true;
            return self.share_of_failures();
        };
        self.failed += 1;
        // A row that was never called says nothing about the predictor.
        let broken = if self.mixed || outcome.attempts == 0 { None } else { self.broken(failure) };
        broken.or_else(|| self.share_of_failures())
    }

    fn broken(&mut self, failure: &Failure) -> Option<StopReason> {
        let class = Arc::clone(&failure.class);
        if self.alike.as_ref().is_some_and(|alike| *alike != class) {
            self.mixed = true;
            return None;
        }
        self.alike = Some(Arc::clone(&class));
        self.alike_rows += 1;
        if self.alike_rows < FIRST_ROWS {
            return None;
        }
        let at = failure.raised_at().map(|at| format!(" ({at})"));
        let error = format!("{failure}{}", at.unwrap_or_default());
        Some(StopReason::Broken { rows: self.alike_rows, class, error })
    }

    fn share_of_failures(&self) -> Option<StopReason> {
        let over = match self.max_failures? {
            MaxFailures::Rows(rows) => self.failed > 0 && self.failed >= rows,
            MaxFailures::Percent(percent) => {
                percent < 100.0
                    && self.finished >= FIRST_ROWS
                    && self.failed as f64 * 100.0 > percent * self.finished as f64
            }
        };
        over.then_some(StopReason::MaxFailures { failed: self.failed, finished: self.finished })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Answer;
    use crate::row::RowHash;

    fn outcome(result: Result<Answer, Failure>) -> Outcome {
        Outcome::new(0, RowHash(0), result)
    }

    fn answered() -> Outcome {
        outcome(Ok(Answer::default()))
    }

    fn failed(class: &str, kind: FailureKind) -> Outcome {
        let traceback = Some("q.py:3 in predict: return nmae".to_owned());
        outcome(Err(Failure { traceback, ..Failure::new(class, kind, "text") }))
    }

    #[test]
    fn twenty_first_rows_that_fail_alike_stop_the_run_and_show_the_line() {
        let mut limits = Limits::new(None);
        for _ in 0..19 {
            assert_eq!(limits.observe(&failed("NameError", FailureKind::Permanent)), None);
        }
        let reason = limits.observe(&failed("NameError", FailureKind::Permanent)).unwrap();
        assert!(reason.to_string().contains("q.py:3 in predict: return nmae"), "{reason}");
    }

    #[test]
    fn one_answer_or_another_class_among_them_does_not() {
        let mut limits = Limits::new(None);
        limits.observe(&answered());
        assert!((0..100).all(|_| limits.observe(&failed("NameError", FailureKind::Permanent)).is_none()));
        let mut limits = Limits::new(None);
        limits.observe(&failed("KeyError", FailureKind::Permanent));
        assert!((0..100).all(|_| limits.observe(&failed("NameError", FailureKind::Permanent)).is_none()));
    }

    #[test]
    fn rows_that_earlier_sessions_answered_are_the_first_and_finished() {
        let mut limits = Limits::new(Some("10%".parse().unwrap())).resuming(1000);
        assert!((0..100).all(|_| limits.observe(&failed("NameError", FailureKind::Permanent)).is_none()));
        let mut limits = Limits::new(None).resuming(0);
        assert!((0..20).any(|_| limits.observe(&failed("NameError", FailureKind::Permanent)).is_some()));
    }

    #[test]
    fn a_403_is_the_rows_own_once_a_call_was_answered_unless_many_rows_in_a_row_get_it() {
        let forbidden = || failed("PermissionDeniedError", FailureKind::Forbidden);
        let mut limits = Limits::new(None);
        assert_eq!(limits.forbidden(&forbidden(), false), Whose::Unknown);
        limits.forbidden(&failed("KeyError", FailureKind::Permanent), false);
        assert_eq!(limits.forbidden(&forbidden(), false), Whose::Unknown);
        limits.forbidden(&answered(), false);
        assert!((1..20).all(|_| limits.forbidden(&forbidden(), false) == Whose::Row));
        limits.forbidden(&answered(), false);
        assert!((1..20).all(|_| limits.forbidden(&forbidden(), false) == Whose::Row));
        assert_eq!(limits.forbidden(&forbidden(), false), Whose::Everybody);
        let mut resumed = Limits::new(None).resuming(1);
        assert_eq!(resumed.forbidden(&forbidden(), false), Whose::Row, "of the job: earlier sessions count");
        assert!((0..99).all(|_| resumed.forbidden(&forbidden(), true) == Whose::Row), "failed before");
    }

    #[test]
    fn rows_that_were_never_called_do_not_count_as_a_broken_predictor() {
        let never_called = Outcome { attempts: 0, ..failed("input", FailureKind::Permanent) };
        let mut limits = Limits::new(None);
        assert!((0..100).all(|_| limits.observe(&never_called).is_none()));
    }

    #[test]
    fn a_hundred_per_cent_turns_the_guards_off() {
        let mut limits = Limits::new(Some("100%".parse().unwrap()));
        assert!((0..100).all(|_| limits.observe(&failed("NameError", FailureKind::Permanent)).is_none()));
    }

    #[test]
    fn a_share_of_failures_counts_from_twenty_finished_rows_on() {
        let mut limits = Limits::new(Some("10%".parse().unwrap()));
        limits.observe(&failed("A", FailureKind::Permanent));
        limits.observe(&failed("B", FailureKind::Permanent));
        assert!((0..17).all(|_| limits.observe(&answered()).is_none()));
        assert_eq!(limits.observe(&answered()), None);
        let reason = limits.observe(&failed("A", FailureKind::Permanent));
        assert_eq!(reason, Some(StopReason::MaxFailures { failed: 3, finished: 21 }));
    }

    #[test]
    fn a_number_of_failures_counts_from_the_first() {
        let mut limits = Limits::new(Some("2".parse().unwrap()));
        assert_eq!(limits.observe(&failed("A", FailureKind::Permanent)), None);
        assert!(limits.observe(&failed("B", FailureKind::Permanent)).is_some());
    }
}
