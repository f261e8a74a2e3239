//! Messages for people and programs: what the run says, and which attempts and rows failed. Not its progress.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use console::Style;

use super::{Form, Level, Reporter, Screen, Snapshot, message_line};
use crate::call::CallError;
use crate::event::{Blockage, Blocker, Event};
use crate::report::text::{Look, blocked, brief, duration, escape_lines};
use crate::row::{FailedAttempt, Outcome};

/// So many classes have their first failure shown.
const MOST_CLASSES: usize = 20;
/// Columns of a class's name that are shown.
const CLASS_WIDTH: usize = 60;
/// Columns of an error's text that are shown.
const ERROR_WIDTH: usize = 300;

pub(super) struct Log {
    screen: Screen,
    form: Form,
    quiet: bool,
    verbose: u8,
    color: bool,
    seen: BTreeSet<Arc<str>>,
    blocked_at: BTreeSet<Blocker>,
    /// Whether a Retry-After cut short was told of.
    capped: bool,
}

impl Log {
    pub(super) fn new(screen: Screen, form: Form, quiet: bool, verbose: u8, color: bool) -> Self {
        let (seen, blocked_at) = (BTreeSet::new(), BTreeSet::new());
        Self { screen, form, quiet, verbose, color, seen, blocked_at, capped: false }
    }

    /// Each place is named once.
    fn blocked(&mut self, blockage: &Blockage, in_hand: &[u64]) {
        if self.blocked_at.len() < MOST_CLASSES && self.blocked_at.insert(blockage.by.clone()) {
            self.message(Level::Warning, &blocked(blockage, in_hand));
        }
    }

    /// One attempt that is not its row's last, with where it was raised.
    fn attempt(&mut self, attempt: &FailedAttempt, then: &str) {
        if let Some(error) = attempt.error.as_ref().filter(|_| self.verbose > 0) {
            let FailedAttempt { row, number, .. } = attempt;
            let text = format!("row {row}, attempt {number}: {}{then}", told(error));
            self.message(Level::Warning, &(text + &raised(error)));
        }
    }

    /// A row's failure: each with where it was raised where more is wanted, else the first of its class.
    fn failed(&mut self, outcome: &Outcome, error: &CallError) {
        let Outcome { row, attempts, .. } = outcome;
        let after = if *attempts > 1 { format!(" after {attempts} attempts") } else { String::new() };
        let text = format!("row {row} failed{after}: {}", told(error));
        if self.verbose > 0 {
            return self.message(Level::Warning, &(text + &raised(error)));
        }
        if self.seen.len() < MOST_CLASSES && self.seen.insert(error.class()) {
            let class = brief(&error.class(), CLASS_WIDTH);
            let text = format!("{text} (further failures of class `{class}` are only counted)");
            self.message(Level::Warning, &text);
        }
    }

    fn retrying(&mut self, attempt: &FailedAttempt, delay: Duration, asked: Option<Duration>) {
        self.attempt(attempt, &format!(" (again in {})", duration(delay)));
        if let Some(asked) = asked.filter(|asked| delay < *asked)
            && !std::mem::replace(&mut self.capped, true)
        {
            let text = format!(
                "the server asked to be left alone for {}; it is asked again after {} (`--backoff-max`)",
                duration(asked),
                duration(delay)
            );
            self.message(Level::Warning, &text);
        }
    }
}

/// An error on one line.
fn told(error: &CallError) -> String {
    brief(&error.to_string(), ERROR_WIDTH)
}

/// Python's traceback on lines of its own, or the one line that is known of it; nothing for an error without.
fn raised(error: &CallError) -> String {
    let CallError::Predictor(error) = error else { return String::new() };
    let Some(traceback) = &error.traceback else { return String::new() };
    let whole = traceback.split_once('\n').map_or(&**traceback, |(_, whole)| whole);
    whole.lines().flat_map(|line| ["\n  ", line]).collect()
}

impl Reporter for Log {
    fn event(&mut self, event: &Event) {
        match event {
            Event::Blocked { blockage, in_hand } => self.blocked(blockage, in_hand),
            Event::Retrying { attempt, delay, asked } => self.retrying(attempt, *delay, *asked),
            Event::Unfinished { last: Some(attempt), .. } => self.attempt(attempt, ""),
            // A panic stops the run, which says so.
            Event::Unfinished { .. } | Event::Panicked { .. } => {}
            Event::Finished { outcome, .. } => {
                if let Err(error) = &outcome.result {
                    self.failed(outcome, error);
                }
            }
        }
    }

    fn tick(&mut self, _: &Snapshot) {}

    fn message(&mut self, level: Level, text: &str) {
        if level == Level::Note && self.quiet {
            return;
        }
        if self.form == Form::Json {
            return self.screen.lines(&message_line(level, text));
        }
        let look = Look { color: self.color, width: 0 };
        let label = match level {
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
    use std::time::Instant;

    use super::*;
    use crate::call::{FailureKind, PredictorError};
    use crate::report::progress::screen::Captured;
    use crate::row::{RowHash, Timing};

    fn log(out: &Captured, quiet: bool, verbose: u8) -> Log {
        Log::new(out.screen(), Form::Text, quiet, verbose, false)
    }

    fn outcome(row: u64, error: CallError) -> Event {
        let outcome = Box::new(Outcome {
            row,
            hash: RowHash(row),
            result: Err(error),
            attempts: 2,
            errors: vec!["output".into()],
            abandoned: 0,
            unanswered: 0,
            usage: None,
            timing: Timing::default(),
        });
        Event::Finished { outcome, permit: None }
    }

    fn failed(row: u64, message: &str) -> Event {
        outcome(row, CallError::Output(message.into()))
    }

    #[test]
    fn the_first_failure_of_a_class_is_shown_and_made_harmless_also_when_quiet() {
        for quiet in [false, true] {
            let out = Captured::default();
            let mut log = log(&out, quiet, 0);
            log.event(&failed(7, "the predictor returned `\u{1b}[2J`"));
            log.event(&failed(8, "the predictor returned `None`"));
            log.event(&Event::Unfinished { row: 9, last: None });
            assert_eq!(
                out.text(),
                "warning: row 7 failed after 2 attempts: the predictor returned `\\u{1b}[2J` (further failures of class \
                 `output` are only counted)\n"
            );
        }
    }

    #[test]
    fn with_more_wanted_each_attempt_is_shown_once_with_its_traceback() {
        let error = CallError::Predictor(Box::new(PredictorError {
            class: "ValueError".into(),
            message: "no\u{1b}".to_owned(),
            status: None,
            kind: FailureKind::Transient,
            retry_after: None,
            usage: None,
            unanswered: None,
            traceback: Some(
                "p.py:3 in ask: x\nTraceback (most recent call last):\n  File \"p.py\"\nValueError: no"
                    .to_owned(),
            ),
        }));
        let (out, now) = (Captured::default(), Instant::now());
        let mut log = log(&out, false, 1);
        let attempt = Box::new(FailedAttempt {
            row: 7,
            number: 1,
            class: error.class(),
            error: Some(error.clone()),
            began: now,
            ended: now,
            abandoned: false,
            unanswered: false,
            usage: None,
        });
        log.event(&Event::Retrying { attempt, delay: Duration::from_secs(1), asked: None });
        log.event(&outcome(7, error.clone()));
        log.event(&outcome(8, error));
        insta::assert_snapshot!(out.text(), @r#"
        warning: row 7, attempt 1: ValueError: no\u{1b} (again in 1.00 s)
          Traceback (most recent call last):
            File "p.py"
          ValueError: no
        warning: row 7 failed after 2 attempts: ValueError: no\u{1b}
          Traceback (most recent call last):
            File "p.py"
          ValueError: no
        warning: row 8 failed after 2 attempts: ValueError: no\u{1b}
          Traceback (most recent call last):
            File "p.py"
          ValueError: no
        "#);
    }

    #[test]
    fn messages_are_labelled_and_keep_their_lines() {
        let out = Captured::default();
        let mut log = log(&out, false, 0);
        log.message(Level::Note, "the model is ready");
        log.message(Level::Error, "failed to write `a.csv`: no space left\nhint: free some");
        Log::new(out.screen(), Form::Text, false, 0, true).message(Level::Warning, "coloured");
        insta::assert_snapshot!(out.text().escape_debug().to_string().replace("\\n", "\n"), @r"
        the model is ready
        error: failed to write `a.csv`: no space left
        hint: free some
        \u{1b}[33m\u{1b}[1mwarning: \u{1b}[0mcoloured
        ");
    }
}
