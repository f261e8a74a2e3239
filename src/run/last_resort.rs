//! Ends the process where a signal comes and the run cannot take it: its thread hangs in a write, as to a file server that
//! is gone. Not how a run ends that can.

use std::io;
use std::process::exit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{self, getpid, kill_process};

use super::signal_streams::Streams;
use crate::policy::stop::{Signal, StopReason};

/// How long the run may take to take a second signal, and to end once it has said that it ends at once.
const AT_ONCE: Duration = Duration::from_secs(2);
/// How often it is looked at, once a signal has come.
const LOOK: Duration = Duration::from_millis(100);
/// How long the last words, and then the C library's exit functions, may take.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// What the run tells of how it heeds signals.
#[derive(Debug, Default)]
pub(super) struct Heed {
    /// Signals that it has taken.
    pub(super) taken: AtomicU64,
    /// It ends at once.
    pub(super) hurries: AtomicBool,
    /// It takes no more signals.
    pub(super) over: AtomicBool,
}

/// Says, with the exit code, why the run ends.
pub(super) type LastWords = Box<dyn FnOnce(u8, &str) + Send>;

/// Watches over the run from a thread of its own: the first signal must be taken within `grace`.
pub(super) fn watch(heed: Arc<Heed>, grace: Duration, words: LastWords) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let within = runtime.enter();
    // Its own, for those of the run are not looked at while its thread hangs.
    let streams = Streams::new()?;
    drop(within);
    let watch = move || runtime.block_on(watching(streams, &heed, grace, words));
    thread::Builder::new().name("signals".to_owned()).spawn(watch).map(drop)
}

async fn watching(mut streams: Streams, heed: &Heed, grace: Duration, words: LastWords) {
    let mut last = streams.next().await;
    let mut come = 1;
    let mut until = Instant::now() + grace;
    let mut hurries_since = None;
    while !heed.over.load(Ordering::Relaxed) {
        let untaken = come > heed.taken.load(Ordering::Relaxed) && Instant::now() > until;
        if heed.hurries.load(Ordering::Relaxed) {
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
    // On threads of their own: standard error may hang as well, and what the C library does at exit.
    let text = format!(
        "{reason}: a write to the disk does not return, so the run was ended at once\n\
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
