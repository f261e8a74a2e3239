//! Standard error, shared by progress, log lines and what Python prints, so that none of them tears another.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::MultiProgress;

use super::Form;
use super::line::Line;

/// A longer line that Python prints, in bytes, is shown in parts.
const LONGEST_LINE: usize = 64 << 10;

/// A handle to standard error and the bar drawn there. Clones share both.
///
/// As a [`Write`] it removes the bar, writes, and draws the bar again, so that a clone can be the writer of `tracing`'s
/// subscriber. A reader that has gone away is not an error.
#[derive(Clone)]
pub(crate) struct Screen {
    bars: MultiProgress,
    out: Arc<Mutex<dyn Write + Send>>,
    columns: fn() -> usize,
    /// Whether a bar is drawn.
    drawn: Arc<AtomicBool>,
    /// The beginning of a line that Python has not ended yet.
    begun: Arc<Mutex<Vec<u8>>>,
}

impl Screen {
    /// A place such as standard error, with a function that tells its columns. `bars` are drawn there.
    pub(crate) fn new(bars: MultiProgress, out: impl Write + Send + 'static, columns: fn() -> usize) -> Self {
        let out = Arc::new(Mutex::new(out));
        Self { bars, out, columns, drawn: Arc::default(), begun: Arc::default() }
    }

    pub(super) fn bars(&self) -> &MultiProgress {
        &self.bars
    }

    /// Tells the columns that it has now.
    pub(super) fn columns(&self) -> fn() -> usize {
        self.columns
    }

    /// Sets whether a bar is drawn from now on.
    pub(super) fn draws(&self, drawn: bool) {
        self.drawn.store(drawn, Ordering::Relaxed);
    }

    /// Writes whole lines. An error is ignored, for there is nowhere left to report it.
    pub(crate) fn lines(&self, text: &str) {
        let _ = self.clone().write_all(format!("{text}\n").as_bytes());
    }

    /// Shows what Python prints. Below a bar, and as JSON, the beginning of a line is kept until the line has ended.
    pub(crate) fn print(&self, text: &[u8], form: Form) {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        begun.extend_from_slice(text);
        let whole = form == Form::Json || self.drawn.load(Ordering::Relaxed);
        let ended = match begun.iter().rposition(|byte| *byte == b'\n') {
            _ if !whole || begun.len() > LONGEST_LINE => begun.len(),
            Some(last) => last + 1,
            None => return,
        };
        let lines: Vec<u8> = begun.drain(..ended).collect();
        self.show(&lines, form);
    }

    /// Shows the beginning of a line that will not be ended any more.
    pub(crate) fn end_line(&self, form: Form) {
        let begun = std::mem::take(&mut *self.begun.lock().unwrap_or_else(PoisonError::into_inner));
        self.show(&begun, form);
    }

    fn show(&self, text: &[u8], form: Form) {
        if form == Form::Json {
            let text = String::from_utf8_lossy(text);
            text.lines().for_each(|line| self.lines(&Line::Output { text: line }.text()));
        } else if !text.is_empty() {
            let _ = self.clone().write_all(text);
        }
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

/// Keeps what is written, for tests.
#[cfg(test)]
#[derive(Debug, Clone, Default)]
pub(super) struct Captured(Arc<Mutex<Vec<u8>>>);

#[cfg(test)]
impl Captured {
    pub(super) fn screen(&self) -> Screen {
        let hidden = indicatif::ProgressDrawTarget::hidden();
        Screen::new(MultiProgress::with_draw_target(hidden), self.clone(), || 80)
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
