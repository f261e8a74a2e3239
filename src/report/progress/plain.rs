//! Progress as an occasional line of text, for pipes and the logs of automated runs.

use std::time::Duration;

use super::{Log, Screen};
use crate::event::Event;
use crate::observe::{Level, Observer, Snapshot};

/// A run that ends sooner shows no progress.
const FIRST: Duration = Duration::from_secs(2);
/// The longest time between two lines. There is a line at each tenth of the rows, too.
const EVERY: Duration = Duration::from_secs(10);

pub(super) struct Plain {
    log: Log,
    screen: Screen,
    next: Duration,
    tenths: u64,
    begun: bool,
}

impl Plain {
    pub(super) fn new(log: Log, screen: Screen) -> Self {
        Self { log, screen, next: FIRST, tenths: 0, begun: false }
    }

    fn show(&self, snapshot: &Snapshot) {
        self.screen.lines(&snapshot.line());
    }
}

impl Observer for Plain {
    fn event(&mut self, event: &Event) {
        self.log.event(event);
    }

    fn tick(&mut self, snapshot: &Snapshot) {
        let tenths = snapshot.done() * 10 / snapshot.total.max(1);
        let due = snapshot.elapsed >= self.next || (self.begun && tenths > self.tenths);
        if due {
            self.show(snapshot);
            self.next = snapshot.elapsed + EVERY;
            self.tenths = tenths;
            self.begun = true;
        }
    }

    fn message(&mut self, level: Level, text: &str) {
        self.log.message(level, text);
    }

    fn finish(&mut self, snapshot: &Snapshot) {
        if self.begun {
            self.show(snapshot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Showing;
    use super::super::tests::after;
    use super::*;
    use crate::report::commands::Commands;
    use crate::report::progress::screen::Captured;

    fn plain(out: &Captured) -> Plain {
        Plain::new(
            Log::new(&out.screen(), Showing::default(), Commands::new("tab".as_ref(), None)),
            out.screen(),
        )
    }

    #[test]
    fn lines_come_after_two_seconds_at_each_tenth_and_every_ten_seconds() {
        let out = Captured::default();
        let mut plain = plain(&out);
        (0..=40).for_each(|second| plain.tick(&after(second)));
        plain.finish(&Snapshot { in_flight: 0, ..after(41) });
        insta::assert_snapshot!(out.text(), @r"
        1,160/10,000 rows, 11 %, 0:02, 1 m 51 s left, 80.0 rows/s, 16 running
        1,960/10,000 rows, 19 %, 0:12, 1 m 41 s left, 80.0 rows/s, 16 running
        2,040/10,000 rows, 20 %, 0:13, 1 m 40 s left, 80.0 rows/s, 16 running
        2,840/10,000 rows, 28 %, 0:23, 1 m 30 s left, 80.0 rows/s, 16 running
        3,000/10,000 rows, 30 %, 0:25, 1 m 28 s left, 80.0 rows/s, 16 running
        3,800/10,000 rows, 38 %, 0:35, 1 m 18 s left, 80.0 rows/s, 16 running
        4,040/10,000 rows, 40 %, 0:38, 1 m 15 s left, 80.0 rows/s, 16 running
        4,280/10,000 rows, 42 %, 0:41, 1 m 12 s left, 80.0 rows/s, 0 running
        ");
    }

    #[test]
    fn a_run_shorter_than_two_seconds_shows_nothing() {
        let out = Captured::default();
        let mut plain = plain(&out);
        plain.tick(&Snapshot { ok: 9_000, elapsed: Duration::from_millis(1_900), ..after(0) });
        plain.finish(&after(1));
        assert_eq!(out.text(), "");
    }
}
