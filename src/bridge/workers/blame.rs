//! Which rows may be to blame for a worker's death: those that were in flight when it died. They are called alone, and
//! set aside if their workers die of them again.
//!
//! [`crate::journal::CrashBlame`] judges by the same rules, from the journal, what the process that runs the job did not
//! survive.

use std::collections::{BTreeMap, BTreeSet};

use super::death::Death;

/// A row is set aside once it was alone at this many deaths that its worker caused itself.
const CRASHES_OF_ITS_OWN: usize = 2;
/// The same for deaths that somebody else may have caused, as [`crate::journal::CrashBlame`] has it.
const CRASHES: usize = 3;

/// The rows that may be to blame.
#[derive(Debug, Default)]
pub(super) struct Blame {
    /// For each suspect, the deaths at which it was alone in its worker.
    suspects: BTreeMap<u64, Vec<Death>>,
}

impl Blame {
    /// Whether the row may be called only alone.
    pub(super) fn suspects(&self, row: u64) -> bool {
        self.suspects.contains_key(&row)
    }

    /// Notes that a worker died which the coordinator had not killed, and the rows that it held. Returns the row that is
    /// to be set aside, with the reason.
    pub(super) fn died(&mut self, rows: &BTreeSet<u64>, death: &Death) -> Option<(u64, String)> {
        self.suspect(rows);
        let (&row, 1) = (rows.first()?, rows.len()) else { return None };
        let deaths = self.suspects.entry(row).or_default();
        deaths.push(death.clone());
        let own = deaths.iter().filter(|death| death.is_its_own()).count();
        if own < CRASHES_OF_ITS_OWN && deaths.len() < CRASHES {
            return None;
        }
        let deaths = self.suspects.remove(&row)?;
        let how: Vec<_> = deaths.iter().map(ToString::to_string).collect();
        let text = format!(
            "the worker crashed {} times while this row alone was in flight: it {}",
            deaths.len(),
            how.join(", then ")
        );
        Some((row, text))
    }

    /// Notes that a worker was killed because its event loop was blocked, by nobody knows which of the rows that it held.
    /// Returns the row that is to blame, which was alone.
    pub(super) fn blocked(&mut self, rows: &BTreeSet<u64>) -> Option<u64> {
        if let (Some(&row), 1) = (rows.first(), rows.len())
            && self.suspects.remove(&row).is_some()
        {
            return Some(row);
        }
        self.suspect(rows);
        None
    }

    /// Has the rows called alone from now on.
    fn suspect(&mut self, rows: &BTreeSet<u64>) {
        for row in rows {
            self.suspects.entry(*row).or_default();
        }
    }

    /// Notes that a call of the row has ended while it was alone, or that the row has been judged.
    pub(super) fn clear(&mut self, row: u64) {
        self.suspects.remove(&row);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGFAULT: Death = Death::Signal(11);
    const KILLED: Death = Death::Signal(9);

    /// For each death of a worker with these rows, the row that is set aside.
    fn after(deaths: &[(&[u64], Death)]) -> (Blame, Vec<Option<u64>>) {
        let mut blame = Blame::default();
        let aside = deaths
            .iter()
            .map(|(rows, death)| blame.died(&rows.iter().copied().collect(), death).map(|(row, _)| row));
        let aside = aside.collect();
        (blame, aside)
    }

    #[test]
    fn rows_in_flight_at_a_death_are_suspects_until_they_end_alone() {
        let (mut blame, aside) = after(&[(&[1, 2, 3], SEGFAULT)]);
        assert_eq!(aside, [None]);
        assert!(blame.suspects(2) && !blame.suspects(4));
        blame.clear(2);
        assert!(!blame.suspects(2) && blame.suspects(3));
    }

    #[test]
    fn a_row_is_set_aside_when_its_worker_crashed_twice_with_it_alone() {
        for death in [4, 6, 7, 8, 11].map(Death::Signal).into_iter().chain([Death::Exit(0), Death::Exit(3)]) {
            let deaths = [(&[1, 2][..], death.clone()), (&[1], death.clone()), (&[1], death)];
            assert_eq!(after(&deaths).1, [None, None, Some(1)]);
        }
    }

    #[test]
    fn a_row_is_set_aside_at_the_third_death_that_may_be_somebody_elses_doing() {
        for death in [KILLED, Death::Signal(15), Death::Unknown] {
            let alone: (&[u64], Death) = (&[1], death.clone());
            let deaths = [(&[1, 2][..], death), alone.clone(), alone.clone(), alone];
            assert_eq!(after(&deaths).1, [None, None, None, Some(1)]);
        }
        assert_eq!(after(&[(&[1], KILLED), (&[1], SEGFAULT), (&[1], SEGFAULT)]).1, [None, None, Some(1)]);
    }

    #[test]
    fn rows_that_are_not_alone_are_never_set_aside() {
        let (blame, aside) = after(&vec![(&[1, 2][..], SEGFAULT); 9]);
        assert_eq!(aside, [None; 9]);
        assert!(blame.suspects(1) && blame.suspects(2));
    }

    #[test]
    fn a_row_that_ended_alone_starts_with_a_clean_name() {
        let (mut blame, _) = after(&[(&[1], SEGFAULT)]);
        blame.clear(1);
        assert_eq!(blame.died(&BTreeSet::from([1]), &SEGFAULT), None);
    }

    #[test]
    fn a_suspect_that_is_alone_when_its_worker_is_blocked_is_to_blame_for_that() {
        let mut blame = Blame::default();
        assert_eq!(blame.blocked(&BTreeSet::from([1, 2])), None);
        assert_eq!(blame.blocked(&BTreeSet::from([1])), Some(1));
        assert!(!blame.suspects(1) && blame.suspects(2));
        assert_eq!(blame.blocked(&BTreeSet::from([3])), None, "it may have been stuck by a thread");
        assert_eq!(blame.blocked(&BTreeSet::from([3])), Some(3));
    }

    #[test]
    fn the_reason_tells_how_often_and_how() {
        let mut blame = Blame::default();
        let alone = BTreeSet::from([7]);
        assert_eq!(blame.died(&alone, &Death::Exit(3)), None);
        let (row, text) = blame.died(&alone, &SEGFAULT).unwrap();
        assert_eq!(row, 7);
        assert_eq!(
            text,
            "the worker crashed 2 times while this row alone was in flight: it exited (code 3), then died (SIGSEGV)"
        );
        assert!(!blame.suspects(7));
    }
}
