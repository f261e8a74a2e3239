//! Standard error as one thing that progress and log lines share, so that neither tears the other.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::MultiProgress;

/// A handle to standard error and the bar drawn there; clones share both.
///
/// As a [`Write`] it takes the bar away, writes, and draws the bar again: hand a clone to `tracing`'s subscriber as
/// its writer. A reader that has gone away is no error.
#[derive(Clone)]
pub struct Screen {
    bars: MultiProgress,
    out: Arc<Mutex<dyn Write + Send>>,
}

impl Screen {
    /// The process's standard error.
    pub fn stderr() -> Self {
        Self::new(MultiProgress::new(), io::stderr())
    }

    /// Any other place, with the bars drawn there.
    pub fn new(bars: MultiProgress, out: impl Write + Send + 'static) -> Self {
        Self { bars, out: Arc::new(Mutex::new(out)) }
    }

    pub(super) fn bars(&self) -> &MultiProgress {
        &self.bars
    }

    /// Writes whole lines; what cannot be shown is dropped, for there is nowhere left to say so.
    pub(super) fn lines(&self, text: &str) {
        let _ = self.clone().write_all(format!("{text}\n").as_bytes());
    }
}

impl Write for Screen {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        match self.bars.suspend(|| out.write_all(text).and_then(|()| out.flush())) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
            _ => Ok(text.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What was written, for tests.
#[cfg(test)]
#[derive(Debug, Clone, Default)]
pub(super) struct Captured(Arc<Mutex<Vec<u8>>>);

#[cfg(test)]
impl Captured {
    pub(super) fn screen(&self) -> Screen {
        let hidden = indicatif::ProgressDrawTarget::hidden();
        Screen::new(MultiProgress::with_draw_target(hidden), self.clone())
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

#[cfg(test)]
impl Write for Captured {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
