//! `resume`: the rows of an earlier run that are not answered yet.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};

use super::Usage;
use super::changed::{self, Change};
use super::damage;
use super::export::input_of;
use super::job::{self, Asked, Opened};
use super::prepared::Prepared;
use super::show::ShowOptions;
use super::streams::Streams;
use crate::error::CallError;
use crate::job::paths::JobPaths;
use crate::job::spec::{self, JobSpec, WholePatch};
use crate::journal::{CRASHES, Counts, Header, Journal, Poison, Recovered, directory_of, holds_lines};
use crate::outcome::Outcome;
use crate::report::progress::{Level, Reporter};
use crate::report::text::{count, counted, numbers};
use crate::run::todo::Choice;
use crate::stats::Fold;

/// The options of `resume`.
#[derive(Debug, Clone, Args)]
pub struct ResumeOptions {
    /// The answers file of the earlier run, whose options hold again unless given anew
    pub answers: PathBuf,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub which: WhichOptions,
    /// Check everything, call nothing
    #[arg(long, env = "TAB_DRY_RUN")]
    pub dry_run: bool,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub job: WholePatch,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub show: ShowOptions,
}

/// Which rows `resume` takes up.
#[derive(Debug, Clone, Copy, Args)]
pub struct WhichOptions {
    /// Only the rows that failed, or only those without an outcome [default: both]
    #[arg(long, value_name = "STATE")]
    pub only: Option<OnlyChoice>,
    /// Go on although the input or the predictor has changed; rows are matched by their content
    #[arg(long)]
    pub allow_changed: bool,
}

/// `--only`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum OnlyChoice {
    Failed,
    Unfinished,
}

impl ResumeOptions {
    /// The recorded job with what is given now laid over it. Changes nothing.
    pub fn spec(&self) -> anyhow::Result<JobSpec> {
        let paths = JobPaths::find(&self.answers);
        if !paths.journal.exists() {
            bail!(
                "`{}` has no journal `{}`\nhint: name the answers file of an earlier `process`",
                self.answers.display(),
                paths.journal.display()
            );
        }
        let recovered = Recovered::read(&paths.journal, |_| {})?;
        let header = recovered.sessions.last().context("the journal has no session")?;
        let mut spec = spec::of_header(header)?;
        spec.input = input_of(header, &paths.answers);
        if !spec.directory.is_dir() {
            // Everything may have been moved.
            spec.directory = std::path::absolute(directory_of(&paths.answers))?;
        }
        spec.lay_all(self.job.clone(), &std::env::current_dir()?);
        match spec.predictor.lm.missing() {
            None => Ok(spec),
            Some(key) => Err(Usage(format!(
                "the run was started with `--lm {key}=…`, which is never written down: give it again"
            ))
            .into()),
        }
    }
}

/// Runs `resume` of the job that [`ResumeOptions::spec`] gave, in the directory it was started in. `answers` is absolute.
pub async fn resume(
    options: ResumeOptions,
    spec: JobSpec,
    answers: &Path,
    streams: &mut Streams,
) -> anyhow::Result<u8> {
    let ResumeOptions { which, dry_run, show, .. } = options;
    let paths = JobPaths::find(answers);
    let asked = Asked { spec, paths, stream: None, named: None, dry_run, scratch: false, show };
    job::run(asked, streams, |paths, prepared, reporter| {
        let WhichOptions { only, allow_changed } = which;
        let take_up = TakeUp { only, allow_changed, continuing: false };
        if dry_run {
            if let Some(rows) = take_up.check(paths, prepared, reporter)? {
                prepared.tell_estimate(rows, reporter);
            }
            return Ok(None);
        }
        take_up.reopen(paths, prepared, reporter)
    })
    .await
}

/// How a job is taken up again.
#[derive(Debug, Clone, Copy)]
pub(super) struct TakeUp {
    /// Which rows, by how they were decided.
    pub only: Option<OnlyChoice>,
    /// Go on although the input or the predictor has changed.
    pub allow_changed: bool,
    /// By `process`: a journal without an answer may give way to a new one.
    pub continuing: bool,
}

impl TakeUp {
    /// What [`Self::reopen`] refuses and says, without changing anything; how many rows are to be called. None where the
    /// journal gives way.
    pub(super) fn check(
        self,
        paths: &JobPaths,
        prepared: &Prepared,
        reporter: &mut dyn Reporter,
    ) -> anyhow::Result<Option<u64>> {
        holds_lines(&paths.journal)?;
        let recovered = Recovered::read(&paths.journal, |_| {})?;
        let change = self.compare(&recovered, paths, prepared, reporter)?;
        let counts = recovered.index.count(prepared.header.selection.clone());
        Ok(change.map(|_| self.to_go(counts)))
    }

    /// How many rows are to be called.
    fn to_go(self, counts: Counts) -> u64 {
        match self.only {
            None => counts.failed + counts.unfinished,
            Some(OnlyChoice::Failed) => counts.failed,
            Some(OnlyChoice::Unfinished) => counts.unfinished,
        }
    }

    /// Refuses what has changed since the last session, unless it may; says what the journal holds. None where the
    /// journal gives way.
    fn compare(
        self,
        recovered: &Recovered,
        paths: &JobPaths,
        prepared: &Prepared,
        reporter: &mut dyn Reporter,
    ) -> anyhow::Result<Option<Change>> {
        let before = recovered.sessions.last().context("the journal has no session")?;
        let change = Change::between(recovered, &prepared.header, &prepared.source, &paths.journal)?;
        if self.allow_changed {
            change.tell(reporter);
        } else if self.continuing && !change.is_none() && recovered.index.counts().ok == 0 {
            return Ok(None);
        } else {
            let anew = if self.continuing {
                "start anew with `--force`"
            } else {
                "start a new run with `process --output`"
            };
            change.refuse(&prepared.source, anew)?;
        }
        self.tell(recovered, &prepared.header, reporter);
        if before.predictor_sha256 != prepared.header.predictor_sha256 {
            reporter.message(Level::Warning, "the predictor's source has changed since the last session");
        }
        Ok(Some(change))
    }

    /// Opens the journal for another session of the same job. None where it gives way to a new one: it holds no answer,
    /// and is of another job.
    pub(super) fn reopen(
        self,
        paths: &JobPaths,
        prepared: &Prepared,
        reporter: &mut dyn Reporter,
    ) -> anyhow::Result<Option<Opened>> {
        let header = &prepared.header;
        let mut fold = Fold::new(&header.selection);
        let (mut journal, mut recovered) = Journal::recover(&paths.journal, |record| fold.recovered(record))?;
        let Some(change) = self.compare(&recovered, paths, prepared, reporter)? else { return Ok(None) };
        let mut choice = Choice::default();
        match self.only {
            None => {}
            Some(OnlyChoice::Failed) => choice.wanted = |status| status.is_some(),
            Some(OnlyChoice::Unfinished) => choice.wanted = |status| status.is_none(),
        }
        if change.rows() {
            // It shares the journal's index, which makes room for what the rewriting needs.
            let open = std::mem::take(&mut recovered.open);
            drop(recovered);
            fold.close_session();
            let (journal, fold) =
                changed::rematch(journal, paths, prepared, &open, fold.stats.spent(), reporter)?;
            return Ok(Some(Opened { journal, fold, choice }));
        }
        journal.append_header(header)?;
        fold.close_session();
        let mut set_aside = recovered.suspects.set_aside().clone();
        for poison in recovered.suspects.poison() {
            set_aside.insert(poison.row);
            let outcome = outcome_of(&poison);
            journal.append_outcome(&outcome)?;
            fold.outcome(&outcome);
        }
        journal.commit()?;
        choice.suspects = recovered.suspects.in_order();
        choice.suspects.retain(|row| header.selection.contains(row));
        choice.suspects.retain(|row| (choice.wanted)(recovered.index.status(*row)));
        if self.only == Some(OnlyChoice::Failed) {
            // Asked for: they are called again, each alone.
            choice.suspects.extend(set_aside.into_iter().filter(|row| header.selection.contains(row)));
        } else {
            tell_left_out(&set_aside, reporter);
            choice.left_out = set_aside;
        }
        Ok(Some(Opened { journal, fold, choice }))
    }

    /// Says what the journal holds, and which calls may be billed twice.
    fn tell(self, recovered: &Recovered, header: &Header, reporter: &mut dyn Reporter) {
        let counts = recovered.index.count(header.selection.clone());
        let to_go = if self.continuing { self.to_go(counts) } else { counts.failed + counts.unfinished };
        let mut text = format!(
            "{}{} answered before{} {} to go",
            if self.continuing { "continuing: " } else { "" },
            counted(counts.ok, "row"),
            if self.continuing { "," } else { ";" },
            count(to_go)
        );
        text += &match (self.continuing, self.only) {
            (false, _) => {
                format!(" ({} failed, {} unfinished)", count(counts.failed), count(counts.unfinished))
            }
            (true, _) if counts.failed == 0 => String::new(),
            (true, None) => format!(" ({} failed before)", count(counts.failed)),
            (true, Some(_)) => format!("; {} that failed stay as they are", counted(counts.failed, "row")),
        };
        reporter.message(Level::Note, &text);
        damage::tell(recovered, reporter);
        let cut_off = recovered.end.as_ref().is_none_or(|end| !end.in_order());
        if !recovered.in_flight.is_empty() {
            let text = format!(
                "{} did not end in order: up to {} may have been under way and may be billed twice (row {})",
                if cut_off { "the last session" } else { "an earlier session" },
                counted(recovered.in_flight.len() as u64, "call"),
                numbers(recovered.in_flight.iter().copied())
            );
            reporter.message(Level::Warning, &text);
        }
    }
}

/// The outcome of a row that the process does not survive.
fn outcome_of(poison: &Poison) -> Outcome {
    let text = format!(
        "the run crashed {} times while this row alone was in flight, in the sessions started {}",
        poison.crashes.len(),
        poison.crashes.join(", ")
    );
    let failure = CallError::Crash(text).into();
    Outcome { attempts: 0, ..Outcome::new(poison.row, poison.hash, Err(failure)) }
}

fn tell_left_out(rows: &BTreeSet<u64>, reporter: &mut dyn Reporter) {
    if rows.is_empty() {
        return;
    }
    let text = format!(
        "the run crashed {CRASHES} times with one row alone in flight: {} set aside (row {})\n\
         hint: `resume --only failed` calls what is set aside again",
        counted(rows.len() as u64, "row"),
        numbers(rows.iter().copied())
    );
    reporter.message(Level::Warning, &text);
}
