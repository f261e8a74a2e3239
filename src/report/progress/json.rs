//! Progress for programs, as a line of JSON every second. `line` describes the lines.

use std::time::Duration;

use super::line::Line;
use super::{Log, Screen};
use crate::event::Event;
use crate::observe::{Level, Observer, Snapshot};
use crate::outcome::FailedAttempt;

const EVERY: Duration = Duration::from_secs(1);

pub(super) struct JsonLines {
    log: Log,
    screen: Screen,
    next: Duration,
}

impl JsonLines {
    pub(super) fn new(log: Log, screen: Screen) -> Self {
        Self { log, screen, next: Duration::ZERO }
    }
}

impl JsonLines {
    fn attempt(&self, attempt: &FailedAttempt) {
        self.screen.lines(&Line::Attempt(attempt).text());
    }
}

impl Observer for JsonLines {
    fn event(&mut self, event: &Event) {
        match event {
            Event::Retrying { attempt, .. } | Event::Unfinished { last: Some(attempt), .. } => {
                self.attempt(attempt);
            }
            Event::Finished { outcome, .. } => {
                outcome.failed_attempt().iter().for_each(|attempt| self.attempt(attempt));
            }
            _ => {}
        }
        self.log.event(event);
    }

    fn tick(&mut self, snapshot: &Snapshot) {
        if snapshot.elapsed >= self.next {
            self.screen.lines(&Line::Progress(snapshot.into()).text());
            self.next = snapshot.elapsed + EVERY;
        }
    }

    fn message(&mut self, level: Level, text: &str) {
        self.log.message(level, text);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::tests::after;
    use super::super::{Form, ProgressKind, Showing, Standing, Written};
    use super::*;
    use crate::event::LimitedBy;
    use crate::report::commands::Commands;
    use crate::report::progress::screen::Captured;

    /// What was written, without its times.
    fn without_times(out: &Captured) -> String {
        let untimed = |line: &str| {
            let (time, rest) = line.strip_prefix("{\"time\":\"").unwrap().split_once("\",").unwrap();
            assert!(humantime::parse_rfc3339(time).is_ok(), "{time}");
            format!("{{{rest}\n")
        };
        out.text().lines().map(untimed).collect()
    }

    #[test]
    fn a_line_comes_every_second_and_at_the_end() {
        let out = Captured::default();
        let screen = out.screen();
        let showing = Showing { kind: ProgressKind::Json, quiet: true, ..Showing::default() };
        let log = Log::new(&screen, showing, Commands::new("tab".as_ref(), None));
        let mut lines = JsonLines::new(log, screen.clone());
        lines.tick(&after(0));
        lines.tick(&Snapshot { elapsed: Duration::from_millis(900), ..after(0) });
        lines.message(Level::Note, "not said when quiet");
        lines.message(Level::Warning, "two\nlines");
        lines.tick(&Snapshot { limited_by: Some(LimitedBy::Server), cost_usd: Some(0.5), ..after(1) });
        let mut standing = Standing::new(screen, Form::Json);
        standing.tell();
        standing.tick(&after(2));
        standing.tell();
        let written = Written { answers: Some(Path::new("a.csv")), ..Written::default() };
        standing.end(3, written);
        insta::assert_snapshot!(without_times(&out), @r#"
        {"type":"progress","total":10000,"resumed":1000,"ok":0,"failed":0,"unfinished":0,"in_flight":16,"waiting_retry":0,"abandoned":0,"cost_usd":null,"rows_per_s":80.0,"limited_by":null,"elapsed_s":0.0,"eta_s":null}
        {"type":"message","level":"warning","text":"two\nlines"}
        {"type":"progress","total":10000,"resumed":1000,"ok":80,"failed":0,"unfinished":0,"in_flight":16,"waiting_retry":0,"abandoned":0,"cost_usd":0.5,"rows_per_s":80.0,"limited_by":"server","elapsed_s":1.0,"eta_s":111.5}
        {"type":"status"}
        {"type":"status","total":10000,"resumed":1000,"ok":160,"failed":0,"unfinished":0,"in_flight":16,"waiting_retry":0,"abandoned":0,"cost_usd":null,"rows_per_s":80.0,"limited_by":null,"elapsed_s":2.0,"eta_s":110.5}
        {"type":"finish","exit_code":3,"answers":"a.csv","journal":null,"report":null,"page":null,"total":10000,"resumed":1000,"ok":160,"failed":0,"unfinished":0,"in_flight":16,"waiting_retry":0,"abandoned":0,"cost_usd":null,"rows_per_s":80.0,"limited_by":null,"elapsed_s":2.0,"eta_s":110.5}
        "#);
    }
}
