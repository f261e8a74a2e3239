//! What Python prints, on its way to standard output and error, without secrets. Not what the program itself says.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use pyo3::prelude::*;

use super::{forked, helpers};
use crate::secret::Secrets;

/// How long the end of what was printed is held back where it may be the beginning of a secret.
const PATIENCE: Duration = Duration::from_millis(100);

/// Shows what Python prints.
pub type Show = Box<dyn Fn(&[u8]) + Send + Sync>;

/// One of the two streams.
#[derive(Debug)]
struct Stream {
    to: fn() -> BorrowedFd<'static>,
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    bytes: Vec<u8>,
    /// When the last of them came.
    at: Option<Instant>,
    /// What is masked in them.
    secrets: Option<Arc<Secrets>>,
}

/// In place of both, where the program itself draws on them.
static SHOW: OnceLock<Show> = OnceLock::new();
/// By the number of its descriptor less one.
static STREAMS: [Stream; 2] = [Stream::new(rustix::stdio::stdout), Stream::new(rustix::stdio::stderr)];
/// Locked with the interpreter's lock held alone, so never while another thread forks.
static SECRETS: LazyLock<Mutex<Arc<Secrets>>> = LazyLock::new(Mutex::default);
/// Wakes the thread that lets go of what is held.
static RELEASER: LazyLock<Sender<()>> = LazyLock::new(releaser);

/// Has all that is printed shown by `show` instead of written.
pub(super) fn show_by(show: Show) {
    let _ = SHOW.set(show);
}

/// Masks these secrets in all that Python prints from now on, instead of those named before.
pub(super) fn mask(py: Python<'_>, secrets: &Secrets) -> PyResult<()> {
    *lock(&SECRETS) = Arc::new(secrets.clone());
    let streams = helpers::module(py, "printed")?;
    streams.call_method1("mask", (wrap_pyfunction!(write, py)?,)).map(drop)
}

/// Lets what is held back go before each fork, and marks the child.
pub(super) fn let_go_at_forks(py: Python<'_>) -> PyResult<()> {
    let functions = (wrap_pyfunction!(forked::mark, py)?, wrap_pyfunction!(release, py)?);
    helpers::module(py, "forks")?.call_method1("watch", functions).map(drop)
}

/// Takes bytes for a descriptor, 1 or 2; returns how many.
#[pyfunction]
fn write(py: Python<'_>, descriptor: usize, bytes: &[u8]) -> io::Result<usize> {
    let secrets = Arc::clone(&lock(&SECRETS));
    let Some(stream) = descriptor.checked_sub(1).and_then(|index| STREAMS.get(index)) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    // In a forked child no thread lets go of anything, and the lock may be one's that is not there.
    if forked::is_child() {
        stream.write(&secrets.mask_bytes(bytes))?;
        return Ok(bytes.len());
    }
    py.detach(|| {
        let mut held = lock(&stream.held);
        held.bytes.extend_from_slice(bytes);
        let all = std::mem::take(&mut held.bytes);
        let (shown, rest) = secrets.mask_stream(&all);
        held.bytes = rest.to_vec();
        held.at = (!rest.is_empty()).then(Instant::now);
        if held.at.is_some() {
            held.secrets = Some(Arc::clone(&secrets));
            let _ = RELEASER.send(());
        }
        stream.write(&shown)
    })?;
    Ok(bytes.len())
}

/// Lets go of what is held back: before a fork, and at the end.
#[pyfunction]
pub(super) fn release() {
    if !forked::is_child() {
        for stream in &STREAMS {
            // Whoever has it writes, perhaps for ever.
            if let Ok(mut held) = stream.held.try_lock() {
                stream.release(&mut held);
            }
        }
    }
}

impl Stream {
    const fn new(to: fn() -> BorrowedFd<'static>) -> Self {
        Self { to, held: Mutex::new(Held { bytes: Vec::new(), at: None, secrets: None }) }
    }

    fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        // A forked child has no bar, and locks that nobody opens any more.
        if let Some(show) = SHOW.get().filter(|_| !forked::is_child()) {
            show(bytes);
            return Ok(());
        }
        while !bytes.is_empty() {
            match rustix::io::write((self.to)(), bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn release(&self, held: &mut Held) {
        let bytes = std::mem::take(&mut held.bytes);
        held.at = None;
        // The beginning of a longer secret may be a shorter one. Nobody is left to be told of an error.
        if let Some(secrets) = held.secrets.take() {
            let _ = self.write(&secrets.mask_bytes(&bytes));
        }
    }
}

fn releaser() -> Sender<()> {
    let (sender, inbox) = channel();
    let release = move || {
        while inbox.recv().is_ok() {
            for stream in &STREAMS {
                stream.release_in_time();
            }
        }
    };
    // Where it cannot be started, the next output or the end lets go.
    let _ = std::thread::Builder::new().name("printed".into()).spawn(release);
    sender
}

impl Stream {
    fn release_in_time(&self) {
        loop {
            let mut held = lock(&self.held);
            let Some(at) = held.at else { return };
            match PATIENCE.checked_sub(at.elapsed()) {
                None => self.release(&mut held),
                Some(left) => {
                    drop(held);
                    std::thread::sleep(left);
                }
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
