//! Sets up logging to standard error, among the messages.

use std::io::{self, Write};

use tracing_subscriber::EnvFilter;

use crate::cli::command::show::ShowOptions;
use crate::environment::locked;
use crate::observe::Level;
use crate::report::progress::{Form, Screen, message_line};
use crate::secret::Secrets;

/// Starts logging to standard error, with secrets masked. `RUST_LOG` chooses what is logged; without it, warnings are,
/// and more with `-v`.
pub(super) fn start(show: Option<&ShowOptions>, screen: &Screen) {
    let verbose = show.map_or(0, |show| show.verbose);
    let form = show.map_or(Form::Text, |show| show.progress.form());
    let level = ["warn", "info", "debug"][usize::from(verbose.min(2))];
    let filter = locked(EnvFilter::try_from_default_env).unwrap_or_else(|_| EnvFilter::new(level));
    let masked = Masked { screen: screen.clone(), form, secrets: Secrets::from_environment() };
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(move || masked.clone());
    // Fails only where a test has set one up already.
    let _ = subscriber.with_ansi(false).without_time().try_init();
}

/// Standard error, with secrets masked.
#[derive(Clone)]
struct Masked {
    screen: Screen,
    form: Form,
    secrets: Secrets,
}

impl Write for Masked {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let line = String::from_utf8_lossy(text);
        let line = self.secrets.mask(&line);
        match self.form {
            Form::Text => self.screen.write_all(line.as_bytes())?,
            Form::Json => self.screen.lines(&message_line(Level::Warning, line.trim())),
        }
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.screen.flush()
    }
}
