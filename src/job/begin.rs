//! A job on its way from what was asked for to its end: [`Job`], [`PreparedJob`], [`OpenJob`].

use std::path::PathBuf;

use tempfile::TempPath;

use super::done::done;
use super::error::{ErrorKind, JobError, refuse};
use super::files::{self, remove_spool};
use super::paths::JobPaths;
use super::prepare::{Prepared, Preparing};
use super::resume::{Begin, Only, TakeUp};
use super::run::{Opened, Session, SessionEnd};
use super::spec::JobSpec;
use crate::bridge::python::interpreter::Show;
use crate::journal::Counts;
use crate::observe::{Level, Observer};
use crate::run::control::Control;

/// What belongs to one session, and not to the job.
#[derive(Default)]
pub struct SessionOptions {
    /// The stream that the rows come by; none where the job's input is a file.
    pub stream: Option<PathBuf>,
    /// The input as messages name it; none for the job's own path.
    pub input: Option<PathBuf>,
    /// The answers file as it was given, where it was.
    pub output: Option<PathBuf>,
    /// How the session takes up what stands in the journal.
    pub take_up: TakeUp,
    /// Check everything, call nothing.
    pub dry_run: bool,
    /// The files are thrown away at the end, for nobody wants the answers.
    pub scratch: bool,
    /// Keep Python's libraries from saying a line a call.
    pub quiet: bool,
    /// Shows what Python prints, where Python's own streams must not.
    pub prints: Option<Show>,
    /// The words that started the session, for the journal and the report; secrets in them are masked.
    pub argv: Vec<String>,
}

/// A job that was asked for.
pub struct Job {
    spec: JobSpec,
    files: JobPaths,
    options: SessionOptions,
    /// Whether the journal holds a run that this goes on with.
    continuing: bool,
}

impl Job {
    /// A job that begins, or that goes on where its journal holds a run, as `process` does. Nothing is written, and
    /// nothing is called.
    ///
    /// # Errors
    ///
    /// Refuses files that would replace what must stay, and a directory that cannot be written.
    pub fn new(spec: JobSpec, files: JobPaths, options: SessionOptions) -> Result<Self, JobError> {
        let input = options.input.as_deref().unwrap_or(&spec.input);
        let output = options.output.as_deref().filter(|_| !options.scratch);
        let force = options.take_up.begin == Begin::Anew;
        let continuing = files::check(input, output, &spec, &files, force)?;
        Ok(Self { spec, files, options, continuing })
    }

    /// A job that only goes on with the run in its journal, as `resume` does: see [`recorded`](super::resume::recorded).
    ///
    /// # Errors
    ///
    /// Refuses a job that needs a secret which the journal does not keep.
    pub fn resume(spec: JobSpec, files: JobPaths, options: SessionOptions) -> Result<Self, JobError> {
        if let Some(key) = spec.predictor.lm.missing() {
            let text = format!(
                "the run was started with `--lm {key}=…`, which is never written down: give it again"
            );
            return Err(JobError::new(ErrorKind::Usage, text));
        }
        let take_up = TakeUp { begin: Begin::Resume, ..options.take_up };
        Ok(Self { spec, files, options: SessionOptions { take_up, ..options }, continuing: true })
    }

    /// The counts of the selected rows where nothing is left to be done. No interpreter is started to know.
    ///
    /// # Errors
    ///
    /// Fails where the journal cannot be read.
    pub fn done(&self) -> Result<Option<Counts>, JobError> {
        if !self.continuing || self.options.dry_run {
            return Ok(None);
        }
        done(&self.spec, &self.files, self.options.take_up.only == Some(Only::Unfinished))
    }

    /// Its files, as they were named.
    pub fn files(&self) -> &JobPaths {
        &self.files
    }

    /// Whether its files are thrown away at its end.
    pub fn is_scratch(&self) -> bool {
        self.options.scratch
    }

    /// Whether the report is written as a page, too.
    pub fn writes_page(&self) -> bool {
        self.spec.page.html && !self.options.scratch
    }

    /// What it is.
    pub fn spec(&self) -> &JobSpec {
        &self.spec
    }

    /// Checks everything, starts Python and loads the predictor. Calls nothing, and tells the observer what is about to
    /// run.
    ///
    /// # Errors
    ///
    /// Fails where the input, the predictor or the options are not as they should be, and where the job is stopped.
    pub async fn prepare(
        self,
        observer: &mut dyn Observer,
        control: &Control,
    ) -> Result<PreparedJob, JobError> {
        let Self { mut spec, files: named, options, continuing } = self;
        let absolute =
            named.absolute().map_err(|error| JobError::new(ErrorKind::Output, error.to_string()))?;
        let SessionOptions { stream, input, take_up, dry_run, scratch, quiet, prints, argv, .. } = options;
        let input = if stream.is_some() { Some(named.spool.clone()) } else { input };
        let mut source = spec.source(input.as_deref().unwrap_or(&spec.input));
        let python = spec.predictor.python.as_deref();
        for path in [&*source.at, &*spec.directory].into_iter().chain(python) {
            if path.to_str().is_none() {
                refuse!(
                    Input,
                    path,
                    "the journal cannot name `{}`, which is not UTF-8: `resume` would not find it\nhint: rename it",
                    path.display()
                );
            }
        }
        let mut fresh = None;
        if let Some(stream) = stream {
            spec.input.clone_from(&absolute.spool);
            let at = files::spooled(&stream, &named.spool, control).await?;
            source.at = at.to_path_buf();
            fresh = Some(at);
        }
        let calls = spec.pace.calls();
        let preparing = Preparing { spec, source, calls, dry_run, quiet, prints, argv };
        let mut prepared = preparing.run(control).await?;
        prepared.announce(observer);
        if fresh.is_some() {
            prepared.header.input.path = absolute.spool.to_string_lossy().into_owned();
        }
        Ok(PreparedJob { prepared, files: absolute, fresh, take_up, continuing, scratch })
    }
}

/// A job that is ready to run: everything was checked, nothing was called.
pub struct PreparedJob {
    prepared: Prepared,
    files: JobPaths,
    /// What was kept of a stream, before it has its name.
    fresh: Option<TempPath>,
    take_up: TakeUp,
    continuing: bool,
    scratch: bool,
}

impl PreparedJob {
    /// How many rows [`Self::open`] would have called. Refuses what that refuses, and changes nothing.
    ///
    /// # Errors
    ///
    /// Fails where the journal cannot be read, or holds another job.
    pub fn check(&self, observer: &mut dyn Observer) -> Result<u64, JobError> {
        let selected = &self.prepared.validated.selected;
        let left =
            if self.continuing { self.take_up.check(&self.files, &self.prepared, observer)? } else { None };
        Ok(left.unwrap_or(selected.end - selected.start))
    }

    /// What the calls of so many rows will probably use, and how that was estimated, in one line.
    pub fn estimate(&self, rows: u64) -> String {
        self.prepared.estimate(rows)
    }

    /// Opens the journal, which no other process can from here on, and records the session's beginning.
    ///
    /// # Errors
    ///
    /// Fails where the journal is in use, cannot be read or written, or holds another job.
    pub fn open(self, observer: &mut dyn Observer) -> Result<OpenJob, JobError> {
        let Self { mut prepared, files, fresh, take_up, continuing, scratch } = self;
        let reopened = if continuing { take_up.reopen(&files, &prepared, observer)? } else { None };
        let opened = match reopened {
            Some(opened) => opened,
            None => {
                let give_way = continuing || take_up.begin == Begin::Anew;
                files::create(give_way, &files, &prepared, observer)?
            }
        };
        if let Some(interpreter) = &prepared.answerer.interpreter {
            interpreter.keep_from_children(opened.journal.descriptor());
        }
        // Only now: what was kept for an earlier job is its own until that is set aside and the journal is locked.
        if let Some(fresh) = fresh {
            files::keep(fresh, &files.spool)?;
            prepared.source.at.clone_from(&files.spool);
        }
        Ok(OpenJob { prepared, opened: Some(opened), files, scratch })
    }
}

/// A job whose journal is open. Dropping it ends Python's part of it, in bounded time.
pub struct OpenJob {
    prepared: Prepared,
    opened: Option<Opened>,
    files: JobPaths,
    scratch: bool,
}

impl OpenJob {
    /// Runs the session: calls the rows, records what becomes of them, writes the answers file and the report.
    ///
    /// # Errors
    ///
    /// Fails where a file cannot be written. What was answered is in the journal all the same:
    /// [`JobError::called`] tells whether there may be any.
    ///
    /// # Panics
    ///
    /// When it is called twice.
    #[allow(clippy::expect_used, reason = "a job has one session")]
    pub async fn run(
        &mut self,
        observer: &mut dyn Observer,
        control: &Control,
    ) -> Result<SessionEnd, JobError> {
        let opened = self.opened.take().expect("a session runs once");
        let mut session = Session::new(&self.prepared, opened, self.prepared.calls);
        session.scratch = self.scratch;
        let spooled = self.prepared.spec.stream;
        let end = session.run(&self.files, observer, control).await?;
        match &end.report {
            // The process ends at once.
            None => self.prepared.answerer.leave(),
            Some(report) if spooled && report.rows.ok == report.rows.total => {
                if let Err(error) = remove_spool(&self.files) {
                    observer.message(Level::Warning, &error.to_string());
                }
            }
            Some(_) => {}
        }
        Ok(end)
    }
}
