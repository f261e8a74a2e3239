//! The subcommand `worker`, which only the program itself runs: one of the processes of `--workers`.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::Builder;

use tokio::runtime;
use tracing_subscriber::EnvFilter;

use super::signals::outlive_file_size_limit;
use crate::bridge::python::interpreter;
use crate::bridge::remote::{Asking, Served};
use crate::bridge::workers::serve_coordinator;
use crate::job::order::{load, secrets};
use crate::secret::Secrets;

/// The word that makes the program a worker, in place of a subcommand. No help lists it.
pub(crate) const WORKER: &str = "worker";

/// The program that becomes a worker: this one, also if its file has been replaced or removed by now. A file that is
/// replaced later is run by the workers that start then, which refuse to serve another version.
pub(crate) fn worker_program() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    Some(if program.exists() { program } else { PathBuf::from("/proc/self/exe") })
}

/// Serves the program that has started this process, and returns the exit code. `arguments` hold the number of the
/// process of that program.
///
/// The signals that end a job keep their default effect, for that program has its own handlers, and looks after this
/// process.
pub(crate) fn worker(arguments: &[OsString]) -> u8 {
    match serve(arguments) {
        Ok(Served::Closed | Served::Refused) => 0,
        Ok(Served::Gone) => 1,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: failed to start a worker: {error}");
            1
        }
    }
}

fn serve(arguments: &[OsString]) -> io::Result<Served> {
    let parent = arguments.first().and_then(|number| number.to_str()?.parse().ok());
    let alone = || io::Error::other("`worker` is for the program itself, with `--workers`");
    let parent = parent.ok_or_else(alone)?;
    // One thread is enough: the event loop has its own.
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let within = runtime.enter();
    let _outlive = outlive_file_size_limit()?;
    drop(within);
    let logged = log();
    let start = move |order: &[u8], asking: Asking| {
        show(logged, secrets(order)?, asking.clone())?;
        load(order, asking)
    };
    let served = runtime.block_on(serve_coordinator(parent, start, interpreter::end));
    // A thread that is still blocked must not delay the end of the process.
    runtime.shutdown_background();
    served
}

/// Starts logging, and returns what is logged. The program shows it, for standard error may have a bar or be JSON.
pub(super) fn log() -> Receiver<Vec<u8>> {
    let (sender, logged) = channel();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    let subscriber =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(move || Lines(sender.clone()));
    let _ = subscriber.with_ansi(false).without_time().try_init();
    logged
}

/// Has the program show what is logged, with secrets masked, on a thread that may block.
pub(super) fn show(logged: Receiver<Vec<u8>>, secrets: Secrets, asking: Asking) -> Result<(), String> {
    let show = move || logged.iter().for_each(|line| asking.print(&secrets.mask_bytes(&line)));
    let thread = Builder::new().name("log".into()).spawn(show);
    thread.map(drop).map_err(|error| format!("failed to start a thread: {error}"))
}

/// Passes on what is logged, a line at a time.
struct Lines(Sender<Vec<u8>>);

impl Write for Lines {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        // Fails once nobody shows it.
        let _ = self.0.send(text.to_vec());
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
