//! Messages for people: `warning: …` lines, and the first failure of each class. By itself it shows no progress.

use std::collections::BTreeSet;
use std::sync::Arc;

use console::Style;

use super::{Level, Reporter, Screen, Snapshot};
use crate::event::{Blockage, Blocker, Event};
use crate::report::text::{Look, blocked, brief, duration, escape_lines};

/// So many classes have their first failure shown.
const MOST_CLASSES: usize = 20;
/// Columns of a class's name that are shown.
const CLASS_WIDTH: usize = 60;
/// Columns of an error's text that are shown.
const ERROR_WIDTH: usize = 300;

pub(super) struct Log {
    screen: Screen,
    quiet: bool,
    color: bool,
    seen: BTreeSet<Arc<str>>,
    blocked_at: BTreeSet<Blocker>,
    /// Whether a Retry-After cut short was told of.
    capped: bool,
}

impl Log {
    pub(super) fn new(screen: Screen, quiet: bool, color: bool) -> Self {
        Self { screen, quiet, color, seen: BTreeSet::new(), blocked_at: BTreeSet::new(), capped: false }
    }
}

impl Log {
    /// Each place is named once.
    fn blocked(&mut self, blockage: &Blockage, in_hand: &[u64]) {
        if self.blocked_at.len() < MOST_CLASSES && self.blocked_at.insert(blockage.by.clone()) {
            self.message(Level::Warning, &blocked(blockage, in_hand));
        }
    }
}

impl Reporter for Log {
    fn event(&mut self, event: &Event) {
        if let Event::Blocked { blockage, in_hand } = event {
            return self.blocked(blockage, in_hand);
        }
        if let Event::Retrying { delay, asked: Some(asked), .. } = event
            && delay < asked
            && !std::mem::replace(&mut self.capped, true)
        {
            let text = format!(
                "the server asked to be left alone for {}; it is asked again after {} (`--backoff-max`)",
                duration(*asked),
                duration(*delay)
            );
            self.message(Level::Warning, &text);
        }
        let Event::Finished(outcome) = event else { return };
        let Err(error) = &outcome.result else { return };
        if self.quiet || self.seen.len() == MOST_CLASSES || !self.seen.insert(error.class()) {
            return;
        }
        let text = format!(
            "row {} failed: {} (further failures of class `{}` are only counted)",
            outcome.row,
            brief(&error.to_string(), ERROR_WIDTH),
            brief(&error.class(), CLASS_WIDTH)
        );
        self.message(Level::Warning, &text);
    }

    fn tick(&mut self, _: &Snapshot) {}

    fn message(&mut self, level: Level, text: &str) {
        let look = Look { color: self.color, width: 0 };
        let label = match level {
            Level::Note if self.quiet => return,
            Level::Note => String::new(),
            Level::Warning => look.paint(Style::new().yellow().bold(), "warning: "),
            Level::Error => look.paint(Style::new().red().bold(), "error: "),
        };
        self.screen.lines(&(label + &escape_lines(text)));
    }

    fn finish(&mut self, _: &Snapshot) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::CallError;
    use crate::report::progress::screen::Captured;
    use crate::row::{Outcome, RowHash, Timing};

    fn failed(row: u64, message: &str) -> Event {
        Event::Finished(Box::new(Outcome {
            row,
            hash: RowHash(row),
            result: Err(CallError::Output(message.into())),
            attempts: 1,
            errors: vec!["output".into()],
            abandoned: 0,
            unanswered: 0,
            usage: None,
            timing: Timing::default(),
        }))
    }

    #[test]
    fn the_first_failure_of_a_class_is_shown_and_made_harmless() {
        let out = Captured::default();
        let mut log = Log::new(out.screen(), false, false);
        log.event(&failed(7, "the predictor returned `\u{1b}[2J`"));
        log.event(&failed(8, "the predictor returned `None`"));
        log.event(&Event::Unfinished { row: 9, last: None });
        insta::assert_snapshot!(out.text(), @r"
        warning: row 7 failed: the predictor returned `\u{1b}[2J` (further failures of class `output` are only counted)
        ");
    }

    #[test]
    fn messages_are_labelled_and_keep_their_lines() {
        let out = Captured::default();
        let mut log = Log::new(out.screen(), false, false);
        log.message(Level::Note, "the model is ready");
        log.message(Level::Error, "failed to write `a.csv`: no space left\nhint: free some");
        Log::new(out.screen(), false, true).message(Level::Warning, "coloured");
        insta::assert_snapshot!(out.text().escape_debug().to_string().replace("\\n", "\n"), @r"
        the model is ready
        error: failed to write `a.csv`: no space left
        hint: free some
        \u{1b}[33m\u{1b}[1mwarning: \u{1b}[0mcoloured
        ");
    }

    #[test]
    fn quiet_says_nothing_of_failures() {
        let out = Captured::default();
        Log::new(out.screen(), true, false).event(&failed(7, "the predictor returned `None`"));
        assert_eq!(out.text(), "");
    }
}
