//! Folds the sessions of a journal, and then a live session, into the figures and the course of a run.

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
use crate::selection::Rows;
use crate::usage::ClassCounts;

/// The byte of an answered row, and that of one whose answer was cut off.
const ANSWERED: u8 = 1;
const CUT_OFF: u8 = 2;
/// The byte of a failed row is this plus the index of its class.
const FAILED: u8 = 3;

/// What decided each row: its answer, or else its latest failure. A row counts once, however often it is called. Takes
/// a byte a row.
#[derive(Debug, Default)]
struct Latest {
    rows: RowBytes,
    /// Classes that are too many for a byte share the last index.
    classes: Vec<Arc<str>>,
}

/// How many rows are answered, and how many failed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decided {
    /// Answered rows.
    pub ok: u64,
    /// Those whose answer was cut off at the model's token limit.
    pub cut_off: u64,
    /// Failed rows by the class of their error.
    pub failed: ClassCounts,
}

impl Latest {
    /// Takes in an outcome. Returns whether its row had failed before.
    fn replace(&mut self, outcome: &Outcome) -> bool {
        let byte = match &outcome.result {
            Ok(answer) if answer.is_cut_off() => CUT_OFF,
            Ok(_) => ANSWERED,
            Err(failure) => FAILED + self.index(&failure.class),
        };
        let before = self.rows.replace(outcome.row, byte);
        if byte >= FAILED && [ANSWERED, CUT_OFF].contains(&before) {
            self.rows.replace(outcome.row, before);
        }
        before >= FAILED
    }

    fn index(&mut self, class: &Arc<str>) -> u8 {
        let known = self.classes.iter().position(|known| known == class).unwrap_or_else(|| {
            if self.classes.len() <= usize::from(u8::MAX - FAILED) {
                self.classes.push(Arc::clone(class));
            }
            self.classes.len() - 1
        });
        known as u8
    }

    fn decided(&self, rows: &Rows) -> Decided {
        let mut counts = [0_u64; 1 << u8::BITS];
        self.rows.of(rows).iter().for_each(|byte| counts[usize::from(*byte)] += 1);
        let [_, answered, cut_off, failed @ ..] = counts;
        let mut decided = Decided { ok: answered + cut_off, cut_off, failed: ClassCounts::default() };
        for (class, failed) in self.classes.iter().zip(failed).filter(|(_, failed)| *failed > 0) {
            decided.failed.add_many(class, failed);
        }
        decided
    }
}

/// The figures and the course of a run over all its sessions.
#[derive(Debug, Default)]
pub struct Fold {
    /// The figures so far.
    pub stats: Stats,
    /// The same over time.
    pub course: Course,
    latest: Latest,
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
    pub fn new(selection: impl Into<Rows>) -> Self {
        let mut fold = Self::default();
        fold.cover(&selection.into());
        fold
    }

    /// Makes room for the rows of another selection.
    pub fn cover(&mut self, selection: &Rows) {
        self.latest.rows.cover(selection);
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

    /// How many of some rows are answered, and how many failed.
    pub fn decided(&self, rows: &Rows) -> Decided {
        self.latest.decided(rows)
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
        let failed_before = self.latest.replace(outcome);
        if outcome.result.is_ok() {
            self.versions.answered(outcome.row);
        }
        // A session, even one that was killed, lasts until its last recorded outcome or failed attempt.
        self.session_wall = self.session_wall.max(outcome.timing.recorded);
        self.stats.outcome(outcome, failed_before);
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
    use crate::error::{CallError, Failure, FailureKind};
    use crate::outcome::Answer;
    use crate::row::RowHash;

    fn failed(row: u64, class: &str) -> Outcome {
        Outcome::new(row, RowHash(row), Err(Failure::new(class, FailureKind::Transient, "")))
    }

    fn answered(row: u64, finish_reason: Option<&str>) -> Outcome {
        let finish_reason = finish_reason.map(Into::into);
        Outcome::new(row, RowHash(row), Ok(Answer { finish_reason, ..Answer::default() }))
    }

    #[test]
    fn each_row_counts_once_by_its_answer_or_else_its_latest_failure() {
        let mut latest = Latest::default();
        latest.rows.cover(&(10..20).into());
        let outcomes = [
            (failed(12, "timeout"), false),
            (failed(12, "ValueError"), true),
            (answered(12, None), true),
            (failed(12, "timeout"), false),
            (answered(13, Some("length")), false),
            (failed(14, "timeout"), false),
            (failed(18, "timeout"), false),
            (failed(99, "timeout"), false),
        ];
        for (outcome, failed_before) in outcomes {
            assert_eq!(latest.replace(&outcome), failed_before, "{outcome:?}");
        }
        let all = latest.decided(&(0..100).into());
        assert_eq!((all.ok, all.cut_off, all.failed.most_frequent_first()), (2, 1, vec![("timeout", 2)]));
        let some = latest.decided(&(13..15).into());
        assert_eq!((some.ok, some.cut_off, some.failed.total()), (1, 1, 1));
        assert_eq!(
            [latest.decided(&(0..10).into()), latest.decided(&(20..30).into())],
            [Decided::default(), Decided::default()]
        );
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
        let mut fold = Fold::new(10..20);
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
        let mut latest = Latest::default();
        latest.rows.cover(&(0..400).into());
        for row in 0..400 {
            latest.replace(&failed(row, &format!("E{row}")));
        }
        assert_eq!(latest.decided(&(0..400).into()).failed.total(), 400);
        assert_eq!(latest.decided(&(399..400).into()).failed.most_frequent_first(), [("E252", 1)]);
    }
}
