//! Progress for programs: one JSON object a line.
//!
//! Every second, and at the end, a line with `type` `progress` or `finish` and the fields of a [`Snapshot`]: counts of
//! rows `total`, `resumed`, `ok`, `failed`, `unfinished`, `in_flight`, `waiting_retry`; of calls `abandoned`; then
//! `rows_per_s`, `limited_by` (`rpm`, `tpm`, `server` or null), `elapsed_s`, `eta_s` (null before the first outcome).
//! In between, lines with `type` `message`, `level` (`note`, `warning`, `error`) and `text`.

use std::time::Duration;

use serde::Serialize;

use super::{Level, Reporter, Screen, Snapshot};
use crate::event::Event;
use crate::report::text::{blocked, escape_lines};

const EVERY: Duration = Duration::from_secs(1);

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Line<'a> {
    Progress(Standing<'a>),
    Finish(Standing<'a>),
    Message { level: Level, text: &'a str },
}

#[derive(Serialize)]
struct Standing<'a> {
    #[serde(flatten)]
    snapshot: &'a Snapshot,
    elapsed_s: f64,
    eta_s: Option<f64>,
}

impl<'a> From<&'a Snapshot> for Standing<'a> {
    fn from(snapshot: &'a Snapshot) -> Self {
        let eta_s = snapshot.eta().map(|eta| eta.as_secs_f64());
        Self { snapshot, elapsed_s: snapshot.elapsed.as_secs_f64(), eta_s }
    }
}

pub(super) struct JsonLines {
    screen: Screen,
    quiet: bool,
    next: Duration,
}

impl JsonLines {
    pub(super) fn new(screen: Screen, quiet: bool) -> Self {
        Self { screen, quiet, next: Duration::ZERO }
    }

    fn show(&self, line: &Line<'_>) {
        if let Ok(text) = serde_json::to_string(line) {
            self.screen.lines(&text);
        }
    }
}

impl Reporter for JsonLines {
    fn event(&mut self, event: &Event) {
        if let Event::Blocked { blockage, in_hand } = event {
            self.message(Level::Warning, &blocked(blockage, in_hand));
        }
    }

    fn tick(&mut self, snapshot: &Snapshot) {
        if snapshot.elapsed >= self.next {
            self.show(&Line::Progress(snapshot.into()));
            self.next = snapshot.elapsed + EVERY;
        }
    }

    fn message(&mut self, level: Level, text: &str) {
        if level != Level::Note || !self.quiet {
            self.show(&Line::Message { level, text: &escape_lines(text) });
        }
    }

    fn finish(&mut self, snapshot: &Snapshot) {
        self.show(&Line::Finish(snapshot.into()));
    }
}

#[cfg(test)]
mod tests {
    use super::super::LimitedBy;
    use super::super::tests::after;
    use super::*;
    use crate::report::progress::screen::Captured;

    #[test]
    fn a_line_comes_every_second_and_at_the_end() {
        let out = Captured::default();
        let mut lines = JsonLines::new(out.screen(), true);
        lines.tick(&after(0));
        lines.tick(&Snapshot { elapsed: Duration::from_millis(900), ..after(0) });
        lines.message(Level::Note, "not said when quiet");
        lines.message(Level::Warning, "two\nlines");
        lines.tick(&Snapshot { limited_by: Some(LimitedBy::Server), ..after(1) });
        lines.finish(&after(2));
        insta::assert_snapshot!(out.text(), @r#"
        {"type":"progress","total":10000,"resumed":1000,"ok":0,"failed":0,"unfinished":0,"in_flight":16,"waiting_retry":0,"abandoned":0,"rows_per_s":80.0,"limited_by":null,"elapsed_s":0.0,"eta_s":null}
        {"type":"message","level":"warning","text":"two\nlines"}
        {"type":"progress","total":10000,"resumed":1000,"ok":80,"failed":0,"unfinished":0,"in_flight":16,"waiting_retry":0,"abandoned":0,"rows_per_s":80.0,"limited_by":"server","elapsed_s":1.0,"eta_s":111.5}
        {"type":"finish","total":10000,"resumed":1000,"ok":160,"failed":0,"unfinished":0,"in_flight":16,"waiting_retry":0,"abandoned":0,"rows_per_s":80.0,"limited_by":null,"elapsed_s":2.0,"eta_s":110.5}
        "#);
    }
}
