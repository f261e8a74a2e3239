//! The thread that Python takes for its main one: it starts the interpreter, runs an event loop, and the exit
//! functions.
//!
//! `signal.signal` works only there, and handlers run only there. The kernel delivers a process's signals to the
//! process's first thread unless that thread blocks them. So the program lends that thread to Python ([`lend`]), and a
//! handler can interrupt a wait in C too.
//!
//! Of several event loops at once, the first has the main thread and each of the others a thread of its own. In a
//! process whose interpreter another program runs, all have.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread::Builder;

use super::latch::Latch;
use super::{guest, printed};

/// A task for the thread.
type Work = Box<dyn FnOnce() + Send>;

/// The stack that a process's first thread has by default, in bytes: a predictor may nest as deep on any other thread.
const STACK: usize = 8 << 20;
/// The exit code of a Rust program that panicked.
const PANICKED: u8 = 101;

#[derive(Debug)]
struct MainThread {
    work: Sender<Work>,
    /// Whether an event loop runs on it.
    taken: AtomicBool,
}

static MAIN: OnceLock<MainThread> = OnceLock::new();

/// Runs the program on a new thread, which ends the process with the program's exit code, and lends the calling thread
/// to Python. Call it once, on the process's first thread.
#[allow(clippy::exit, reason = "Python may be running on the first thread and never return")]
pub fn lend(program: impl FnOnce() -> u8 + Send + 'static) -> ! {
    let (work, inbox) = channel();
    let _ = MAIN.set(MainThread { work, taken: AtomicBool::new(false) });
    let end = |program: Box<dyn FnOnce() -> u8>| -> ! {
        // The panic hook has reported the panic.
        let code = catch_unwind(AssertUnwindSafe(program)).unwrap_or(PANICKED);
        printed::release();
        std::process::exit(code.into())
    };
    let spawned = spawn("program", move || end(Box::new(program)));
    if let Err(error) = spawned {
        end(Box::new(move || panic!("failed to start a thread: {error}")));
    }
    serve(&inbox);
    unreachable!("the sender is never dropped")
}

/// Runs the work on Python's main thread after all work given before. Makes that thread if none was lent.
pub(super) fn run(work: impl FnOnce() + Send + 'static) {
    // It fails if the thread could not be started. Then the work is dropped, and with it the channel on which its
    // result is awaited.
    let _ = main().work.send(Box::new(work));
}

/// Runs long work on the main thread, or on a new thread while the main one does other long work. `ended` is opened
/// once the work is done and the thread free again.
///
/// # Errors
///
/// Fails if a new thread is needed and cannot be started.
pub(super) fn occupy(
    name: &str,
    ended: Arc<Latch>,
    work: impl FnOnce() + Send + 'static,
) -> std::io::Result<()> {
    let free = (!guest::is_guest()).then(main).filter(|main| !main.taken.swap(true, Ordering::AcqRel));
    let work = move || {
        let _ = catch_unwind(AssertUnwindSafe(work));
        if let Some(main) = free {
            main.taken.store(false, Ordering::Release);
        }
        ended.open();
    };
    if free.is_none() {
        return spawn(name, work);
    }
    run(work);
    Ok(())
}

/// Whether the main thread does long work, so that it will do nothing else.
pub(super) fn is_taken() -> bool {
    main().taken.load(Ordering::Acquire)
}

fn main() -> &'static MainThread {
    MAIN.get_or_init(|| {
        let (work, inbox) = channel();
        let _ = spawn("python", move || serve(&inbox));
        MainThread { work, taken: AtomicBool::new(false) }
    })
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    Builder::new().name(name.to_owned()).stack_size(STACK).spawn(work).map(drop)
}

fn serve(inbox: &Receiver<Work>) {
    for work in inbox {
        // The panic hook has reported the panic, and whoever waits for a result learns that none comes.
        let _ = catch_unwind(AssertUnwindSafe(work));
    }
}
