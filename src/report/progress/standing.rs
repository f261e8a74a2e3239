//! How the run stands for whoever asks between two lines of progress: SIGUSR1, and the line of its end for programs.

use std::sync::{Arc, Mutex, PoisonError};

use super::line::Line;
use super::{Form, Level, Reporter, Screen, Snapshot, Written};
use crate::event::Event;
use crate::report::commands::Commands;

/// The last snapshot of the run, shared by who takes it and who tells it.
#[derive(Clone)]
pub struct Standing {
    screen: Screen,
    form: Form,
    last: Arc<Mutex<Option<Last>>>,
}

#[derive(Clone, Copy)]
struct Last {
    snapshot: Snapshot,
    /// No call is made any more.
    ended: bool,
}

impl Standing {
    /// That of a process that has called nothing yet, to be told there.
    pub fn new(screen: Screen, form: Form) -> Self {
        Self { screen, form, last: Arc::default() }
    }

    /// Takes the latest snapshot; `ended` says that no more calls are made.
    pub(super) fn set(&self, snapshot: &Snapshot, ended: bool) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Last { snapshot: *snapshot, ended });
    }

    fn last(&self) -> Option<Last> {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what all runs of a comparison cost, for each snapshot tells of one run.
    pub fn set_cost(&self, usd: Option<f64>) {
        if let Some(last) = self.last.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            last.snapshot.cost_usd = usd;
        }
    }

    /// Says how the run stands, on one line.
    pub fn tell(&self) {
        let last = self.last();
        let text = match (self.form, &last) {
            (Form::Json, _) => {
                Line::Status { standing: last.as_ref().map(|last| (&last.snapshot).into()) }.text()
            }
            (Form::Text, None) => "no call has been made yet".to_owned(),
            (Form::Text, Some(Last { snapshot, ended })) => {
                snapshot.line() + if *ended { "; the calls have ended" } else { "" }
            }
        };
        self.screen.lines(&text);
    }

    /// Says how the process ends, to programs.
    pub fn finish(&self, exit_code: u8, written: Written<'_>) {
        let last = self.last();
        let standing = last.as_ref().map(|last| (&last.snapshot).into());
        if self.form == Form::Json {
            self.screen.lines(&Line::Finish { exit_code, written, standing }.text());
        }
    }
}

/// A reporter whose snapshots are kept for [`Standing`], and the commands in whose hints are complete.
pub(super) struct Kept {
    pub(super) reporter: Box<dyn Reporter>,
    pub(super) standing: Standing,
    pub(super) commands: Commands,
}

impl Reporter for Kept {
    fn event(&mut self, event: &Event) {
        self.reporter.event(event);
    }

    fn tick(&mut self, snapshot: &Snapshot) {
        self.standing.set(snapshot, false);
        self.reporter.tick(snapshot);
    }

    fn message(&mut self, level: Level, text: &str) {
        self.reporter.message(level, &self.commands.in_hints(text));
    }

    fn finish(&mut self, snapshot: &Snapshot) {
        self.standing.set(snapshot, true);
        self.reporter.finish(snapshot);
    }
}
