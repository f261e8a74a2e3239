//! Who may watch a run: the trait, what it is told, and the fan-out to several observers. What is shown of it on a
//! terminal is in [`report::progress`](crate::report::progress).

use std::time::Duration;

use serde::Serialize;

use crate::event::{Event, LimitedBy};

/// How much a message matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Good to know.
    Note,
    /// Something is not as it should be.
    Warning,
    /// Something did not work.
    Error,
}

/// How a run stands at a moment. Counts are of rows; those that earlier sessions answered are in `resumed` only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Snapshot {
    /// Rows selected; 0 if it is not known how many there are.
    pub total: u64,
    /// Rows that earlier sessions answered.
    pub resumed: u64,
    /// Rows answered in this session.
    pub ok: u64,
    /// Rows that failed for good in this session.
    pub failed: u64,
    /// Rows left without an outcome because the run is stopping.
    pub unfinished: u64,
    /// Rows whose call is in flight.
    pub in_flight: u64,
    /// Rows that wait to be tried again.
    pub waiting_retry: u64,
    /// Calls that ignored their cancellation and still run.
    pub abandoned: u64,
    /// US dollars that the whole job has cost, as far as prices are known.
    pub cost_usd: Option<f64>,
    /// Time since the session's first call.
    #[serde(skip)]
    pub elapsed: Duration,
    /// The present pace, smoothed (see [`RowRate`](crate::stats::RowRate)).
    pub rows_per_s: f64,
    /// What holds the pace below the concurrency.
    pub limited_by: Option<LimitedBy>,
}

impl Snapshot {
    /// Rows with an outcome, including those of earlier sessions.
    pub fn done(&self) -> u64 {
        self.resumed + self.ok + self.failed
    }

    /// The time that the remaining rows will take at this session's mean pace; `None` before its first outcome.
    pub fn eta(&self) -> Option<Duration> {
        let done = self.ok + self.failed;
        let left = self.total.saturating_sub(self.done() + self.unfinished);
        (done > 0).then(|| {
            Duration::try_from_secs_f64(self.elapsed.as_secs_f64() * left as f64 / done as f64).ok()
        })?
    }
}

/// Watches a run. Each method does nothing unless an observer has a use for it, and none may fail: a run does not end
/// because nobody can watch it any more.
pub trait Observer: Send {
    /// Takes something that happened to a row, once it is recorded.
    fn event(&mut self, _: &Event) {}

    /// Takes how the run stands. It is called several times a second; an observer picks those it needs.
    fn tick(&mut self, _: &Snapshot) {}

    /// Takes a message for people. It may have several lines; a line that begins with `hint: ` says what to do.
    fn message(&mut self, _: Level, _: &str) {}

    /// Takes how the run ended. No events or ticks follow; messages may.
    fn finish(&mut self, _: &Snapshot) {}
}

/// Watches nothing.
impl Observer for () {}

/// Tells several observers the same, in their order.
#[derive(Default)]
pub struct Fanout(pub Vec<Box<dyn Observer>>);

impl Observer for Fanout {
    fn event(&mut self, event: &Event) {
        self.0.iter_mut().for_each(|observer| observer.event(event));
    }

    fn tick(&mut self, snapshot: &Snapshot) {
        self.0.iter_mut().for_each(|observer| observer.tick(snapshot));
    }

    fn message(&mut self, level: Level, text: &str) {
        self.0.iter_mut().for_each(|observer| observer.message(level, text));
    }

    fn finish(&mut self, snapshot: &Snapshot) {
        self.0.iter_mut().for_each(|observer| observer.finish(snapshot));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Notes what it is told, under its name.
    struct Noting(&'static str, Arc<Mutex<Vec<String>>>);

    impl Noting {
        fn note(&self, what: &str) {
            self.1.lock().unwrap().push(format!("{} {what}", self.0));
        }
    }

    impl Observer for Noting {
        fn event(&mut self, _: &Event) {
            self.note("event");
        }

        fn tick(&mut self, snapshot: &Snapshot) {
            self.note(&format!("tick {}", snapshot.ok));
        }

        fn message(&mut self, level: Level, text: &str) {
            self.note(&format!("{level:?} {text}"));
        }

        fn finish(&mut self, snapshot: &Snapshot) {
            self.note(&format!("finish {}", snapshot.ok));
        }
    }

    /// Has no use for anything.
    struct Idle;

    impl Observer for Idle {}

    #[test]
    fn every_observer_is_told_everything_in_order() {
        let notes = Arc::default();
        let noting = |name| Box::new(Noting(name, Arc::clone(&notes)));
        let mut fanout = Fanout(vec![noting("a"), Box::new(Idle), noting("b")]);
        fanout.message(Level::Note, "ready");
        fanout.tick(&Snapshot { ok: 1, ..Snapshot::default() });
        fanout.event(&Event::Unfinished { row: 7, last: None });
        fanout.finish(&Snapshot { ok: 2, ..Snapshot::default() });
        let told = ["Note ready", "tick 1", "event", "finish 2"];
        let expected: Vec<_> =
            told.iter().flat_map(|told| [format!("a {told}"), format!("b {told}")]).collect();
        assert_eq!(*notes.lock().unwrap(), expected);
    }
}
