//! Who is next at the gate: rows whose last call failed and rows that come for the first time, in turns. Not what they
//! wait for there.
//!
//! A row that was answered with an error is asked again before a fresh one is bought: where the server answers each
//! request only the second time, fresh rows would never find that out. In turns, since some rows are what breaks it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot::{Receiver, Sender, channel};

/// Which row it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Side {
    /// Its last call failed.
    Again,
    /// It comes for the first time, or its last call timed out: that costs as much the next time, and says as little.
    Fresh,
}

/// Two queues, and one turn for both.
#[derive(Debug)]
pub(super) struct Line(Arc<Mutex<Queues>>);

#[derive(Debug)]
struct Queues {
    again: VecDeque<Sender<Turn>>,
    fresh: VecDeque<Sender<Turn>>,
    /// Who went through last.
    last: Side,
    taken: bool,
    closed: bool,
}

/// The turn, passed on when it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    queues: Arc<Mutex<Queues>>,
    side: Side,
}

impl Line {
    pub(super) fn new() -> Self {
        let (again, fresh) = (VecDeque::new(), VecDeque::new());
        let queues = Queues { again, fresh, last: Side::Fresh, taken: false, closed: false };
        Self(Arc::new(Mutex::new(queues)))
    }

    /// Lets nobody have a turn any more.
    pub(super) fn close(&self) {
        let mut queues = lock(&self.0);
        queues.closed = true;
        let waiting = (std::mem::take(&mut queues.again), std::mem::take(&mut queues.fresh));
        drop(queues);
        drop(waiting);
    }

    pub(super) fn is_closed(&self) -> bool {
        lock(&self.0).closed
    }

    /// Waits for a turn; `None` once it is closed.
    pub(super) async fn turn(&self, side: Side) -> Option<Turn> {
        let waiting = {
            let mut queues = lock(&self.0);
            if queues.closed {
                return None;
            }
            if !std::mem::replace(&mut queues.taken, true) {
                return Some(Turn { queues: Arc::clone(&self.0), side });
            }
            let (sender, waiting) = channel();
            queues.of(side).push_back(sender);
            waiting
        };
        waiting.await.ok()
    }
}

impl Turn {
    /// The same turn, after the row of the other side whose turn it is by now, if there is one; `None` once the line is
    /// closed.
    pub(super) async fn or_after_the_next(self) -> Option<Self> {
        let Some(waiting) = self.behind_the_next() else { return Some(self) };
        drop(self);
        waiting.await.ok()
    }

    fn behind_the_next(&self) -> Option<Receiver<Self>> {
        let mut queues = lock(&self.queues);
        (!queues.closed && queues.next() == Some(Side::Again) && self.side == Side::Fresh).then(|| {
            let (sender, waiting) = channel();
            queues.of(self.side).push_front(sender);
            waiting
        })
    }

    /// Its row goes through.
    pub(super) fn pass(self) {
        lock(&self.queues).last = self.side;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        loop {
            let mut queues = lock(&self.queues);
            let Some(side) = queues.next() else {
                queues.taken = false;
                return;
            };
            let Some(waiting) = queues.of(side).pop_front() else { return };
            drop(queues);
            // Whoever waits no more is dropped with its turn, which must not pass it on a second time.
            match waiting.send(Self { queues: Arc::clone(&self.queues), side }) {
                Ok(()) => return,
                Err(unwanted) => std::mem::forget(unwanted),
            }
        }
    }
}

impl Queues {
    fn of(&mut self, side: Side) -> &mut VecDeque<Sender<Turn>> {
        match side {
            Side::Again => &mut self.again,
            Side::Fresh => &mut self.fresh,
        }
    }

    /// Whose turn it is after this.
    fn next(&self) -> Option<Side> {
        match (self.again.is_empty(), self.fresh.is_empty()) {
            (true, true) => None,
            (true, false) => Some(Side::Fresh),
            (false, false) if self.last == Side::Again => Some(Side::Fresh),
            (false, _) => Some(Side::Again),
        }
    }
}

fn lock(queues: &Mutex<Queues>) -> MutexGuard<'_, Queues> {
    queues.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn rows_that_failed_and_fresh_ones_take_turns_and_a_fresh_one_lets_one_that_failed_go_first() {
        let line = Line::new();
        let first = line.turn(Side::Fresh).await.unwrap();
        let order = Mutex::new(Vec::new());
        let row = async |name: &'static str, side| {
            let turn = line.turn(side).await.unwrap();
            order.lock().unwrap().push(name);
            turn.pass();
        };
        let holder = async {
            // The others have come by now.
            tokio::task::yield_now().await;
            let first = first.or_after_the_next().await.unwrap();
            order.lock().unwrap().push("first");
            first.pass();
        };
        tokio::join!(
            holder,
            row("fresh", Side::Fresh),
            row("failed", Side::Again),
            row("failed too", Side::Again),
            row("fresh too", Side::Fresh),
        );
        assert_eq!(*order.lock().unwrap(), ["failed", "first", "failed too", "fresh", "fresh too"]);
        assert!(!lock(&line.0).taken);
    }

    #[tokio::test]
    async fn who_waits_no_more_is_passed_over_and_a_closed_line_has_no_turns() {
        let line = Line::new();
        let first = line.turn(Side::Fresh).await.unwrap();
        {
            let mut gone = std::pin::pin!(line.turn(Side::Again));
            tokio::select! { biased; _ = &mut gone => panic!("taken"), () = async {} => {} }
        }
        drop(first);
        let turn = line.turn(Side::Fresh).await.unwrap();
        let waiting = line.turn(Side::Again);
        let (waiting, ()) = tokio::join!(waiting, async { line.close() });
        assert!(waiting.is_none() && turn.or_after_the_next().await.is_some() && line.is_closed());
        assert!(line.turn(Side::Fresh).await.is_none());
    }
}
