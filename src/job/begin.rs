//! The steps of a session: [`Job`], [`PreparedJob`], [`OpenJob`].

use std::path::PathBuf;
use std::sync::Arc;

use tempfile::TempPath;

use super::done::Done;
use super::error::{ErrorKind, JobError, refuse};
use super::estimate::Estimated;
use super::files::{self, remove_spool};
use super::paths::JobPaths;
use super::prepare::{Prepared, Preparing};
use super::prints::Prints;
use super::resume::{Begin, TakeUp};
use super::run::{Opened, Session, SessionEnd};
use super::spec::JobSpec;
use super::telling::{Stopped, Tell, Telling, apart};
use crate::bridge::python::predictor::PredictorObject;
use crate::journal::{Counts, Header};
use crate::observe::{Level, Observer};
use crate::run::control::Control;
use crate::selection::Rows;

/// Options of one session, which are not part of the job.
#[derive(Default)]
pub struct SessionOptions {
    /// The predictor if it is a Python object of this process. It takes the place of the spec's, and the job is
    /// recorded with its name.
    pub predictor: Option<PredictorObject>,
    /// The stream to read the rows from (`-` for standard input); `None` if the job's input is a file.
    pub stream: Option<PathBuf>,
    /// The rows in JSON Lines, if they come from memory: a file in the directory of the answers, which the job keeps as
    /// it keeps the copy of a stream.
    pub rows: Option<TempPath>,
    /// The name of the input in messages; `None` for [`JobSpec::input`].
    pub input: Option<PathBuf>,
    /// The answers file as the user named it, if the user did.
    pub output: Option<PathBuf>,
    /// How the session continues the run in the journal.
    pub take_up: TakeUp,
    /// Check everything, call nothing.
    pub dry_run: bool,
    /// Discard the job's files at the end, because nobody wants the answers.
    pub scratch: bool,
    /// Keep Python's libraries from logging a line for each call.
    pub quiet: bool,
    /// How what Python prints is shown.
    pub prints: Prints,
    /// The program that becomes a worker process if its arguments are `worker` and a number. It is needed for a job
    /// with worker processes, unless Python runs in this process.
    pub worker_program: Option<PathBuf>,
    /// The command line that started the session, for the journal and the report. Secrets in it are masked.
    pub argv: Vec<String>,
}

/// A session whose files were checked, and nothing else yet.
pub struct Job {
    spec: JobSpec,
    files: JobPaths,
    options: SessionOptions,
    /// Whether the journal holds a run to continue.
    continuing: bool,
}

impl Job {
    /// Begins a job, or continues the run that its journal holds, as `process` does. Writes nothing and calls nothing.
    ///
    /// # Errors
    ///
    /// Fails if a file of the job would replace one that must stay, if the directory of the answers cannot be written
    /// to, if the journal cannot be read, or if the spec names a Python object that `options` does not give.
    pub fn new(spec: JobSpec, files: JobPaths, options: SessionOptions) -> Result<Self, JobError> {
        let spec = spec.with(options.predictor.as_ref())?.anchored();
        let input = options.input.as_deref().unwrap_or(&spec.input);
        let output = options.output.as_deref().filter(|_| !options.scratch);
        let force = options.take_up.begin == Begin::Anew;
        let continuing = files::check(input, output, &spec, &files, force)?;
        Ok(Self { spec, files, options, continuing })
    }

    /// Continues the run in a journal, as `resume` does. [`recorded`](super::resume::recorded) reads the spec of that
    /// run.
    ///
    /// # Errors
    ///
    /// Fails if the run was given a secret or a Python object, which the journal does not keep, and `spec` or `options`
    /// does not give it again.
    pub fn resume(spec: JobSpec, files: JobPaths, options: SessionOptions) -> Result<Self, JobError> {
        if let Some(option) = spec.predictor.missing() {
            let text = format!(
                "the run was started with `{option}`; the secret in it is never written down: give it again"
            );
            return Err(JobError::new(ErrorKind::Usage, text));
        }
        let spec = spec.with(options.predictor.as_ref())?.anchored();
        let take_up = TakeUp { begin: Begin::Resume, ..options.take_up };
        let options = SessionOptions { take_up, ..options };
        Ok(Self { spec, files, options, continuing: true })
    }

    /// Returns the counts of the selected rows if nothing is left to do, without starting Python. `None` means that the
    /// job has to be prepared to know. Rows from a stream are read first.
    ///
    /// # Errors
    ///
    /// Fails if the journal or a saved program cannot be read, if `control` stops the reading, or if the job was started
    /// with a Python object and neither the spec nor the options give a predictor.
    pub async fn done(
        &mut self,
        observer: &mut dyn Observer,
        control: &Control,
    ) -> Result<Option<Counts>, JobError> {
        let Self { spec, files, options, continuing } = self;
        let take_up = options.take_up;
        if !*continuing || options.dry_run {
            return Ok(None);
        }
        if let Some(stream) = options.stream.take() {
            options.rows = Some(files::spooled(&stream, &files.spool, observer, control).await?);
        }
        let input = options.rows.as_deref().unwrap_or(&spec.input).to_owned();
        let done = Done { spec: spec.clone(), input, next: None, files: files.clone(), take_up };
        done.counts(control).await
    }

    /// The job's files, as they were named.
    pub fn files(&self) -> &JobPaths {
        &self.files
    }

    /// Whether [`Job::resume`] made it.
    pub fn resumes(&self) -> bool {
        self.options.take_up.begin == Begin::Resume
    }

    /// Whether the job's files are discarded at its end.
    pub fn is_scratch(&self) -> bool {
        self.options.scratch
    }

    /// Whether the report is also written as an HTML page.
    pub fn writes_page(&self) -> bool {
        self.spec.page.html && !self.options.scratch
    }

    /// The job as data.
    pub fn spec(&self) -> &JobSpec {
        &self.spec
    }

    /// Checks everything, starts Python and loads the predictor. Calls nothing. The observer is told what is about to
    /// run.
    ///
    /// # Errors
    ///
    /// Fails if the input cannot be read, the predictor cannot be loaded, an option does not fit the predictor, or
    /// `control` stops the job.
    pub async fn prepare(
        self,
        observer: &mut dyn Observer,
        control: &Control,
    ) -> Result<PreparedJob, JobError> {
        let Self { mut spec, files: named, options, continuing } = self;
        let absolute =
            named.absolute().map_err(|error| JobError::new(ErrorKind::Output, error.to_string()))?;
        let SessionOptions {
            predictor,
            stream,
            rows,
            input,
            take_up,
            dry_run,
            scratch,
            quiet,
            prints,
            worker_program,
            argv,
            ..
        } = options;
        let spooled = stream.is_some() || rows.is_some();
        let input = if spooled { Some(named.spool.clone()) } else { input };
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
        let mut fresh = rows;
        if let Some(stream) = stream {
            fresh = Some(files::spooled(&stream, &named.spool, observer, control).await?);
        }
        if let Some(fresh) = &fresh {
            spec.input.clone_from(&absolute.spool);
            source.at = fresh.to_path_buf();
        }
        let calls = spec.pace.calls();
        let files = Some(absolute.clone());
        let preparing =
            Preparing { spec, predictor, source, files, calls, dry_run, quiet, prints, worker_program, argv };
        let mut prepared = preparing.run(observer, control).await?;
        prepared.announce(observer);
        if fresh.is_some() {
            prepared.header.input.path = absolute.spool.to_string_lossy().into_owned();
        }
        Ok(PreparedJob { prepared, files: absolute, fresh, take_up, continuing, scratch })
    }
}

/// A session that is ready to run: everything was checked, and nothing was called.
pub struct PreparedJob {
    prepared: Prepared,
    files: JobPaths,
    /// The copy of a stream, until [`PreparedJob::open`] gives it its name.
    fresh: Option<TempPath>,
    take_up: TakeUp,
    continuing: bool,
    scratch: bool,
}

impl PreparedJob {
    /// Returns how many rows a run would call. Refuses what [`Self::open`] refuses, but changes nothing.
    ///
    /// # Errors
    ///
    /// Fails if the journal cannot be read or holds another job, or if `control` stops the reading.
    pub async fn check(
        self,
        observer: &mut dyn Observer,
        control: &Control,
    ) -> Result<(Self, u64), JobError> {
        let control = control.clone();
        let check = move |tell: &Tell| {
            let Self { prepared, files, take_up, .. } = &self;
            let left = if self.continuing {
                take_up.check(files, prepared, &mut Telling(tell), &control)?
            } else {
                None
            };
            let left = left.unwrap_or(prepared.validated.selected.len());
            Ok((self, left))
        };
        apart(check, observer).await
    }

    /// Returns what [`Job::done`] does. It also knows this of a predictor that is a Python object.
    ///
    /// # Errors
    ///
    /// Fails if the journal cannot be read, or if `control` stops the reading.
    pub async fn done(&self, control: &Control) -> Result<Option<Counts>, JobError> {
        if !self.continuing {
            return Ok(None);
        }
        let Prepared { spec, source, header, .. } = &self.prepared;
        let done = Done {
            spec: spec.clone(),
            input: source.at.clone(),
            next: Some(header.clone()),
            files: self.files.clone(),
            take_up: self.take_up,
        };
        done.counts(control).await
    }

    /// Estimates the tokens and the cost of calling this many rows.
    pub fn estimate(&self, rows: u64) -> Estimated {
        self.prepared.estimate(rows)
    }

    /// Opens and locks the journal, so that no other process can write to it, and records that the session began.
    ///
    /// # Errors
    ///
    /// Fails if the journal is in use, cannot be read or written, or holds another job, or if `control` stops the
    /// reading.
    pub async fn open(self, observer: &mut dyn Observer, control: &Control) -> Result<OpenJob, JobError> {
        let stopping = control.clone();
        let open = move |tell: &Tell| self.open_now(&mut Telling(tell), &|| stopping.asked().is_some());
        let opened = apart(open, observer).await;
        match opened {
            Err(_) if control.asked().is_some() => Err(JobError::stopped(control.next().await)),
            opened => opened,
        }
    }

    fn open_now(self, observer: &mut dyn Observer, stopped: Stopped<'_>) -> Result<OpenJob, JobError> {
        let Self { mut prepared, files, fresh, take_up, continuing, scratch } = self;
        if prepared.dry_run {
            return Err(JobError::new(ErrorKind::Usage, "a dry run calls nothing"));
        }
        let reopened = if continuing { take_up.reopen(&files, &prepared, observer, stopped)? } else { None };
        let opened = if let Some(opened) = reopened {
            opened
        } else {
            let give_way = continuing || take_up.begin == Begin::Anew;
            files::create(give_way, &files, &prepared, observer)?
        };
        if let Some(interpreter) = &prepared.answerer.interpreter {
            interpreter.keep_from_children(opened.journal.descriptor());
        }
        // Only now: until the journal is locked, the copy of a stream under that name belongs to an earlier job.
        if let Some(fresh) = fresh {
            files::keep(fresh, &files.spool)?;
            prepared.source.at.clone_from(&files.spool);
        }
        Ok(OpenJob { prepared, opened: Some(opened), files, scratch })
    }
}

/// A session whose journal is open. Dropping it ends its event loop and local model, in bounded time.
pub struct OpenJob {
    prepared: Prepared,
    opened: Option<Opened>,
    files: JobPaths,
    scratch: bool,
}

impl OpenJob {
    /// Runs the session: calls the predictor for each row, records each outcome, and writes the answers file and the
    /// report.
    ///
    /// # Errors
    ///
    /// Fails if a file cannot be written. The answers up to then are in the journal all the same, and
    /// [`JobError::called`] says whether any call was made.
    ///
    /// # Panics
    ///
    /// Panics if it is called twice.
    #[allow(clippy::expect_used, reason = "a job has one session")]
    pub async fn run(
        &mut self,
        observer: &mut dyn Observer,
        control: &Control,
    ) -> Result<SessionEnd, JobError> {
        // In a block of its own, or the future would keep room for what has moved into the session.
        let (index, mut session) = {
            let opened = self.opened.take().expect("a session runs once");
            let index = Arc::clone(opened.journal.index());
            (index, Session::new(&self.prepared, opened, self.prepared.calls))
        };
        session.scratch = self.scratch;
        let end = session.run(&self.files, observer, control).await?;
        // Also the rows that no session has selected yet: a later one may.
        let Header { input, selection, .. } = &self.prepared.header;
        let all = Rows::new(0..input.rows, selection.shard);
        if self.prepared.spec.stream
            && end.report.is_some()
            && index.count(all.iter()).ok == all.len()
            && let Err(error) = remove_spool(&self.files)
        {
            observer.message(Level::Warning, &error.to_string());
        }
        Ok(end)
    }

    /// Leaves everything running that dropping this would end, because the process is about to end.
    pub fn leave(&self) {
        self.prepared.answerer.leave();
    }
}
