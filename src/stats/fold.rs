//! The figures of all sessions of a journal: those read back, then those made live. Not the figures themselves.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize as _;

use super::{AttemptView, Course, LimitedTimes, OutcomeView, Stats, Tried};
use crate::call::CANCELLED;
use crate::journal::{Record, Recorded, RecordedAttempt, Verdict};
use crate::row::{CUT_OFF, Outcome};

/// Which class each row failed with last, at one byte a row, so that a row counts once however often it is tried.
#[derive(Debug, Default)]
struct LatestFailures {
    start: u64,
    /// 0 for none, else 1 + the index of the class; what does not fit in a byte shares the last one.
    rows: Vec<u8>,
    classes: Vec<Arc<str>>,
}

impl LatestFailures {
    fn new(selection: &Range<u64>) -> Self {
        let rows = vec![0; (selection.end - selection.start) as usize];
        Self { start: selection.start, rows, classes: Vec::new() }
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
    /// What the session's rows without an outcome have tried.
    tried: HashMap<u64, Box<Tried>>,
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
        Self { failures: LatestFailures::new(selection), ..Self::default() }
    }

    /// Takes in one record of a journal.
    pub fn recovered(&mut self, record: &Record<'_>) {
        match record {
            Record::Header(header) => {
                self.close_session();
                self.calls = header.calls();
            }
            Record::Started(rows) => self.open += rows.len() as u64,
            Record::Attempt(attempt) => {
                // Its row's way has ended with it.
                let is_last = [CANCELLED, "bridge"].contains(&&*attempt.class);
                self.open = self.open.saturating_sub(is_last.into());
                self.attempt(attempt);
            }
            Record::Outcome(recorded) => self.recovered_outcome(recorded),
            Record::Gone(gone) => self.stats.add_gone(gone),
            Record::End(end) => {
                self.session_most = end.totals["most_in_flight"].as_u64().unwrap_or_default();
                self.session_limited =
                    LimitedTimes::deserialize(&end.totals["limited_s"]).unwrap_or_default();
                self.ended = true;
            }
        }
    }

    fn recovered_outcome(&mut self, recorded: &Recorded<'_>) {
        let errors: Vec<Arc<str>> = recorded.errors.iter().map(|class| Arc::from(&**class)).collect();
        let (failure, message, status, first_chunk, cut_off) = match &recorded.result {
            Verdict::Ok { first_chunk_ns, finish_reason, .. } => {
                let cut_off = finish_reason.as_deref() == Some(CUT_OFF);
                (None, "", None, first_chunk_ns.map(Duration::from_nanos), cut_off)
            }
            Verdict::Failed { class, message, status, .. } => {
                (Some(Arc::from(&**class)), &**message, *status, None, false)
            }
        };
        let view = OutcomeView {
            failure,
            message: message.to_owned().into(),
            status,
            attempts: recorded.attempts,
            errors: Cow::Owned(errors),
            abandoned: recorded.abandoned,
            unanswered: recorded.unanswered,
            usage: recorded.usage,
            timing: recorded.timing,
            first_chunk,
            cut_off,
            supersedes: None,
            tried: None,
        };
        self.open = self.open.saturating_sub((recorded.attempts > 0).into());
        self.record(recorded.row, view);
    }

    /// Takes in one outcome of this session, once it is recorded.
    pub fn live(&mut self, outcome: &Outcome) {
        self.record(outcome.row, OutcomeView::from(outcome));
    }

    /// Takes in a failed attempt of a row without an outcome, recorded in this session or read back.
    pub fn attempt(&mut self, attempt: &RecordedAttempt<'_>) {
        let view = AttemptView {
            row: attempt.row,
            number: attempt.number,
            class: &attempt.class,
            message: attempt.message.as_deref(),
            status: attempt.status,
            from: self.course.in_session(Duration::from_nanos(attempt.began_ns)),
            to: self.course.in_session(Duration::from_nanos(attempt.ended_ns)),
            abandoned: attempt.abandoned,
            unanswered: attempt.unanswered,
            usage: attempt.usage,
        };
        self.session_wall = self.session_wall.max(Duration::from_nanos(attempt.ended_ns));
        self.stats.record_attempt(&view);
        self.course.record_attempt(&view);
        self.tried.entry(attempt.row).or_default().add(&view);
    }

    fn record(&mut self, row: u64, mut view: OutcomeView<'_>) {
        if !self.tried.is_empty() {
            view.tried = self.tried.remove(&row);
        }
        view.supersedes = self.failures.replace(row, view.failure.as_ref());
        // The last outcome or failed attempt of a session, ended in order or killed, tells how long it took.
        self.session_wall = self.session_wall.max(view.timing.recorded);
        self.stats.record(&view);
        self.course.record(row, &view);
    }

    /// The session read back still goes on: its calls in flight will tell.
    pub fn goes_on(&mut self) {
        self.open = 0;
    }

    /// Ends a session: its wall time and its most calls in flight count.
    pub fn close_session(&mut self) {
        self.tried.clear();
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

    #[test]
    fn a_rows_latest_failure_is_given_back_once() {
        let mut failures = LatestFailures::new(&(10..20));
        let (timeout, value): (Arc<str>, Arc<str>) = ("timeout".into(), "ValueError".into());
        assert_eq!(failures.replace(12, Some(&timeout)), None);
        assert_eq!(failures.replace(12, Some(&value)), Some(timeout));
        assert_eq!(failures.replace(12, None), Some(value));
        assert_eq!(failures.replace(12, None), None);
        assert_eq!(failures.replace(99, None), None);
    }

    #[test]
    fn a_session_lasts_to_its_last_attempt_and_was_limited_no_longer() {
        let attempt = RecordedAttempt {
            row: 12,
            number: 1,
            class: "timeout".into(),
            message: None,
            status: None,
            began_ns: 1_000_000_000,
            ended_ns: 3_000_000_000,
            abandoned: 0,
            unanswered: 0,
            usage: None,
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
        let mut failures = LatestFailures::new(&(0..400));
        for row in 0..400 {
            failures.replace(row, Some(&format!("E{row}").into()));
        }
        assert_eq!(failures.replace(0, None).as_deref(), Some("E0"));
        assert_eq!(failures.replace(399, None).as_deref(), Some("E254"));
    }
}
