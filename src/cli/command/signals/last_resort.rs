//! Ends the process if a signal comes and the job cannot take it: its thread hangs in a write, for example to a file
//! server that is gone, or it reads back a journal that it has just rewritten, which nothing interrupts.

use std::io;
use std::process::exit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{self, getpid, kill_process};

use super::streams::Streams;
use crate::policy::stop::{Signal, StopReason};
use crate::run::control::Control;

/// How long the job may take to accept a second signal, and to end after that.
const AT_ONCE: Duration = Duration::from_secs(2);
/// How often the job is checked once a signal has come.
const LOOK: Duration = Duration::from_millis(100);
/// How long the last message may take, and after it the exit functions of the C library.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// A function that reports why the process ends, given the exit code and the reason.
pub(super) type LastWords = Box<dyn FnOnce(u8, &str) + Send>;

/// Watches the job on another thread until `over` is set. The job must accept the first signal within `grace`.
pub(super) fn watch(
    control: Control,
    over: Arc<AtomicBool>,
    grace: Duration,
    words: LastWords,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let within = runtime.enter();
    // Streams of its own, for those of the job are not looked at while its thread hangs.
    let streams = Streams::new()?;
    drop(within);
    let watch = move || runtime.block_on(watching(streams, &control, &over, grace, words));
    thread::Builder::new().name("signals".to_owned()).spawn(watch).map(drop)
}

async fn watching(
    mut streams: Streams,
    control: &Control,
    over: &AtomicBool,
    grace: Duration,
    words: LastWords,
) {
    let mut last = streams.next().await;
    let mut come = 1;
    let mut until = Instant::now() + grace;
    let mut hurries_since = None;
    while !over.load(Ordering::Relaxed) {
        let untaken = come > control.taken() && Instant::now() > until;
        if control.hurries() {
            hurries_since.get_or_insert_with(Instant::now);
        }
        if untaken || hurries_since.is_some_and(|since| since.elapsed() > AT_ONCE) {
            end(last, words);
        }
        if let Ok(signal) = tokio::time::timeout(LOOK, streams.next()).await {
            last = signal;
            come += 1;
            until = Instant::now() + AT_ONCE;
        }
    }
}

fn end(signal: Signal, words: LastWords) -> ! {
    let reason = StopReason::Signal(signal);
    let code = reason.exit_code();
    // On other threads, because standard error may hang as well, and so may the exit functions of the C library.
    let text = format!(
        "{reason}: the disk does not answer, or a long journal is still being read, so the run was ended at once\n\
         hint: what was recorded is in the journal, and `resume` goes on once the disk answers"
    );
    let spoken = thread::Builder::new().spawn(move || words(code, &text));
    let since = Instant::now();
    while spoken.as_ref().is_ok_and(|words| !words.is_finished()) && since.elapsed() < LAST_WORDS {
        thread::sleep(Duration::from_millis(5));
    }
    #[expect(clippy::exit, reason = "the thread that would return from `main` hangs")]
    let ending = thread::Builder::new().spawn(move || exit(code.into()));
    drop(ending);
    thread::sleep(LAST_WORDS);
    let _ = kill_process(getpid(), process::Signal::KILL);
    std::process::abort()
}
