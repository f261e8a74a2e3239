//! Continues the job in a journal: [`recorded`] reads it, and [`TakeUp`] says how a session continues it.

use std::collections::BTreeSet;
use std::path::Path;

use clap::ValueEnum;

use super::damage;
use super::error::{ErrorKind, JobError};
use super::export::input_of;
use super::paths::JobPaths;
use super::prepare::Prepared;
use super::rematch::{self, Change};
use super::run::Opened;
use super::spec::{self, Identity, JobSpec};
use super::telling::Stopped;
use crate::error::CallError;
use crate::fs::directory_of;
use crate::journal::{Header, Journal, Poison, Recovered, holds_lines};
use crate::observe::{Level, Observer};
use crate::outcome::Outcome;
use crate::report::text::{count, counted, numbers};
use crate::run::control::Control;
use crate::run::todo::Choice;
use crate::selection::Rows;
use crate::stats::Fold;

/// Reads the job of a run's last session from the journal beside `answers`. To change options for the next session, lay
/// a patch over the result with [`JobSpec::lay_all`].
///
/// If the job's directory no longer exists, the directory of the answers file takes its place.
///
/// # Errors
///
/// Fails if there is no journal, if it cannot be read, or if `control` stops the reading.
pub fn recorded(answers: &Path, control: &Control) -> Result<JobSpec, JobError> {
    let paths = JobPaths::of_run(answers)?;
    let (recovered, _) = damage::read(&paths.journal, control, |_| {})?;
    let header = recovered.sessions.last().ok_or_else(|| JobError::no_session(&paths.journal))?;
    let mut spec = spec::of_header(header)?;
    spec.input = input_of(header, &paths.answers);
    if !spec.directory.is_dir() {
        let directory = directory_of(&paths.answers);
        spec.directory = std::path::absolute(directory)
            .map_err(|error| JobError::new(ErrorKind::Journal, error.to_string()).at(directory))?;
    }
    Ok(spec)
}

/// A part of the rows that have no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Only {
    /// The rows that failed.
    Failed,
    /// The rows that have no outcome.
    Unfinished,
}

/// What a session does with an earlier journal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Begin {
    /// Continues the run in the journal, or starts a new one if there is none. A journal of another job is replaced if
    /// it holds no answer.
    #[default]
    Continue,
    /// Starts a new run. An earlier journal is kept under another name.
    Anew,
    /// Continues the run in the journal.
    Resume,
}

/// How a session continues a job.
#[derive(Debug, Clone, Copy, Default)]
pub struct TakeUp {
    /// Which of the rows without an answer the session calls; `None` for all of them.
    pub only: Option<Only>,
    /// Continue even if the input or the predictor has changed.
    pub allow_changed: bool,
    /// What to do with an earlier journal.
    pub begin: Begin,
}

impl TakeUp {
    /// Refuses and reports what [`Self::reopen`] does, but changes nothing. Returns how many rows are to be called, or
    /// `None` if a new journal is to replace this one.
    pub(super) fn check(
        self,
        paths: &JobPaths,
        prepared: &Prepared,
        observer: &mut dyn Observer,
        control: &Control,
    ) -> Result<Option<u64>, JobError> {
        holds_lines(&paths.journal)?;
        let (recovered, _) = damage::read(&paths.journal, control, |_| {})?;
        let change = self.compare(&recovered, paths, prepared, observer, &|| control.asked().is_some())?;
        Ok(change.map(|_| self.to_go(&recovered, prepared.header.selection)))
    }

    fn continues(self) -> bool {
        self.begin != Begin::Resume
    }

    /// The number of the selected rows to call.
    pub(super) fn to_go(self, recovered: &Recovered, selection: Rows) -> u64 {
        let counts = recovered.index.count(selection.iter());
        let set_aside = recovered.blame.set_aside().iter().filter(|row| selection.contains(**row));
        match self.only {
            None => (counts.failed + counts.unfinished).saturating_sub(set_aside.count() as u64),
            Some(Only::Failed) => counts.failed,
            Some(Only::Unfinished) => counts.unfinished,
        }
    }

    /// Finds what has changed since the last session, and refuses it unless changes are allowed. Reports what the
    /// journal holds. Returns `None` if a new journal is to replace this one.
    fn compare(
        self,
        recovered: &Recovered,
        paths: &JobPaths,
        prepared: &Prepared,
        observer: &mut dyn Observer,
        stopped: Stopped<'_>,
    ) -> Result<Option<Change>, JobError> {
        if let Some(before) = recovered.sessions.last()
            && before.selection.shard != prepared.header.selection.shard
        {
            if self.continues() && recovered.index.counts().ok == 0 {
                return Ok(None);
            }
            return Err(of_another_shard(before, &prepared.header, paths));
        }
        let change = Change::between(recovered, &prepared.header, &prepared.source, &paths.journal, stopped)?;
        if self.allow_changed {
            change.tell(observer);
        } else if self.continues() && !change.is_none() && recovered.index.counts().ok == 0 {
            return Ok(None);
        } else {
            let anew = if self.continues() {
                "start anew with `--force`"
            } else {
                "start a new run with `process --output`"
            };
            change.refuse(&prepared.source, anew)?;
        }
        self.tell(recovered, &prepared.header, observer);
        change.tell_sources(observer);
        Ok(Some(change))
    }

    /// Opens the journal for another session of the same job. Returns `None` if a new journal is to replace this one,
    /// because it is of another job and holds no answer.
    pub(super) fn reopen(
        self,
        paths: &JobPaths,
        prepared: &Prepared,
        observer: &mut dyn Observer,
        stopped: Stopped<'_>,
    ) -> Result<Option<Opened>, JobError> {
        let header = &prepared.header;
        let mut fold = Fold::new(header.selection);
        let (mut journal, mut recovered) =
            Journal::recover_unless(stopped, &paths.journal, |record| fold.recovered(record))?;
        let Some(change) = self.compare(&recovered, paths, prepared, observer, stopped)? else {
            return Ok(None);
        };
        let mut choice = Choice::default();
        match self.only {
            None => {}
            Some(Only::Failed) => choice.wanted = |status| status.is_some(),
            Some(Only::Unfinished) => choice.wanted = |status| status.is_none(),
        }
        fold.close_session();
        if change.rows() {
            // Shares the journal's index, whose memory the rewriting needs.
            let open = std::mem::take(&mut recovered.open);
            drop(recovered);
            (journal, recovered, fold) =
                rematch::rematch(journal, paths, prepared, &open, fold.stats.spent(), observer, stopped)?;
        } else {
            journal.append_header(header)?;
        }
        let mut set_aside = recovered.blame.set_aside().clone();
        for poison in recovered.blame.poison() {
            set_aside.insert(poison.row);
            let outcome = outcome_of(&poison);
            journal.append_outcome(&outcome)?;
            fold.outcome(&outcome);
        }
        journal.commit()?;
        choice.suspects = recovered.blame.suspects();
        choice.suspects.retain(|row| header.selection.contains(*row));
        choice.suspects.retain(|row| (choice.wanted)(recovered.index.status(*row)));
        if self.only == Some(Only::Failed) {
            // The user asked for them, so they are called again, each alone.
            choice.suspects.extend(set_aside.into_iter().filter(|row| header.selection.contains(*row)));
        } else {
            tell_left_out(&set_aside, observer);
            choice.left_out = set_aside;
        }
        Ok(Some(Opened { journal, fold, choice }))
    }

    /// Reports what the journal holds, and which calls may be billed twice.
    fn tell(self, recovered: &Recovered, header: &Header, observer: &mut dyn Observer) {
        let counts = recovered.index.count(header.selection.iter());
        let left = counts.failed + counts.unfinished;
        let to_go = if self.continues() { self.to_go(recovered, header.selection) } else { left };
        let mut text = format!(
            "{}{} answered before{} {} to go",
            if self.continues() { "continuing: " } else { "" },
            counted(counts.ok, "row"),
            if self.continues() { "," } else { ";" },
            count(to_go)
        );
        text += &match (self.continues(), self.only) {
            (false, _) => {
                format!(" ({} failed, {} unfinished)", count(counts.failed), count(counts.unfinished))
            }
            (true, _) if counts.failed == 0 => String::new(),
            (true, None) => format!(" ({} failed before)", count(counts.failed)),
            (true, Some(_)) => format!("; {} that failed stay as they are", counted(counts.failed, "row")),
        };
        observer.message(Level::Note, &text);
        damage::tell(recovered, observer);
        let before = recovered.sessions.last().map(Identity::recorded).filter(|before| before.object);
        let now = Identity::recorded(header);
        if let Some(before) = before
            && !now.object
        {
            let text = format!(
                "the run was started with the Python object `{}`; now `{}` is called, without the settings of the \
                 process that it was in",
                before.predictor, now.predictor
            );
            observer.message(Level::Warning, &text);
        }
        let cut_off = recovered.end.as_ref().is_none_or(|end| !end.in_order());
        if !recovered.in_flight.is_empty() {
            let text = format!(
                "{} did not end in order: up to {} may have been in flight and may be billed twice (row {})",
                if cut_off { "the last session" } else { "an earlier session" },
                counted(recovered.in_flight.len() as u64, "call"),
                numbers(recovered.in_flight.iter().copied())
            );
            observer.message(Level::Warning, &text);
        }
    }
}

/// Refuses to continue a journal with the rows of another shard, whatever is allowed: it has no room for them.
fn of_another_shard(before: &Header, now: &Header, paths: &JobPaths) -> JobError {
    let told = |header: &Header| match header.selection.shard.divided() {
        Some(shard) => format!("shard {shard}"),
        None => "the whole input".to_owned(),
    };
    let text = format!(
        "`{}` holds {}, but {} was requested; each shard needs its own answers file\nhint: name another file with `--output`; \
         `merge` joins the answers of shards",
        paths.journal.display(),
        told(before),
        told(now)
    );
    JobError::new(ErrorKind::Changed, text).at(&paths.journal)
}

/// The outcome of a row that crashes the process again and again.
fn outcome_of(poison: &Poison) -> Outcome {
    let text = format!(
        "the run crashed {} times while this row alone was in flight, in the sessions started {}",
        poison.crashes.len(),
        poison.crashes.join(", ")
    );
    let failure = CallError::Crash(text).into();
    Outcome { attempts: 0, set_aside: true, ..Outcome::new(poison.row, poison.hash, Err(failure)) }
}

fn tell_left_out(rows: &BTreeSet<u64>, observer: &mut dyn Observer) {
    if rows.is_empty() {
        return;
    }
    let numbers = numbers(rows.iter().copied());
    let text = match rows.len() {
        1 => format!("row {numbers} was set aside: the process died each time only this row was in flight"),
        several => format!(
            "{several} rows were set aside (row {numbers}): the process died each time only one of them was in flight"
        ),
    };
    let text = text + "\nhint: `resume --only failed` calls what is set aside again";
    observer.message(Level::Warning, &text);
}
