//! A terminal of a given width, for the program to write on.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// A pseudo-terminal that is read all the time, because its buffer is small and a program that fills it has to wait.
pub(crate) struct Terminal {
    path: PathBuf,
    read: JoinHandle<Vec<u8>>,
}

impl Terminal {
    /// Opens a terminal with this many columns.
    pub(crate) fn new(columns: u16) -> Self {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        let size = Winsize { ws_row: 50, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&terminal, size).unwrap();
        let path = PathBuf::from(ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap());
        let read = std::thread::spawn(move || {
            let mut text = Vec::new();
            // A terminal reports its end as an error, once every writer has gone.
            let _ = File::from(terminal).read_to_end(&mut text);
            text
        });
        Self { path, read }
    }

    /// The file that programs write to.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What was written, once nobody can write any more.
    pub(crate) fn text(self) -> String {
        String::from_utf8(self.read.join().unwrap()).unwrap().replace("\r\n", "\n")
    }
}
