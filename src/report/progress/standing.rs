//! How the run stands, kept for whoever asks between two lines of progress: SIGUSR1, and the last line for programs.

use std::sync::{Arc, Mutex, PoisonError};

use super::line::Line;
use super::{Form, Screen, Written};
use crate::observe::{Observer, Snapshot};

/// The last snapshot of a run. Clones share it.
#[derive(Clone)]
pub(crate) struct Standing {
    screen: Screen,
    form: Form,
    last: Arc<Mutex<Option<Last>>>,
}

#[derive(Clone, Copy)]
struct Last {
    snapshot: Snapshot,
    /// Whether all calls have ended.
    ended: bool,
}

impl Standing {
    /// No snapshot yet; what is said of it goes to `screen`.
    pub(crate) fn new(screen: Screen, form: Form) -> Self {
        Self { screen, form, last: Arc::default() }
    }

    fn set(&self, snapshot: &Snapshot, ended: bool) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Last { snapshot: *snapshot, ended });
    }

    fn last(&self) -> Option<Last> {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the cost of all runs of a comparison, in US dollars, for a snapshot is about one run.
    pub(crate) fn set_cost(&self, usd: Option<f64>) {
        if let Some(last) = self.last.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            last.snapshot.cost_usd = usd;
        }
    }

    /// Writes a line that says how the run stands.
    pub(crate) fn tell(&self) {
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

    /// Writes the last line for programs, which says how the process ends.
    pub(crate) fn end(&self, exit_code: u8, written: Written<'_>) {
        let last = self.last();
        let standing = last.as_ref().map(|last| (&last.snapshot).into());
        if self.form == Form::Json {
            self.screen.lines(&Line::Finish { exit_code, written, standing }.text());
        }
    }
}

impl Observer for Standing {
    fn tick(&mut self, snapshot: &Snapshot) {
        self.set(snapshot, false);
    }

    fn finish(&mut self, snapshot: &Snapshot) {
        self.set(snapshot, true);
    }
}
