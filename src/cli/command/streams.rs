//! The process's standard streams. Standard output is kept for the summary: what Python or a C library prints goes to
//! standard error instead.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal};
use std::path::PathBuf;

use indicatif::MultiProgress;

use super::show::ShowOptions;
use crate::bridge::python::interpreter::Show;
use crate::environment;
use crate::job::paths::JobPaths;
use crate::observe::{Level, Observer};
use crate::report::commands::Commands;
use crate::report::progress::{
    Form, Screen, Showing, Standing, Written, message_line, observer, stderr_columns,
};
use crate::report::text::{Look, escape_lines, show};

/// The width in columns if standard output is no terminal.
const WIDTH: usize = 80;

/// The process's standard streams, and what the last lines on them need.
pub(crate) struct Streams {
    /// The words that the program was called with.
    pub arguments: Vec<OsString>,
    out: File,
    /// Standard error, shared by progress, messages and logs.
    pub screen: Screen,
    /// The commands that hints name.
    pub commands: Commands,
    /// The current state of the run.
    pub standing: Standing,
    /// Whether standard error is written for people or for programs.
    form: Form,
    /// Whether `NO_COLOR` is set.
    no_color: bool,
    /// The files that the job has written so far.
    pub files: JobFiles,
}

/// The files that a job has written so far.
#[derive(Debug, Default)]
pub(crate) struct JobFiles {
    /// The job's files; `None` before its journal is open.
    pub paths: Option<JobPaths>,
    /// Whether the answers and the report were written.
    pub reported: bool,
    /// The page, if it was written.
    pub page: Option<PathBuf>,
}

/// The process's standard error, as a screen.
pub(crate) fn stderr() -> Screen {
    Screen::new(MultiProgress::new(), io::stderr(), stderr_columns)
}

impl Streams {
    /// Keeps standard output for [`Self::print`], and redirects everything else that is written to it to standard
    /// error.
    ///
    /// # Errors
    ///
    /// Fails if the file descriptors cannot be duplicated.
    pub(crate) fn take(arguments: Vec<OsString>, commands: Commands, form: Form) -> io::Result<Self> {
        let out = File::from(rustix::io::dup(io::stdout())?);
        rustix::stdio::dup2_stdout(io::stderr())?;
        let screen = stderr();
        let standing = Standing::new(screen.clone(), form);
        let no_color = environment::variable("NO_COLOR").is_some_and(|value| !value.is_empty());
        Ok(Self { arguments, out, screen, commands, standing, form, no_color, files: JobFiles::default() })
    }

    /// Shows what Python prints, if its own writes would break a progress bar or JSON lines on standard error.
    pub(super) fn show(&self, options: &ShowOptions) -> Option<Show> {
        let (screen, form) = (self.screen.clone(), self.form);
        let torn = form == Form::Json || self.showing(options).has_bar();
        torn.then(|| Box::new(move |text: &[u8]| screen.print(text, form)) as Show)
    }

    /// Writes the error that ends the program to standard error.
    pub(crate) fn complain(&self, error: &str) {
        complain(&self.screen, &self.commands, self.form, error);
    }

    /// Returns what another thread calls to report why the process ends, when the thread that runs the job cannot.
    pub(crate) fn last_words(&self, journal: Option<PathBuf>) -> impl FnOnce(u8, &str) + Send + use<> {
        let (screen, commands, form) = (self.screen.clone(), self.commands.clone(), self.form);
        let standing = self.standing.clone();
        move |code, error| {
            complain(&screen, &commands, form, error);
            let journal = journal.as_deref().filter(|journal| journal.exists());
            standing.end(code, Written { journal, ..Written::default() });
        }
    }

    /// Tells programs that read standard error how the job ended.
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

    /// The colours and the width of text on standard output.
    pub(crate) fn look(&self, options: &ShowOptions) -> Look {
        // Asks the standard output that was kept: the process's own is standard error by now.
        let size = rustix::termios::tcgetwinsize(&self.out);
        let width = size.map_or(0, |size| usize::from(size.ws_col));
        let width = if width == 0 { WIDTH } else { width };
        Look { color: options.colored(self.out.is_terminal() && !self.no_color), width }
    }

    /// Writes to standard output. It is no error if its reader has gone away.
    ///
    /// # Errors
    ///
    /// Fails if standard output cannot be written to.
    pub(crate) fn print(&mut self, text: &str) -> io::Result<()> {
        show(&mut self.out, text).map_err(|error| {
            io::Error::new(error.kind(), format!("failed to write to standard output: {error}"))
        })
    }

    /// As [`Self::print`], but writes nothing with `--quiet`.
    ///
    /// # Errors
    ///
    /// Fails if standard output cannot be written to.
    pub(crate) fn say(&mut self, options: &ShowOptions, text: &str) -> io::Result<()> {
        if options.quiet { Ok(()) } else { self.print(text) }
    }

    /// An observer that shows progress and messages on standard error.
    pub(crate) fn observer(&self, options: &ShowOptions) -> Box<dyn Observer> {
        Box::new(observer(self.showing(options), &self.screen, &self.standing, &self.commands))
    }

    /// How the options want standard error to be written.
    fn showing(&self, options: &ShowOptions) -> Showing {
        let is_terminal = io::stderr().is_terminal();
        Showing {
            kind: options.progress,
            is_terminal,
            quiet: options.quiet,
            verbose: options.verbose,
            color: options.colored(is_terminal && !self.no_color),
        }
    }
}

fn complain(screen: &Screen, commands: &Commands, form: Form, error: &str) {
    let error = commands.in_hints(error);
    match form {
        Form::Json => screen.lines(&message_line(Level::Error, &error)),
        Form::Text => screen.lines(&format!("error: {}", escape_lines(&error))),
    }
}
