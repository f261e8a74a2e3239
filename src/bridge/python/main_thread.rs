//! The thread that Python takes for its main one: it starts the interpreter, runs an event loop, and the exit functions.
//!
//! Only there `signal.signal` works and handlers run. The kernel hands a process's signals to the process's first
//! thread, where that does not block them; so the program lends it ([`lend`]), and a handler also interrupts a wait in C.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel};
use std::thread::Builder;

use super::printed;

/// Done on the thread.
type Work = Box<dyn FnOnce() + Send>;

/// What a process's first thread has by default: a program, or a predictor, may nest as deep on another.
const STACK: usize = 8 << 20;
/// The exit code of a Rust program that panicked.
const PANICKED: u8 = 101;

#[derive(Debug)]
struct MainThread {
    work: Sender<Work>,
    /// An event loop runs on it.
    taken: AtomicBool,
}

static MAIN: OnceLock<MainThread> = OnceLock::new();

/// Runs the program on another thread, which ends the process with its exit code, and lends the calling one to Python.
/// To be called once, on the process's first thread.
#[allow(clippy::exit, reason = "Python may be at work on the first thread, and not return")]
pub fn lend(program: impl FnOnce() -> u8 + Send + 'static) -> ! {
    let (work, inbox) = channel();
    let _ = MAIN.set(MainThread { work, taken: AtomicBool::new(false) });
    let end = |program: Box<dyn FnOnce() -> u8>| -> ! {
        // The panic has told of itself.
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

/// Does the work on Python's main thread, when what that does is done: on one made now where none was lent.
pub(super) fn run(work: impl FnOnce() + Send + 'static) {
    // It fails where that thread could not be started: whoever waits for the work's answer then learns that none comes.
    let _ = main().work.send(Box::new(work));
}

/// Does long work there, or on a new thread where another is still being done. `ended` is told, or gone, when it is done
/// and the thread free again.
pub(super) fn occupy(
    name: &str,
    ended: SyncSender<()>,
    work: impl FnOnce() + Send + 'static,
) -> std::io::Result<()> {
    let main = main();
    let taken = main.taken.swap(true, Ordering::AcqRel);
    let work = move || {
        let _ = catch_unwind(AssertUnwindSafe(work));
        if !taken {
            main.taken.store(false, Ordering::Release);
        }
        let _ = ended.send(());
    };
    if taken {
        return spawn(name, work);
    }
    run(work);
    Ok(())
}

/// Whether long work is being done there, so that nothing else will be.
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
        // A panic has told of itself, and is known to who waits by the answer that does not come.
        let _ = catch_unwind(AssertUnwindSafe(work));
    }
}
