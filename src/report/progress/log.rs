//! Messages for people and programs: what the run says, and which attempts and rows failed.

use std::collections::{BTreeSet, HashSet};
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::time::Duration;

use console::Style;
use rustc_hash::FxBuildHasher;

use super::{Form, Screen, Showing, message_line};
use crate::error::{CANCELLED, Failure, hint_of};
use crate::event::{Blockage, Blocker, Event};
use crate::observe::{Level, Observer};
use crate::outcome::{FailedAttempt, Outcome};
use crate::report::commands::Commands;
use crate::report::text::{Look, blocked, brief, duration, escape_lines};

/// The most classes whose first failure is shown, and the most places at which the event loop was blocked.
const MOST_CLASSES: usize = 20;
/// Columns of a class's name that are shown.
const CLASS_WIDTH: usize = 60;
/// Columns of an error's text that are shown.
const ERROR_WIDTH: usize = 300;
/// The most tracebacks that are recognized when they come again.
const MOST_TRACEBACKS: usize = 10_000;

pub(super) struct Log {
    screen: Screen,
    showing: Showing,
    /// Completes the commands that hints name.
    commands: Commands,
    seen: BTreeSet<Arc<str>>,
    /// Hashes of the tracebacks that were shown.
    raised: HashSet<u64>,
    blocked_at: BTreeSet<Blocker>,
    /// Whether it was said that a Retry-After is cut short.
    capped: bool,
}

impl Log {
    pub(super) fn new(screen: &Screen, showing: Showing, commands: Commands) -> Self {
        let (seen, raised, blocked_at) = Default::default();
        Self { screen: screen.clone(), showing, commands, seen, raised, blocked_at, capped: false }
    }

    /// Says once for each place that the event loop is blocked.
    fn blocked(&mut self, blockage: &Blockage, in_hand: &[u64]) {
        if self.blocked_at.len() < MOST_CLASSES && self.blocked_at.insert(blockage.by.clone()) {
            self.message(Level::Warning, &blocked(blockage, in_hand));
        }
    }

    /// Shows a failed attempt that is not its row's last, if asked to.
    fn attempt(&mut self, attempt: &FailedAttempt, then: &str) {
        let FailedAttempt { row, number, failure, .. } = attempt;
        if self.showing.verbose > 0 && *failure.class != *CANCELLED {
            let text = format!("row {row}, attempt {number}: {}{then}", told(failure));
            let text = text + &self.raised(failure);
            self.message(Level::Warning, &text);
        }
    }

    /// Formats where an error was raised: Python's traceback, or the one line that is known of it. A traceback that was
    /// shown before is shown again only with `-vv`.
    fn raised(&mut self, failure: &Failure) -> String {
        if failure.traceback.is_some()
            && self.showing.verbose < 2
            && self.raised.len() < MOST_TRACEBACKS
            && !self.raised.insert(FxBuildHasher.hash_one(&failure.traceback))
        {
            return "\n  (the same traceback as before)".to_owned();
        }
        failure.trace().lines().flat_map(|line| ["\n  ", line]).collect()
    }

    /// Shows a row's failure: each one with its traceback if asked to, else the first of its class. The first of a class
    /// comes with what may help.
    fn failed(&mut self, outcome: &Outcome, failure: &Failure) {
        let Outcome { row, attempts, .. } = outcome;
        let after = if *attempts > 1 { format!(" after {attempts} attempts") } else { String::new() };
        let text = format!("row {row} failed{after}: {}", told(failure));
        let first = self.seen.len() < MOST_CLASSES && self.seen.insert(Arc::clone(&failure.class));
        let hint = hint_of(&failure.class).filter(|_| first);
        let hint = hint.map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
        if self.showing.verbose > 0 {
            let text = text + &self.raised(failure) + &hint;
            self.message(Level::Warning, &text);
        } else if first {
            let class = brief(&failure.class, CLASS_WIDTH);
            let text = format!("{text} (further failures of class `{class}` are only counted){hint}");
            self.message(Level::Warning, &text);
        }
    }

    fn retrying(&mut self, attempt: &FailedAttempt, delay: Duration) {
        self.attempt(attempt, &format!(" (again in {})", duration(delay)));
        if let Some(asked) = attempt.failure.retry_after.filter(|asked| delay < *asked)
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

/// Formats an error on one line.
fn told(failure: &Failure) -> String {
    brief(&failure.to_string(), ERROR_WIDTH)
}

impl Observer for Log {
    fn event(&mut self, event: &Event) {
        match event {
            Event::Blocked { blockage, in_hand } => self.blocked(blockage, in_hand),
            Event::Retrying { attempt, delay } => self.retrying(attempt, *delay),
            Event::Unfinished { last: Some(attempt), .. } => self.attempt(attempt, ""),
            // A panic or a broken bridge stops the run, which says so.
            Event::Unfinished { .. } | Event::Panicked { .. } | Event::Broken { .. } => {}
            Event::Finished { outcome, .. } => {
                if let Some(failure) = outcome.failure() {
                    self.failed(outcome, failure);
                }
            }
        }
    }

    fn message(&mut self, level: Level, text: &str) {
        if level == Level::Note && self.showing.quiet {
            return;
        }
        let text = &self.commands.in_hints(text);
        if self.showing.kind.form() == Form::Json {
            return self.screen.lines(&message_line(level, text));
        }
        let look = Look { color: self.showing.color, width: 0 };
        let label = match level {
            Level::Note => String::new(),
            Level::Warning => look.paint(Style::new().yellow().bold(), "warning: "),
            Level::Error => look.paint(Style::new().red().bold(), "error: "),
        };
        self.screen.lines(&(label + &escape_lines(text)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{CallError, FailureKind};
    use crate::report::progress::screen::Captured;
    use crate::row::RowHash;

    fn log(out: &Captured, quiet: bool, verbose: u8) -> Log {
        let showing = Showing { quiet, verbose, ..Showing::default() };
        Log::new(&out.screen(), showing, Commands::new("tab".as_ref(), None))
    }

    fn outcome(row: u64, failure: Failure) -> Event {
        let outcome = Outcome { attempts: 2, ..Outcome::new(row, RowHash(row), Err(failure)) };
        Event::Finished { outcome: Box::new(outcome), permit: None }
    }

    fn failed(row: u64, message: &str) -> Event {
        outcome(row, CallError::Output(message.into()).into())
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
    fn the_first_failure_of_a_class_comes_with_what_may_help() {
        for verbose in [0, 1] {
            let out = Captured::default();
            let mut log = log(&out, false, verbose);
            for row in [7, 9] {
                let failure = Failure::blocked(Duration::from_millis(65_200), "p.py:3 in ask: spin()");
                log.event(&outcome(row, failure));
            }
            let text = out.text();
            assert!(text.contains(
                "row 7 failed after 2 attempts: the call kept its event loop from turning for 1m 5s"
            ));
            assert_eq!(
                text.matches("\nhint: allow more time with `--timeout`, or make").count(),
                1,
                "{text}"
            );
            assert_eq!(text.contains("p.py:3 in ask: spin()"), verbose > 0, "{text}");
        }
    }

    #[test]
    fn with_more_wanted_each_attempt_is_shown_and_each_traceback_once_or_all_of_them() {
        let trace = "p.py:3 in ask: x\nTraceback (most recent call last):\n  File \"p.py\"\nValueError: no";
        let error = Failure {
            traceback: Some(trace.to_owned()),
            ..Failure::new("ValueError", FailureKind::Transient, "no\u{1b}")
        };
        let out = Captured::default();
        let mut one = log(&out, false, 1);
        let attempt = Box::new(FailedAttempt {
            row: 7,
            number: 1,
            began: Duration::ZERO,
            ended: Duration::ZERO,
            abandoned: false,
            failure: error.clone(),
        });
        one.event(&Event::Retrying { attempt, delay: Duration::from_secs(1) });
        one.event(&outcome(7, error.clone()));
        let mut all = log(&out, false, 2);
        all.event(&outcome(9, error.clone()));
        all.event(&outcome(10, error));
        insta::assert_snapshot!(out.text(), @r#"
        warning: row 7, attempt 1: ValueError: no\u{1b} (again in 1.00 s)
          Traceback (most recent call last):
            File "p.py"
          ValueError: no
        warning: row 7 failed after 2 attempts: ValueError: no\u{1b}
          (the same traceback as before)
        warning: row 9 failed after 2 attempts: ValueError: no\u{1b}
          Traceback (most recent call last):
            File "p.py"
          ValueError: no
        warning: row 10 failed after 2 attempts: ValueError: no\u{1b}
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
        let colored = Showing { color: true, ..Showing::default() };
        Log::new(&out.screen(), colored, Commands::new("tab".as_ref(), None))
            .message(Level::Warning, "coloured");
        insta::assert_snapshot!(out.text().escape_debug().to_string().replace("\\n", "\n"), @r"
        the model is ready
        error: failed to write `a.csv`: no space left
        hint: free some
        \u{1b}[33m\u{1b}[1mwarning: \u{1b}[0mcoloured
        ");
    }
}
