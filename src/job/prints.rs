//! Shows what the predictors of worker processes print: whole lines, in the order in which they came.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

use crate::bridge::python::interpreter::{Show, tell};

/// How many pieces may wait to be shown. A predictor that prints more waits itself.
const WAITING: usize = 256;
/// A longer line, in bytes, is shown in parts.
const LONGEST: usize = 64 << 10;

/// How what Python prints is shown.
#[derive(Default)]
pub struct Prints {
    /// Shows it; `None` to write it to Python's own streams, or from worker processes to standard error.
    pub show: Option<Show>,
    /// Whether each line of a worker process begins with the number of the worker.
    pub names_workers: bool,
}

impl fmt::Debug for Prints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prints").finish_non_exhaustive()
    }
}

/// A thread that shows what workers print. Dropping it shows what is left.
#[derive(Debug)]
pub(super) struct Printer {
    pieces: SyncSender<Piece>,
    thread: Option<JoinHandle<()>>,
}

/// Who printed what, where no bytes say that nothing follows; or nothing at the end.
type Piece = Option<(Who, Vec<u8>)>;

/// Who prints.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Who {
    /// A worker process, by its number. Its lines begin with that only if this is asked for.
    Worker(usize),
    /// Something on another machine, by a number of its own and its name. Its lines begin with the name.
    Named(usize, Arc<str>),
}

/// Is told who printed what. No bytes say that it prints nothing more: the line that it has begun is shown then.
pub(super) type Printed = Arc<dyn Fn(Who, &[u8]) + Send + Sync>;

impl Printer {
    /// Starts the thread. If it cannot be started, nothing is shown.
    pub(super) fn new(prints: Prints) -> Self {
        let (pieces, inbox) = sync_channel(WAITING);
        let thread = Builder::new().name("prints".into()).spawn(move || show_all(&inbox, &prints));
        Self { pieces, thread: thread.ok() }
    }

    /// What is to be told of prints. Later ones, from when this is dropped, are not shown.
    pub(super) fn printed(&self) -> Printed {
        let pieces = self.pieces.clone();
        Arc::new(move |who, bytes| {
            // Fails once the thread has ended.
            let _ = pieces.send(Some((who, bytes.to_vec())));
        })
    }
}

impl Drop for Printer {
    fn drop(&mut self) {
        let _ = self.pieces.send(None);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn show_all(inbox: &Receiver<Piece>, prints: &Prints) {
    let mut begun = BTreeMap::<Who, Vec<u8>>::new();
    let mut lines = Vec::new();
    while let Ok(Some((who, bytes))) = inbox.recv() {
        let held = begun.entry(who.clone()).or_default();
        held.extend_from_slice(&bytes);
        let whole = if held.len() > LONGEST || bytes.is_empty() {
            held.len()
        } else {
            memchr::memrchr(b'\n', held).map_or(0, |at| at + 1)
        };
        if whole > 0 {
            named(prints, &who, &held[..whole], &mut lines);
            held.drain(..whole);
            show(prints, &mut lines);
        }
    }
    for (who, held) in begun {
        named(prints, &who, &held, &mut lines);
    }
    show(prints, &mut lines);
}

/// Appends the lines, each with the name of who printed it where that is wanted.
fn named(prints: &Prints, who: &Who, bytes: &[u8], lines: &mut Vec<u8>) {
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        match who {
            Who::Worker(number) if prints.names_workers => {
                lines.extend_from_slice(format!("[worker {number}] ").as_bytes());
            }
            Who::Worker(_) => {}
            Who::Named(_, name) => lines.extend_from_slice(format!("[{name}] ").as_bytes()),
        }
        lines.extend_from_slice(line);
        if !line.ends_with(b"\n") {
            lines.push(b'\n');
        }
    }
}

fn show(prints: &Prints, lines: &mut Vec<u8>) {
    if !lines.is_empty() {
        prints.show.as_ref().map_or_else(|| tell(lines), |show| show(lines));
        lines.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn a_line_that_a_worker_has_begun_is_shown_when_it_is_gone_and_not_taken_for_that_of_the_next() {
        let shown = Arc::<Mutex<Vec<u8>>>::default();
        let kept = Arc::clone(&shown);
        let show: Show = Box::new(move |bytes| kept.lock().unwrap().extend_from_slice(bytes));
        let printer = Printer::new(Prints { show: Some(show), names_workers: false });
        let printed = printer.printed();
        for (worker, text) in
            [(1, "its last"), (2, "an"), (1, ""), (1, "the next"), (2, "other\n"), (1, " one\n")]
        {
            printed(Who::Worker(worker), text.as_bytes());
        }
        drop((printed, printer));
        assert_eq!(String::from_utf8_lossy(&shown.lock().unwrap()), "its last\nanother\nthe next one\n");
    }

    #[test]
    fn the_lines_of_two_workers_are_not_mixed_and_the_last_one_is_ended() {
        for names_workers in [true, false] {
            let shown = Arc::<Mutex<Vec<u8>>>::default();
            let kept = Arc::clone(&shown);
            let show: Show = Box::new(move |bytes| kept.lock().unwrap().extend_from_slice(bytes));
            let printer = Printer::new(Prints { show: Some(show), names_workers });
            let printed = printer.printed();
            for (worker, text) in [(1, "on"), (2, "two\nand"), (1, "e\n"), (2, " three")] {
                printed(Who::Worker(worker), text.as_bytes());
            }
            drop((printed, printer));
            let named = "[worker 2] two\n[worker 1] one\n[worker 2] and three\n";
            let text = String::from_utf8(shown.lock().unwrap().clone()).unwrap();
            let plain = "two\none\nand three\n";
            assert_eq!(text, if names_workers { named } else { plain });
        }
    }

    #[test]
    fn the_lines_of_other_machines_are_named() {
        let shown = Arc::<Mutex<Vec<u8>>>::default();
        let kept = Arc::clone(&shown);
        let show: Show = Box::new(move |bytes| kept.lock().unwrap().extend_from_slice(bytes));
        let printer = Printer::new(Prints { show: Some(show), names_workers: false });
        printer.printed()(Who::Named(1, "worker 1 on node-a".into()), b"one\n");
        drop(printer);
        assert_eq!(&*shown.lock().unwrap(), b"[worker 1 on node-a] one\n");
    }
}
