//! A terminal of a given width, for the program to write on.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// A pseudo-terminal.
pub(crate) struct Terminal(File);

impl Terminal {
    /// One of so many columns.
    pub(crate) fn new(columns: u16) -> Self {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        let size = Winsize { ws_row: 50, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&terminal, size).unwrap();
        Self(terminal.into())
    }

    /// The file that programs write to.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(ptsname(&self.0, Vec::new()).unwrap().into_string().unwrap())
    }

    /// What was written, once nobody can write any more.
    pub(crate) fn text(mut self) -> String {
        let mut text = Vec::new();
        // The end is an error here: every writer has gone.
        let _ = self.0.read_to_end(&mut text);
        String::from_utf8(text).unwrap().replace("\r\n", "\n")
    }
}
