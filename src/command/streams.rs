//! Standard output for the summary alone: what Python, or a library in C below it, prints goes to standard error.

use std::fs::File;
use std::io::{self, IsTerminal};

use crate::config::options::ShowOptions;
use crate::report::progress::{Reporter, Screen, reporter};
use crate::report::text::{Look, show};

/// Columns where no terminal tells its own.
const WIDTH: usize = 80;

/// The process's streams.
pub struct Streams {
    out: File,
    /// Standard error, shared by progress, messages and logs.
    pub screen: Screen,
}

impl Streams {
    /// Keeps the real standard output for [`Self::say`] and points the process's at standard error.
    pub fn take() -> io::Result<Self> {
        let out = File::from(rustix::io::dup(io::stdout())?);
        rustix::stdio::dup2_stdout(io::stderr())?;
        Ok(Self { out, screen: Screen::stderr() })
    }

    /// How text on standard output looks.
    pub fn look(&self, options: &ShowOptions) -> Look {
        // Of the real standard output: the process's own is standard error by now.
        let size = rustix::termios::tcgetwinsize(&self.out);
        let width = size.map_or(0, |size| usize::from(size.ws_col));
        let width = if width == 0 { WIDTH } else { width };
        Look { color: options.colored(self.out.is_terminal()), width }
    }

    /// Writes to standard output.
    pub fn print(&mut self, text: &str) -> io::Result<()> {
        show(&mut self.out, text).map_err(|error| {
            io::Error::new(error.kind(), format!("failed to write to standard output: {error}"))
        })
    }

    /// Writes to standard output; nothing when quiet. A reader that has gone away is no error.
    pub fn say(&mut self, options: &ShowOptions, text: &str) -> io::Result<()> {
        if options.quiet { Ok(()) } else { self.print(text) }
    }

    /// The reporter of progress, on standard error.
    pub fn reporter(&self, options: &ShowOptions) -> Box<dyn Reporter> {
        let is_terminal = io::stderr().is_terminal();
        reporter(options.progress, &self.screen, is_terminal, options.quiet, options.colored(is_terminal))
    }
}
