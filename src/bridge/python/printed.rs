//! Passes what Python prints on to standard output and error with secrets masked.
//!
//! The streams are the process's, so the secrets of all jobs that are alive are masked in whatever is printed, no
//! matter by which job.

use std::borrow::Cow;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::{forked, guest, helpers};
use crate::secret::Secrets;

/// For how long the end of what was printed is held back if it may be the beginning of a secret.
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
    /// When the last of the bytes came.
    at: Option<Instant>,
    /// The secrets to be masked in the bytes.
    secrets: Option<Arc<Secrets>>,
}

/// The secrets of each job.
#[derive(Debug, Default)]
struct Jobs {
    next: u64,
    alive: Vec<(u64, Secrets)>,
    /// Those of jobs that have ended: unmasked since, until the exit functions run, in which such a job may still
    /// print.
    ended: Secrets,
    masks_ended: bool,
}

/// Shows what is printed in place of both streams, if the program itself draws on them.
static SHOW: OnceLock<Show> = OnceLock::new();
/// By the number of its descriptor less one.
static STREAMS: [Stream; 2] = [Stream::new(rustix::stdio::stdout), Stream::new(rustix::stdio::stderr)];
static JOBS: LazyLock<Mutex<Jobs>> = LazyLock::new(Mutex::default);
/// The union of the secrets of [`JOBS`], twice. It is changed by threads that do not hold the interpreter's lock, so
/// one of the two may be locked when another thread forks, and stays so in the child. Never are both.
static MASKED: LazyLock<[Mutex<Arc<Secrets>>; 2]> = LazyLock::new(Default::default);
/// Wakes the thread that lets go of what is held back.
static RELEASER: LazyLock<Sender<()>> = LazyLock::new(releaser);

/// Masks a job's secrets in all that Python prints, for as long as it lives.
#[derive(Debug)]
pub struct Masking(u64);

impl Masking {
    pub(super) fn new(secrets: &Secrets) -> Self {
        let mut jobs = lock(&JOBS);
        let id = jobs.next;
        jobs.next += 1;
        jobs.alive.push((id, secrets.clone()));
        jobs.publish();
        Self(id)
    }

    /// Adds the secrets that have come into the environment since.
    pub(super) fn add_environment(&self) {
        let mut jobs = lock(&JOBS);
        let own = jobs.alive.iter_mut().filter(|(id, _)| *id == self.0);
        own.for_each(|(_, secrets)| secrets.add_environment());
        jobs.publish();
    }
}

impl Drop for Masking {
    fn drop(&mut self) {
        let mut jobs = lock(&JOBS);
        if let Some(place) = jobs.alive.iter().position(|(id, _)| *id == self.0) {
            let (_, secrets) = jobs.alive.remove(place);
            jobs.ended.extend(&secrets);
            jobs.publish();
        }
    }
}

impl Jobs {
    fn publish(&self) {
        let mut all = if self.masks_ended { self.ended.clone() } else { Secrets::default() };
        self.alive.iter().for_each(|(_, secrets)| all.extend(secrets));
        // Now, and not when something is printed: a child that is forked meanwhile would wait for it.
        all.prepare();
        let all = Arc::new(all);
        MASKED.iter().for_each(|masked| *lock(masked) = Arc::clone(&all));
    }
}

/// Masks the secrets of ended jobs again, for the exit functions.
pub(super) fn mask_ended_jobs() {
    let mut jobs = lock(&JOBS);
    jobs.masks_ended = true;
    jobs.publish();
}

/// What is masked now.
fn masked() -> Arc<Secrets> {
    loop {
        // See [`MASKED`].
        if let Some(masked) = MASKED.iter().find_map(|masked| masked.try_lock().ok()) {
            return Arc::clone(&masked);
        }
        std::thread::yield_now();
    }
}

/// Has all that Python prints shown by `show` instead of written. The streams are the process's: only the first call
/// has an effect.
pub(super) fn show_by(show: Show) {
    let _ = SHOW.set(show);
    if guest::is_guest() {
        let taken = Python::attach(|py| take_streams(py, true));
        if let Err(error) = taken {
            tracing::warn!("what is printed will not be shown: {error}");
        }
    }
}

/// Writes to standard error. If another program runs the interpreter, that is what it takes for it, such as a cell of
/// a notebook.
pub fn tell(bytes: &[u8]) {
    let told = guest::is_guest().then(|| {
        Python::try_attach(|py| {
            let stream = py.import("sys")?.getattr("stderr")?;
            stream.call_method1("write", (String::from_utf8_lossy(bytes),))?;
            stream.call_method0("flush").map(drop)
        })
    });
    if !matches!(told, Some(Some(Ok(())))) {
        // There is nobody to report an error to.
        let _ = write_all(rustix::stdio::stderr(), bytes);
    }
}

/// Puts this file below both of Python's streams, unless it is there already. If another program runs the interpreter,
/// it is put there when a job starts.
pub(super) fn cover(py: Python<'_>) -> PyResult<()> {
    let streams = helpers::module(py, "printed")?;
    if guest::is_guest() {
        return streams.call_method1("veil_with", (wrap_pyfunction!(mask, py)?,)).map(drop);
    }
    take_streams(py, false)
}

/// Puts this file below both of Python's streams, for good, unless it is there already. Streams that are none of
/// Python's own kind stay as they are, unless `any_stream` is set.
fn take_streams(py: Python<'_>, any_stream: bool) -> PyResult<()> {
    let arguments = (wrap_pyfunction!(write, py)?, any_stream);
    helpers::module(py, "printed")?.call_method1("mask", arguments).map(drop)
}

/// Draws the veil anew, if another program runs the interpreter: whatever a job has imported may have put streams of
/// its own in place of Python's.
pub(super) fn cover_again(py: Python<'_>) -> PyResult<()> {
    if guest::is_guest() && SHOW.get().is_none() {
        return helpers::module(py, "printed")?.call_method0("veil").map(drop);
    }
    take_streams(py, false)
}

/// The bytes with secrets masked; None if there are none in them.
#[pyfunction]
fn mask<'py>(py: Python<'py>, bytes: &[u8]) -> Option<Bound<'py, PyBytes>> {
    match masked().mask_bytes(bytes) {
        Cow::Borrowed(_) => None,
        Cow::Owned(masked) => Some(PyBytes::new(py, &masked)),
    }
}

/// Lets go of what is held back before each fork, and marks the child. Call it once.
pub(super) fn let_go_at_forks(py: Python<'_>) -> PyResult<()> {
    LazyLock::force(&MASKED);
    let functions = (wrap_pyfunction!(forked::mark, py)?, wrap_pyfunction!(release, py)?);
    helpers::module(py, "forks")?.call_method1("watch", functions).map(drop)
}

/// Takes bytes printed on a descriptor, 1 or 2; returns their number.
#[pyfunction]
fn write(py: Python<'_>, descriptor: usize, bytes: &[u8]) -> io::Result<usize> {
    let secrets = masked();
    let Some(stream) = descriptor.checked_sub(1).and_then(|index| STREAMS.get(index)) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    // A forked child has no thread that lets go of anything, and a lock may be held by a thread that it does not have.
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

/// Lets go of what is held back, before a fork and at the end of the process.
#[pyfunction]
pub(super) fn release() {
    if !forked::is_child() {
        for stream in &STREAMS {
            // Whoever holds the lock is writing, perhaps for ever.
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

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        // A forked child has no progress bar, and inherits locks that nobody will open.
        if let Some(show) = SHOW.get().filter(|_| !forked::is_child()) {
            show(bytes);
            return Ok(());
        }
        write_all((self.to)(), bytes)
    }

    fn release(&self, held: &mut Held) {
        let bytes = std::mem::take(&mut held.bytes);
        held.at = None;
        // The beginning of a longer secret may be a shorter secret. There is nobody to report an error to.
        if let Some(secrets) = held.secrets.take() {
            let _ = self.write(&secrets.mask_bytes(&bytes));
        }
    }
}

fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
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
    // If the thread cannot be started, the next output lets go, or the end of the process.
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
