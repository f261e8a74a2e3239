//! The order in which rows are admitted: rows whose last call failed and rows that come for the first time, in turns.
//!
//! A row that was answered with an error is asked again before a fresh one is bought: where the server answers each
//! request only the second time, fresh rows would never find that out. They take turns because some rows always fail,
//! and those must not keep the others from being asked.

use std::collections::VecDeque;

use tokio::sync::oneshot::{Receiver, Sender, channel};

/// Which of the two a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Side {
    /// Its last call failed.
    Again,
    /// It comes for the first time, or its last call timed out: another timeout would cost as much and show as little.
    Fresh,
}

/// The rows that wait, and who stands in front of them.
#[derive(Debug)]
pub(super) struct Queue {
    again: VecDeque<Sender<()>>,
    fresh: VecDeque<Sender<()>>,
    /// The side of the row that was admitted last.
    last: Side,
    /// Whether a row stands at the front. It is in neither list.
    has_front: bool,
}

/// Where a row is.
#[derive(Debug)]
pub(super) enum Place {
    /// Behind others. It is told when it has come to the front.
    Behind(Receiver<()>),
    /// The row is the next to be admitted.
    Front,
    /// It is not in the queue: it was admitted, or waits for a permit alone.
    Left,
}

impl Place {
    /// Waits until the row has come to the front.
    pub(super) async fn front(&mut self) {
        if let Self::Behind(waiting) = self
            && waiting.await.is_ok()
        {
            *self = Self::Front;
        }
    }

    /// Whether the row, which is to leave, leaves the front empty.
    pub(super) fn empties_front(&mut self) -> bool {
        match self {
            Self::Behind(waiting) => {
                waiting.close();
                // It may have come to the front a moment ago.
                waiting.try_recv().is_ok()
            }
            Self::Front => true,
            Self::Left => false,
        }
    }
}

impl Queue {
    pub(super) fn new() -> Self {
        Self { again: VecDeque::new(), fresh: VecDeque::new(), last: Side::Fresh, has_front: false }
    }

    /// Whether no row waits.
    pub(super) fn is_empty(&self) -> bool {
        !self.has_front
    }

    /// Takes a row in: at the front if nobody is there, else behind the others of its side.
    pub(super) fn join(&mut self, side: Side) -> Place {
        if !std::mem::replace(&mut self.has_front, true) {
            return Place::Front;
        }
        let (front, waiting) = channel();
        self.of(side).push_back(front);
        Place::Behind(waiting)
    }

    /// Lets a row that failed go first if it is its turn: a fresh row leaves the front and is the next fresh one to
    /// come back. Returns whether it has left.
    pub(super) fn step_aside(&mut self, place: &mut Place, side: Side) -> bool {
        if side == Side::Again || self.last == Side::Again || self.again.is_empty() {
            return false;
        }
        let (front, waiting) = channel();
        self.fresh.push_front(front);
        *place = Place::Behind(waiting);
        self.next_to_front();
        true
    }

    /// The row at the front, or one that waits for a permit alone, is admitted.
    pub(super) fn admitted(&mut self, place: &mut Place, side: Side) {
        self.last = side;
        if !matches!(std::mem::replace(place, Place::Left), Place::Left) {
            self.next_to_front();
        }
    }

    /// Brings the next row that still waits to the front.
    pub(super) fn next_to_front(&mut self) {
        self.has_front = loop {
            let Some(next) = self.next().and_then(|side| self.of(side).pop_front()) else { break false };
            if next.send(()).is_ok() {
                break true;
            }
        };
    }

    fn of(&mut self, side: Side) -> &mut VecDeque<Sender<()>> {
        match side {
            Side::Again => &mut self.again,
            Side::Fresh => &mut self.fresh,
        }
    }

    /// Whose turn is next.
    fn next(&self) -> Option<Side> {
        match (self.again.is_empty(), self.fresh.is_empty()) {
            (true, true) => None,
            (true, false) => Some(Side::Fresh),
            (false, false) if self.last == Side::Again => Some(Side::Fresh),
            (false, _) => Some(Side::Again),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_front(place: &mut Place) -> bool {
        match place {
            Place::Behind(waiting) => waiting.try_recv().is_ok(),
            Place::Front => true,
            Place::Left => false,
        }
    }

    #[test]
    fn rows_that_failed_and_fresh_ones_take_turns_and_a_fresh_one_lets_one_that_failed_go_first() {
        use Side::{Again, Fresh};
        let mut queue = Queue::new();
        let [mut first, fresh, failed, failed_too, fresh_too] =
            [Fresh, Fresh, Again, Again, Fresh].map(|side| queue.join(side));
        assert!(matches!(first, Place::Front) && queue.step_aside(&mut first, Fresh));
        let rows = [failed, first, failed_too, fresh, fresh_too];
        for (mut row, side) in rows.into_iter().zip([Again, Fresh, Again, Fresh, Fresh]) {
            assert!(is_front(&mut row) && !queue.step_aside(&mut row, side), "{queue:?}");
            queue.admitted(&mut row, side);
        }
        assert!(!queue.has_front);
    }

    #[test]
    fn a_row_that_waits_no_more_is_passed_over() {
        let mut queue = Queue::new();
        let mut first = queue.join(Side::Fresh);
        drop(queue.join(Side::Again));
        assert!(queue.step_aside(&mut first, Side::Fresh) && is_front(&mut first), "nobody else waits");
        drop(queue.join(Side::Again));
        let mut waiting = queue.join(Side::Fresh);
        queue.next_to_front();
        assert!(is_front(&mut waiting));
        queue.next_to_front();
        assert!(!queue.has_front);
    }
}
