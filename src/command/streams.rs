//! Standard output for the summary alone: what Python, or a library in C below it, prints goes to standard error.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::path::PathBuf;

use console::Term;
use indicatif::MultiProgress;

use super::show::ShowOptions;
use crate::bridge::python::interpreter::Show;
use crate::job::paths::JobPaths;
use crate::observe::{Level, Observer};
use crate::report::commands::Commands;
use crate::report::progress::{Form, Screen, Showing, Standing, Written, message_line, observer};
use crate::report::text::{Look, escape_lines, show};

/// Columns where no terminal tells its own.
const WIDTH: usize = 80;

/// The process's streams.
pub(crate) struct Streams {
    out: File,
    /// Standard error, shared by progress, messages and logs.
    pub screen: Screen,
    /// The commands that hints name.
    pub commands: Commands,
    /// How the run stands.
    pub standing: Standing,
    /// For whom standard error is written.
    form: Form,
    /// The job's files, as far as they are written.
    pub files: JobFiles,
}

/// A job's files, as far as they are written.
#[derive(Debug, Default)]
pub(crate) struct JobFiles {
    /// Its answers and its journal.
    pub paths: Option<JobPaths>,
    /// Whether the answers and the report are of this session.
    pub reported: bool,
    /// The page, where it was written.
    pub page: Option<PathBuf>,
}

/// The process's standard error.
pub(crate) fn stderr() -> Screen {
    Screen::new(MultiProgress::new(), io::stderr(), || usize::from(Term::stderr().size().1))
}

impl Streams {
    /// Keeps the real standard output for [`Self::say`] and points the process's at standard error.
    pub(crate) fn take(commands: Commands, form: Form) -> io::Result<Self> {
        let out = File::from(rustix::io::dup(io::stdout())?);
        rustix::stdio::dup2_stdout(io::stderr())?;
        let screen = stderr();
        let standing = Standing::new(screen.clone(), form);
        Ok(Self { out, screen, commands, standing, form, files: JobFiles::default() })
    }

    /// What shows Python's prints, where its own streams would tear what is on standard error.
    pub(super) fn show(&self, options: &ShowOptions) -> Option<Show> {
        let (screen, form) = (self.screen.clone(), self.form);
        let torn = form == Form::Json || showing(options).has_bar();
        torn.then(|| Box::new(move |text: &[u8]| screen.print(text, form)) as Show)
    }

    /// Says what went wrong for good.
    pub(crate) fn complain(&self, error: &str) {
        complain(&self.screen, &self.commands, self.form, error);
    }

    /// Says, from any thread, why the process ends without the one that runs the job.
    pub(super) fn last_words(&self, journal: Option<PathBuf>) -> impl FnOnce(u8, &str) + Send + use<> {
        let (screen, commands, form) = (self.screen.clone(), self.commands.clone(), self.form);
        let standing = self.standing.clone();
        move |code, error| {
            complain(&screen, &commands, form, error);
            let journal = journal.as_deref().filter(|journal| journal.exists());
            standing.end(code, Written { journal, ..Written::default() });
        }
    }

    /// Says how a job's process ends, to programs.
    pub(crate) fn finish(&self, code: u8) {
        let (paths, reported) = (self.files.paths.as_ref(), self.files.reported);
        let written = Written {
            answers: paths.filter(|_| reported).map(|paths| &*paths.answers),
            journal: paths.map(|paths| &*paths.journal),
            report: paths.filter(|_| reported).map(|paths| &*paths.report),
            page: self.files.page.as_deref(),
        };
        self.screen.end_line(self.form);
        self.standing.end(code, written);
    }

    /// How text on standard output looks.
    pub(crate) fn look(&self, options: &ShowOptions) -> Look {
        // Of the real standard output: the process's own is standard error by now.
        let size = rustix::termios::tcgetwinsize(&self.out);
        let width = size.map_or(0, |size| usize::from(size.ws_col));
        let width = if width == 0 { WIDTH } else { width };
        Look { color: options.colored(self.out.is_terminal()), width }
    }

    /// Writes to standard output.
    pub(crate) fn print(&mut self, text: &str) -> io::Result<()> {
        show(&mut self.out, text).map_err(|error| {
            io::Error::new(error.kind(), format!("failed to write to standard output: {error}"))
        })
    }

    /// Writes to standard output; nothing when quiet. A reader that has gone away is no error.
    pub(crate) fn say(&mut self, options: &ShowOptions, text: &str) -> io::Result<()> {
        if options.quiet { Ok(()) } else { self.print(text) }
    }

    /// What shows a run's progress and messages on standard error.
    pub(crate) fn observer(&self, options: &ShowOptions) -> Box<dyn Observer> {
        Box::new(observer(showing(options), &self.screen, &self.standing, &self.commands))
    }
}

fn complain(screen: &Screen, commands: &Commands, form: Form, error: &str) {
    let error = commands.in_hints(error);
    match form {
        Form::Json => screen.lines(&message_line(Level::Error, &error)),
        Form::Text => screen.lines(&format!("error: {}", escape_lines(&error))),
    }
}

/// What the options say of standard error.
fn showing(options: &ShowOptions) -> Showing {
    let is_terminal = io::stderr().is_terminal();
    Showing {
        kind: options.progress,
        is_terminal,
        quiet: options.quiet,
        verbose: options.verbose,
        color: options.colored(is_terminal),
    }
}
