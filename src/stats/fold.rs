//! Folds the sessions of a journal, and then a live session, into the figures and the course of a run.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize as _;

use super::course::Course;
use super::figures::Stats;
use super::row_bytes::RowBytes;
use super::times::LimitedTimes;
use super::versions::{PredictorVersion, Versions};
use crate::error::{BRIDGE, CANCELLED};
use crate::journal::{Header, Record};
use crate::outcome::{FailedAttempt, Outcome};

/// The class with which each row failed last, so that a row counts once however often it is called. Takes a byte a row.
#[derive(Debug, Default)]
struct LatestFailures {
    /// For each row 0 or, if it failed, 1 + the index of its class. Classes beyond the 255th share the last index.
    rows: RowBytes,
    classes: Vec<Arc<str>>,
}

impl LatestFailures {
    /// Sets the class with which a row failed, or `None` if it was answered. Returns the class before.
    fn replace(&mut self, row: u64, class: Option<&Arc<str>>) -> Option<Arc<str>> {
        let id = class.map_or(0, |class| self.id(class));
        let before = self.rows.replace(row, id);
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

/// The figures and the course of a run over all its sessions.
#[derive(Debug, Default)]
pub struct Fold {
    /// The figures so far.
    pub stats: Stats,
    /// The same over time.
    pub course: Course,
    failures: LatestFailures,
    versions: Versions,
    /// In the session being read back: rows that were started and may have a call in flight.
    open: u64,
    /// Whether the session being read back has an end, which may be recorded before its last rows.
    ended: bool,
    /// The concurrency of the session being read back.
    calls: Option<u64>,
    session_wall: Duration,
    session_most: u64,
    session_limited: LimitedTimes,
    /// For how long the live session was limited.
    pub live_limited: LimitedTimes,
}

impl Fold {
    /// No figures yet, and room for the rows of a selection.
    pub fn new(selection: &Range<u64>) -> Self {
        let mut fold = Self::default();
        fold.cover(selection);
        fold
    }

    /// Makes room for the rows of another selection.
    pub fn cover(&mut self, selection: &Range<u64>) {
        self.failures.rows.cover(selection);
        self.versions.cover(selection);
    }

    /// Takes in that a session starts, under the version of the predictor that its header tells of.
    pub fn begin(&mut self, header: &Header) {
        self.cover(&header.selection);
        self.versions.begin(header);
    }

    /// The versions of the predictor so far, each with the rows answered under it.
    pub fn versions(&self) -> Vec<PredictorVersion> {
        self.versions.told()
    }

    /// Adds a record that was read from a journal.
    pub fn recovered(&mut self, record: &Record<'_>) {
        match record {
            Record::Header(header) => {
                self.close_session();
                self.calls = header.calls();
                self.begin(header);
            }
            Record::Started(rows) => self.open += rows.len() as u64,
            Record::Attempt(attempt) => {
                // Such an attempt is the last of its row in the session.
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

    /// Adds a failed attempt that did not decide its row.
    pub fn attempt(&mut self, attempt: &FailedAttempt) {
        self.session_wall = self.session_wall.max(attempt.ended);
        self.stats.attempt(attempt);
        self.course.attempt(attempt);
    }

    /// Adds an outcome.
    pub fn outcome(&mut self, outcome: &Outcome) {
        let class = outcome.failure().map(|failure| &failure.class);
        let superseded = self.failures.replace(outcome.row, class);
        if class.is_none() {
            self.versions.answered(outcome.row);
        }
        // A session, even one that was killed, lasts until its last recorded outcome or failed attempt.
        self.session_wall = self.session_wall.max(outcome.timing.recorded);
        self.stats.outcome(outcome, superseded.as_deref());
        self.course.outcome(outcome);
    }

    /// Notes that the session read back is still running, so that its calls in flight are not lost.
    pub fn goes_on(&mut self) {
        self.open = 0;
    }

    /// Ends the current session.
    pub fn close_session(&mut self) {
        let open = if std::mem::take(&mut self.ended) { 0 } else { self.open };
        self.open = 0;
        self.stats.add_lost(open.min(self.calls.unwrap_or(open)));
        let (wall, most) = (std::mem::take(&mut self.session_wall), std::mem::take(&mut self.session_most));
        self.stats.add_session(wall, most);
        self.course.close_session(wall);
        self.stats.add_limited(std::mem::take(&mut self.session_limited).at_most(wall));
    }

    /// Ends the live session. `most_in_flight` is its greatest number of calls in flight.
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
        failures.rows.cover(&(10..20));
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
        failures.rows.cover(&(0..400));
        for row in 0..400 {
            failures.replace(row, Some(&format!("E{row}").into()));
        }
        assert_eq!(failures.replace(0, None).as_deref(), Some("E0"));
        assert_eq!(failures.replace(399, None).as_deref(), Some("E254"));
    }
}
