//! The figures of all sessions of a journal: those read back, then those made live. Not the figures themselves.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize as _;

use super::{Course, LimitedTimes, Stats};
use crate::error::{BRIDGE, CANCELLED};
use crate::journal::Record;
use crate::outcome::{FailedAttempt, Outcome};

/// Which class each row failed with last, at one byte a row, so that a row counts once however often it is tried.
#[derive(Debug, Default)]
struct LatestFailures {
    start: u64,
    /// 0 for none, else 1 + the index of the class; what does not fit in a byte shares the last one.
    rows: Vec<u8>,
    classes: Vec<Arc<str>>,
}

impl LatestFailures {
    /// Makes room for the rows of a selection.
    fn cover(&mut self, selection: &Range<u64>) {
        if self.rows.is_empty() {
            self.start = selection.start;
        }
        let before = self.start.saturating_sub(selection.start);
        self.rows.splice(0..0, std::iter::repeat_n(0, before as usize));
        self.start -= before;
        let rows = self.rows.len().max((selection.end - self.start) as usize);
        self.rows.resize(rows, 0);
    }

    /// Notes the row's latest failure, or that it has none now; returns the one it had.
    fn replace(&mut self, row: u64, class: Option<&Arc<str>>) -> Option<Arc<str>> {
        let id = class.map_or(0, |class| self.id(class));
        let slot = row.checked_sub(self.start).and_then(|at| self.rows.get_mut(at as usize))?;
        let before = std::mem::replace(slot, id);
        self.classes.get(usize::from(before).checked_sub(1)?).cloned()
    }

    fn id(&mut self, class: &Arc<str>) -> u8 {
        let known = self.classes.iter().position(|known| known == class).unwrap_or_else(|| {
            if self.classes.len() < usize::from(u8::MAX) {
                self.classes.push(Arc::clone(class));
            }
            self.classes.len() - 1
        });
        known as u8 + 1
    }
}

/// Folds the outcomes of a run's sessions into one [`Stats`].
#[derive(Debug, Default)]
pub struct Fold {
    /// The figures so far.
    pub stats: Stats,
    /// How they came about over time.
    pub course: Course,
    failures: LatestFailures,
    /// Rows of the session read back that it had started and that may have a call in flight.
    open: u64,
    /// The session read back has an end, which may stand before its rows.
    ended: bool,
    /// Calls in flight at most in the session read back.
    calls: Option<u64>,
    session_wall: Duration,
    session_most: u64,
    session_limited: LimitedTimes,
    /// For how long the live session was limited.
    pub live_limited: LimitedTimes,
}

impl Fold {
    /// For the rows of a selection.
    pub fn new(selection: &Range<u64>) -> Self {
        let mut fold = Self::default();
        fold.cover(selection);
        fold
    }

    /// Takes in that a session's rows are these.
    pub fn cover(&mut self, selection: &Range<u64>) {
        self.failures.cover(selection);
    }

    /// Takes in one record of a journal.
    pub fn recovered(&mut self, record: &Record<'_>) {
        match record {
            Record::Header(header) => {
                self.close_session();
                self.calls = header.calls();
                self.cover(&header.selection);
            }
            Record::Started(rows) => self.open += rows.len() as u64,
            Record::Attempt(attempt) => {
                // Its row's way has ended with it.
                let is_last = [CANCELLED, BRIDGE].contains(&&*attempt.failure.class);
                self.open = self.open.saturating_sub(is_last.into());
                self.attempt(attempt);
            }
            Record::Outcome(outcome) => {
                self.open = self.open.saturating_sub((outcome.attempts > 0).into());
                self.outcome(outcome);
            }
            Record::Gone(spent) => self.stats.add_spent(spent),
            Record::End(end) => {
                self.session_most = end.totals["most_in_flight"].as_u64().unwrap_or_default();
                self.session_limited =
                    LimitedTimes::deserialize(&end.totals["limited_s"]).unwrap_or_default();
                self.ended = true;
            }
        }
    }

    /// Takes in a failed attempt of a row without an outcome, recorded in this session or read back.
    pub fn attempt(&mut self, attempt: &FailedAttempt) {
        self.session_wall = self.session_wall.max(attempt.ended);
        self.stats.attempt(attempt);
        self.course.attempt(attempt);
    }

    /// Takes in one outcome, recorded in this session or read back.
    pub fn outcome(&mut self, outcome: &Outcome) {
        let class = outcome.failure().map(|failure| &failure.class);
        let superseded = self.failures.replace(outcome.row, class);
        // The last outcome or failed attempt of a session, ended in order or killed, tells how long it took.
        self.session_wall = self.session_wall.max(outcome.timing.recorded);
        self.stats.outcome(outcome, superseded.as_deref());
        self.course.outcome(outcome);
    }

    /// The session read back still goes on: its calls in flight will tell.
    pub fn goes_on(&mut self) {
        self.open = 0;
    }

    /// Ends a session: its wall time and its most calls in flight count.
    pub fn close_session(&mut self) {
        let open = if std::mem::take(&mut self.ended) { 0 } else { self.open };
        self.open = 0;
        self.stats.add_lost(open.min(self.calls.unwrap_or(open)));
        let (wall, most) = (std::mem::take(&mut self.session_wall), std::mem::take(&mut self.session_most));
        self.stats.add_session(wall, most);
        self.course.close_session(wall);
        self.stats.add_limited(std::mem::take(&mut self.session_limited).at_most(wall));
    }

    /// Ends the live session.
    pub fn close_live_session(&mut self, most_in_flight: u64, limited: LimitedTimes) {
        (self.session_most, self.session_limited, self.live_limited) = (most_in_flight, limited, limited);
        self.close_session();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::CallError;

    #[test]
    fn a_rows_latest_failure_is_given_back_once() {
        let mut failures = LatestFailures::default();
        failures.cover(&(10..20));
        let (timeout, value): (Arc<str>, Arc<str>) = ("timeout".into(), "ValueError".into());
        assert_eq!(failures.replace(12, Some(&timeout)), None);
        assert_eq!(failures.replace(12, Some(&value)), Some(timeout));
        assert_eq!(failures.replace(12, None), Some(value));
        assert_eq!(failures.replace(12, None), None);
        assert_eq!(failures.replace(99, None), None);
    }

    #[test]
    fn a_session_lasts_to_its_last_attempt_and_was_limited_no_longer() {
        let attempt = FailedAttempt {
            row: 12,
            number: 1,
            began: Duration::from_secs(1),
            ended: Duration::from_secs(3),
            abandoned: false,
            failure: CallError::Timeout(Duration::from_secs(2)).into(),
        };
        let mut fold = Fold::new(&(10..20));
        fold.attempt(&attempt);
        let limited = LimitedTimes { outage: 9.0, ..LimitedTimes::default() };
        fold.close_live_session(1, limited);
        let seconds = |seconds| Duration::from_secs(seconds);
        assert_eq!((fold.stats.wall(), fold.course.length()), (seconds(3), seconds(3)));
        assert_eq!((fold.stats.limited().outage, fold.stats.sessions()), (3.0, 1));
        assert!((fold.stats.mean_in_flight() - 2.0 / 3.0).abs() < 1e-9, "{}", fold.stats.mean_in_flight());
    }

    #[test]
    fn more_classes_than_a_byte_holds_share_the_last() {
        let mut failures = LatestFailures::default();
        failures.cover(&(0..400));
        for row in 0..400 {
            failures.replace(row, Some(&format!("E{row}").into()));
        }
        assert_eq!(failures.replace(0, None).as_deref(), Some("E0"));
        assert_eq!(failures.replace(399, None).as_deref(), Some("E254"));
    }
}
