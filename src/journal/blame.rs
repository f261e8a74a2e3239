//! Which rows may be to blame for a crash: those that were in flight when a session died. They are to be called alone,
//! and set aside if the process dies of them again.

use std::collections::{BTreeMap, BTreeSet};

use super::format::Record;
use crate::error::CRASH;
use crate::outcome::Outcome;
use crate::row::RowHash;

/// A row is set aside once it was alone in flight at this many deaths of the process.
const CRASHES: usize = 3;

/// The rows that sessions left in flight when they did not end in order.
#[derive(Debug, Default)]
pub struct CrashBlame {
    /// When the session being read started.
    session: String,
    in_flight: BTreeMap<u64, RowHash>,
    /// Whether no row can be to blame for the session's death: it has an end, which may stand before its rows (see
    /// `Journal::mark_ended`), or other processes made its calls.
    blameless: bool,
    /// Whether further rows may have been in flight: a line of the session cannot be read, or rows are gone from the input.
    doubtful: bool,
    /// Rows that were in flight at a death and have no outcome since.
    open: BTreeMap<u64, RowHash>,
    /// For each row, when the sessions started at whose death it was alone in flight.
    alone: BTreeMap<u64, Vec<String>>,
    set_aside: BTreeSet<u64>,
}

/// A row that is to be set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Poison {
    /// The row.
    pub row: u64,
    /// Its hash.
    pub hash: RowHash,
    /// When the sessions started at whose death it was alone in flight.
    pub crashes: Vec<String>,
}

impl CrashBlame {
    /// Adds the next record.
    pub(super) fn see(&mut self, record: &Record<'_>) {
        match record {
            Record::Header(header) => {
                self.close();
                self.session.clone_from(&header.started_at);
                self.blameless = header.has_workers();
            }
            Record::Started(rows) => self.in_flight.extend(rows.iter().copied()),
            // Rows that are gone were in flight, too.
            Record::Gone(gone) if gone.calls() == 0 => self.doubtful = true,
            Record::Attempt(_) | Record::Gone(_) => {}
            Record::Outcome(outcome) => self.decided(outcome),
            Record::End(end) => self.blameless |= !end.broken,
        }
    }

    /// Notes a line that cannot be read.
    pub(super) fn see_damage(&mut self) {
        self.doubtful = true;
    }

    fn decided(&mut self, outcome: &Outcome) {
        let row = outcome.row;
        self.in_flight.remove(&row);
        self.open.remove(&row);
        if sets_aside(outcome) {
            self.set_aside.insert(row);
        } else if !self.alone.is_empty() || !self.set_aside.is_empty() {
            self.alone.remove(&row);
            self.set_aside.remove(&row);
        }
    }

    /// Ends the session being read. Rows still in flight were so at its death.
    pub(super) fn close(&mut self) {
        let mut in_flight = std::mem::take(&mut self.in_flight);
        if std::mem::take(&mut self.blameless) {
            in_flight.clear();
        }
        if let (1, Some(&row)) = (in_flight.len(), in_flight.keys().next())
            && !self.doubtful
        {
            self.alone.entry(row).or_default().push(self.session.clone());
        }
        self.open.extend(in_flight);
        self.doubtful = false;
    }

    /// The rows to call first and one at a time, so that the next death has one row to blame. Rows that were never
    /// alone at a death come first, since they are probably innocent.
    pub fn suspects(&self) -> Vec<u64> {
        let mut rows: Vec<_> = self.open.keys().map(|row| (self.deaths(*row), *row)).collect();
        rows.retain(|(deaths, _)| *deaths < CRASHES);
        rows.sort_unstable();
        rows.into_iter().map(|(_, row)| row).collect()
    }

    /// The rows that were alone in flight at too many deaths and are to be set aside now.
    pub fn poison(&self) -> Vec<Poison> {
        let poison = self.open.iter().filter(|(row, _)| self.deaths(**row) >= CRASHES);
        poison
            .map(|(&row, &hash)| Poison {
                row,
                hash,
                crashes: self.alone.get(&row).cloned().unwrap_or_default(),
            })
            .collect()
    }

    /// The rows whose last outcome set them aside.
    pub fn set_aside(&self) -> &BTreeSet<u64> {
        &self.set_aside
    }

    fn deaths(&self, row: u64) -> usize {
        self.alone.get(&row).map_or(0, Vec::len)
    }
}

/// Whether the outcome stands for crashes. Earlier releases did not mark it, but it had no attempts: a predictor that
/// raises a class called `crash` was called.
fn sets_aside(outcome: &Outcome) -> bool {
    outcome.set_aside
        || outcome.attempts == 0 && outcome.failure().is_some_and(|failure| *failure.class == *CRASH)
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::error::{Failure, FailureKind};
    use crate::journal::End;
    use crate::journal::testing::{answered, hash_of, header};

    /// Sessions one after the other, each given as the rows it started, those it decided, and whether it ended in
    /// order.
    fn after(sessions: &[(&[u64], &[u64], bool)]) -> CrashBlame {
        let mut blame = CrashBlame::default();
        for (started, decided, in_order) in sessions {
            blame.see(&Record::Header(Cow::Owned(header(1, 0..100))));
            let started: Vec<_> = started.iter().map(|row| (*row, hash_of(*row))).collect();
            blame.see(&Record::Started(Cow::Owned(started)));
            for row in *decided {
                blame.see(&Record::Outcome(Cow::Owned(answered(*row))));
            }
            if *in_order {
                let totals = serde_json::Value::Null;
                let end = End {
                    finished_at: String::new(),
                    exit_code: 130,
                    reason: None,
                    hurried: false,
                    broken: false,
                    totals,
                };
                blame.see(&Record::End(Cow::Owned(end)));
            }
        }
        blame.close();
        blame
    }

    #[test]
    fn no_row_is_to_blame_for_the_death_of_a_session_whose_calls_other_processes_made() {
        let mut blame = after(&[(&[1, 2], &[], false)]);
        for _ in 0..3 {
            let mut header = header(1, 0..100);
            header.settings = serde_json::json!({"run": {"calls": 16, "workers": 2}});
            blame.see(&Record::Header(Cow::Owned(header)));
            blame.see(&Record::Started(Cow::Owned(vec![(7, hash_of(7))])));
        }
        blame.close();
        assert_eq!((blame.poison(), blame.suspects()), (vec![], vec![1, 2]));
    }

    #[test]
    fn a_row_that_crashed_its_worker_is_set_aside_and_an_exception_called_crash_is_not() {
        let outcome = |row, attempts, set_aside| Outcome {
            attempts,
            set_aside,
            ..Outcome::new(row, hash_of(row), Err(Failure::new(CRASH, FailureKind::Permanent, "")))
        };
        let mut blame = CrashBlame::default();
        for outcome in [outcome(1, 0, false), outcome(2, 2, true), outcome(3, 1, false)] {
            blame.see(&Record::Outcome(Cow::Owned(outcome)));
        }
        assert_eq!(blame.set_aside().iter().collect::<Vec<_>>(), [&1, &2]);
        blame.see(&Record::Outcome(Cow::Owned(outcome(2, 1, false))));
        assert_eq!(blame.set_aside().iter().collect::<Vec<_>>(), [&1]);
    }

    #[test]
    fn rows_in_flight_at_a_death_are_suspects_until_they_are_decided() {
        assert_eq!(after(&[(&[1, 2, 3], &[2], false)]).suspects(), [1, 3]);
        assert_eq!(after(&[(&[1, 2, 3], &[2], false), (&[1], &[1], false)]).suspects(), [3]);
        assert_eq!(after(&[(&[1, 2, 3], &[2], true)]).suspects(), [0; 0]);
    }

    #[test]
    fn those_never_found_alone_go_before_those_that_were() {
        assert_eq!(after(&[(&[1, 2, 3], &[], false), (&[1], &[], false)]).suspects(), [2, 3, 1]);
    }

    #[test]
    fn only_a_row_alone_at_three_deaths_is_poison() {
        let twice: &[(&[u64], &[u64], bool)] =
            &[(&[7, 8], &[8], false), (&[7], &[], false), (&[7, 9], &[], false), (&[7], &[], true)];
        assert_eq!(after(twice).poison(), []);
        let thrice = [twice, &[(&[7][..], &[][..], false)]].concat();
        let poison = after(&thrice).poison();
        assert_eq!(
            poison.iter().map(|poison| (poison.row, poison.crashes.len())).collect::<Vec<_>>(),
            [(7, 3)]
        );
        assert_eq!(after(&thrice).suspects(), [9]);
    }

    #[test]
    fn a_session_with_an_unreadable_line_blames_no_one() {
        let mut blame = after(&[(&[7], &[], false), (&[7], &[], false)]);
        blame.see(&Record::Started(Cow::Owned(vec![(7, hash_of(7))])));
        blame.see_damage();
        blame.close();
        assert_eq!((blame.poison(), blame.suspects()), (vec![], vec![7]));
    }

    #[test]
    fn an_answer_clears_a_rows_name() {
        let once: (&[u64], &[u64], bool) = (&[7], &[], false);
        let thrice: &[_] = &[once; 3];
        assert_eq!(after(thrice).poison().len(), 1);
        assert_eq!(after(&[thrice, &[(&[7][..], &[7][..], false)]].concat()).poison(), []);
    }
}
