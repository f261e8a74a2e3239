//! Tests with real processes: this very program, which serves as a worker if one of its tests has started it.

use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::Mutex;

use rustix::process::{Pid, Signal, getpid, getppid, kill_process, test_kill_process};

use super::*;
use crate::bridge::remote::{Host, Served, Started};
use crate::bridge::{LaneHealth, Reply, Turn};
use crate::call::{CallClock, CallWatch, call_clock};
use crate::error::{BLOCKED, BridgeError, CallError, FailureKind, LOST};
use crate::event::{Blockage, Blocker};
use crate::outcome::Answer;
use crate::row::Value;

const PATIENCE: Duration = Duration::from_secs(20);
/// The load that a worker refuses, and the one that it dies of.
const REFUSED: &[u8] = b"refused";
const DEADLY: &[u8] = b"deadly";
/// The beginning of a load that a worker refuses where the file is that it names.
const UNLESS: &[u8] = b"unless ";
/// The same of one that takes long.
const SLOW: &[u8] = b"slow where ";

/// Not a test of its own, but what the tests below start. It does nothing where nobody has.
#[tokio::test]
async fn a_worker() {
    let Some(parent) = getppid() else { return };
    let program = |process: &str| std::fs::read_link(format!("/proc/{process}/exe")).ok();
    if program("self") != program(&parent.to_string()) {
        return;
    }
    let is_there = |name: &[u8]| PathBuf::from(std::ffi::OsStr::from_bytes(name)).exists();
    let start = move |load: &[u8], _| match load {
        _ if load.strip_prefix(SLOW).is_some_and(is_there) => {
            std::thread::sleep(Duration::from_secs(2));
            Err("it is late".to_owned())
        }
        REFUSED => Err("there is no such predictor".to_owned()),
        DEADLY => die(Signal::SEGV),
        _ if load.strip_prefix(UNLESS).is_some_and(is_there) => Err("it was removed".to_owned()),
        _ => Ok(Started { bridge: Arc::<Fatal>::default(), facts: b"facts".to_vec() }),
    };
    let served = serve_coordinator(parent.as_raw_pid() as u32, start, || ()).await.unwrap();
    assert!(served == Served::Closed || served == Served::Refused);
}

fn die(signal: Signal) -> ! {
    loop {
        // Rust's own handler of a SIGSEGV takes the first.
        kill_process(getpid(), signal).unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Does to its process what a row says.
#[derive(Debug, Default)]
struct Fatal {
    description: Description,
    /// Since when its loop does not turn, and the row that is seen to hold it up.
    blocked: Mutex<Option<(Instant, Option<u64>)>>,
    held: Mutex<Vec<CallClock>>,
}

impl Bridge for Fatal {
    fn describe(&self) -> &Description {
        &self.description
    }

    fn submit(&self, attempt: Attempt) -> Call {
        let Attempt { row, number, arguments, clock } = attempt;
        let Some((_, Value::Text(what))) = arguments.first() else { unreachable!() };
        match &**what {
            "segfault" => die(Signal::SEGV),
            "killed" => die(Signal::KILL),
            "killed twice" if number <= 2 => die(Signal::KILL),
            "stopped once" if number == 1 => die(Signal::STOP),
            "blocks" => *self.blocked.lock().unwrap() = Some((Instant::now(), Some(row))),
            "holds the lock" => *self.blocked.lock().unwrap() = Some((Instant::now(), None)),
            _ => {}
        }
        let blocks = self.blocked.lock().unwrap().is_some();
        let answer = Value::Text(format!("{what} by {}", getpid()));
        let wait = Duration::from_millis(if what == "slow" { 300 } else { 0 });
        if what == "never ends" {
            self.held.lock().unwrap().push(clock);
            return Call::driven(std::future::pending());
        }
        Call::driven(async move {
            if blocks {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(wait).await;
            drop(clock);
            Ok(Answer { fields: vec![("answer".into(), answer)], ..Answer::default() })
        })
    }

    fn health(&self) -> Health {
        let mut lane = LaneHealth { memory: 100, processor: Duration::from_secs(1), ..LaneHealth::default() };
        if let Some((since, row)) = *self.blocked.lock().unwrap() {
            lane.stalled_now = since.elapsed();
            let by = row.map_or(Blocker::Unseen, |_| Blocker::Line("app.py:3 in ask: spin()".to_owned()));
            let stack = "Stack (most recent call last):\n  File \"app.py\", line 3, in ask".to_owned();
            lane.blockages = vec![Blockage { row, by, stack, lasted: since.elapsed() }];
        }
        Health { lanes: vec![lane], ..Health::default() }
    }

    fn close(&self, _: Duration) -> bool {
        true
    }
}

fn which(workers: usize) -> Which {
    let name = "bridge::workers::tests::a_worker";
    let program = Program {
        path: std::fs::read_link("/proc/self/exe").unwrap(),
        arguments: ["-q", "--nocapture", "--exact", name].map(Into::into).into(),
    };
    Which::Processes { program, count: Count::Exactly(NonZeroUsize::new(workers).unwrap()) }
}

fn settings() -> Settings {
    Settings {
        load: Vec::new(),
        host: Box::new(|_, _| Host { model: Box::new(|| Err(String::new())), printed: Box::new(|_| ()) }),
        kill_after: Duration::from_millis(600),
        max_rss: None,
    }
}

async fn start(settings: Settings, which: Which) -> Result<Workers, NoWorkers> {
    tokio::task::spawn_blocking(|| Workers::start(settings, which, CancellationToken::new())).await.unwrap()
}

/// A bridge whose calls are lost as an engine loses them: they are handed over again.
#[derive(Clone)]
struct Asked(Arc<Workers>);

impl Asked {
    async fn new(settings: Settings, which: Which) -> Self {
        Self(Arc::new(start(settings, which).await.unwrap()))
    }

    fn submit(&self, row: u64, number: u32, what: &str) -> (Call, CallWatch) {
        let (clock, watch) = call_clock(Instant::now());
        let arguments = Arc::new(vec![("question".into(), Value::Text(what.to_owned()))]);
        (self.0.submit(Attempt { row, number, arguments, clock }), watch)
    }

    /// The row's turn, as the engine waits for it.
    async fn turn(&self, row: u64) -> Option<Turn> {
        match self.0.turn(row) {
            Some(turn) => Some(tokio::time::timeout(PATIENCE, turn).await.unwrap()),
            None => None,
        }
    }

    /// The final reply, and how often the call was lost before, in words.
    async fn ask(&self, row: u64, what: &'static str) -> (Reply, Vec<String>) {
        let mut lost = Vec::new();
        for number in 1.. {
            let (_turn, (call, watch)) = (self.turn(row).await, self.submit(row, number, what));
            match tokio::time::timeout(PATIENCE, call).await.unwrap() {
                Err(CallError::Lost(text)) => lost.push(text),
                reply => return (reply, lost),
            }
            // What is lost has ended.
            assert!(watch.is_over());
        }
        unreachable!()
    }

    /// Asks rows at the same time.
    async fn ask_all(&self, rows: &[&'static str]) -> Vec<(Reply, Vec<String>)> {
        let asked = rows.iter().enumerate().map(|(row, what)| {
            let (this, what) = (self.clone(), *what);
            tokio::spawn(async move { this.ask(row as u64, what).await })
        });
        let mut replies = Vec::new();
        for asked in asked.collect::<Vec<_>>() {
            replies.push(asked.await.unwrap());
        }
        replies
    }

    fn deaths(&self) -> u64 {
        self.0.health().lanes.iter().map(|lane| lane.deaths).sum()
    }

    fn pids(&self) -> Vec<Pid> {
        self.0.pool.lives().iter().filter_map(|life| life.pid()).collect()
    }

    async fn close(self) {
        let pids = self.pids();
        assert!(!pids.is_empty());
        assert!(tokio::task::spawn_blocking(move || self.0.close(PATIENCE)).await.unwrap());
        assert!(pids.into_iter().all(|pid| test_kill_process(pid).is_err()));
    }
}

fn text_of(reply: &Reply) -> &str {
    let Ok(Answer { fields, .. }) = reply else { panic!("{reply:?}") };
    let Some((_, Value::Text(text))) = fields.first() else { panic!("{reply:?}") };
    text
}

fn are_answered(replies: &[(Reply, Vec<String>)]) {
    for (reply, _) in replies {
        text_of(reply);
    }
}

#[tokio::test]
async fn calls_go_round_the_workers_and_all_end_with_the_bridge() {
    let asked = Asked::new(settings(), which(3)).await;
    assert_eq!(
        (asked.0.note(), asked.0.facts(), asked.0.describe().workers),
        ("3 workers", &b"facts"[..], 3)
    );
    let replies = asked.ask_all(&["slow"; 9]).await;
    let by = |process: &str| replies.iter().filter(|(reply, _)| text_of(reply).ends_with(process)).count();
    let pids: Vec<_> = asked.pids().iter().map(ToString::to_string).collect();
    assert_eq!(pids.iter().map(|pid| by(pid)).collect::<Vec<_>>(), [3, 3, 3]);
    let health = asked.0.health();
    assert_eq!(health.lanes.iter().map(|lane| (lane.made, lane.answered)).collect::<Vec<_>>(), [(3, 3); 3]);
    let again = asked.clone();
    asked.close().await;
    let (late, _) = again.submit(9, 1, "late");
    assert!(matches!(late.await, Err(CallError::Bridge(BridgeError::LoopStopped))));
}

#[tokio::test]
async fn a_row_that_crashes_its_worker_twice_alone_is_set_aside_and_costs_the_others_a_retry() {
    let asked = Asked::new(settings(), which(2)).await;
    let mut replies = asked.ask_all(&["slow", "slow", "segfault", "slow"]).await;
    let (crash, lost) = replies.remove(2);
    let text = "the worker crashed 2 times while this row alone was in flight: it died (SIGSEGV), then died (SIGSEGV)";
    assert!(matches!(&crash, Err(CallError::Crash(crash)) if crash == text), "{crash:?}");
    assert_eq!(lost, ["worker 1 died (SIGSEGV)", "worker 3 died (SIGSEGV)"]);
    are_answered(&replies);
    assert!(replies.iter().all(|(_, lost)| lost.len() <= 1), "{replies:?}");
    assert_eq!(asked.deaths(), 3);
    are_answered(&asked.ask_all(&["fine"; 9]).await);
    asked.close().await;
}

#[tokio::test]
async fn a_row_whose_worker_was_killed_three_times_is_set_aside_and_after_two_it_may_still_be_answered() {
    let asked = Asked::new(settings(), which(1)).await;
    let (crash, lost) = asked.ask(7, "killed").await;
    assert!(matches!(&crash, Err(CallError::Crash(text)) if text.contains("3 times")), "{crash:?}");
    assert_eq!(lost, ["worker 1 died (SIGKILL)", "worker 2 died (SIGKILL)"]);
    let (answered, lost) = asked.ask(8, "killed twice").await;
    text_of(&answered);
    assert_eq!(lost.len(), 2);
    asked.close().await;
}

#[tokio::test]
async fn the_row_that_is_seen_to_block_its_loop_fails_and_the_others_are_called_again() {
    let asked = Asked::new(settings(), which(1)).await;
    let mut replies = asked.ask_all(&["slow", "blocks", "slow"]).await;
    let (blocked, lost) = replies.remove(1);
    let Err(CallError::Predictor(failure)) = blocked else { panic!("{blocked:?}") };
    assert_eq!((&*failure.class, failure.raised_at()), (BLOCKED, Some("app.py:3 in ask: spin()")));
    assert!(failure.trace().starts_with("Stack (most"), "{}", failure.trace());
    assert!(lost.is_empty());
    are_answered(&replies);
    assert_eq!(asked.deaths(), 1);
    asked.close().await;
}

#[tokio::test]
async fn a_row_that_holds_the_lock_is_found_by_calling_each_alone() {
    let asked = Asked::new(settings(), which(1)).await;
    let mut replies = asked.ask_all(&["slow", "holds the lock", "slow"]).await;
    let (blocked, lost) = replies.remove(1);
    let Err(CallError::Predictor(failure)) = blocked else { panic!("{blocked:?}") };
    assert_eq!((&*failure.class, lost.len()), (BLOCKED, 1));
    are_answered(&replies);
    asked.close().await;
}

#[tokio::test]
async fn a_worker_that_was_stopped_is_killed_and_blames_no_row() {
    let asked =
        Asked::new(Settings { kill_after: Duration::from_millis(1_500), ..settings() }, which(1)).await;
    let replies = asked.ask_all(&["slow", "stopped once", "slow"]).await;
    are_answered(&replies);
    assert!(replies[1].1[0].contains("it gave no sign of life for"), "{replies:?}");
    assert_eq!(asked.deaths(), 1);
    assert_eq!(asked.0.health().lanes.len(), 1, "no worker was needed for suspects");
    asked.close().await;
}

#[tokio::test]
async fn a_suspect_that_does_not_end_does_not_hold_up_the_next_one() {
    let asked = Asked::new(settings(), which(1)).await;
    let (never, _watch) = asked.submit(1, 1, "never ends");
    let (killed, _) = asked.submit(2, 1, "killed");
    assert!(
        matches!(killed.await, Err(CallError::Lost(_))) && matches!(never.await, Err(CallError::Lost(_)))
    );
    let turn = asked.turn(1).await;
    let (never, _watch) = asked.submit(1, 2, "never ends");
    assert!(tokio::time::timeout(Duration::from_secs(2), never).await.is_err());
    drop(turn);
    text_of(&asked.ask(2, "fine").await.0);
    asked.close().await;
}

#[tokio::test]
async fn the_wait_for_the_next_worker_is_excused() {
    let asked = Asked::new(settings(), which(1)).await;
    let (killed, _) = asked.submit(1, 1, "killed");
    killed.await.unwrap_err();
    let (late, watch) = asked.submit(2, 1, "fine");
    assert_eq!(watch.stalled_now(), Duration::ZERO);
    text_of(&late.await);
    assert!(watch.excused() > Duration::ZERO);
    asked.close().await;
}

#[tokio::test]
async fn a_worker_that_has_grown_too_large_is_replaced_when_its_calls_have_ended() {
    let asked = Asked::new(Settings { max_rss: Some(99), ..settings() }, which(1)).await;
    let replies = asked.ask_all(&["slow"; 4]).await;
    are_answered(&replies);
    assert!(replies.iter().all(|(_, lost)| lost.is_empty()));
    let before = text_of(&replies[0].0).to_owned();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_ne!(text_of(&asked.ask(9, "slow").await.0), before);
    assert_eq!(asked.deaths(), 0);
    asked.close().await;
}

#[tokio::test]
async fn a_worker_that_has_grown_too_large_is_replaced_although_an_abandoned_call_never_ends() {
    let asked = Asked::new(Settings { max_rss: Some(99), ..settings() }, which(1)).await;
    let (call, _) = asked.submit(1, 1, "never ends");
    let before = text_of(&asked.ask(2, "slow").await.0).to_owned();
    drop(call);
    assert_ne!(text_of(&asked.ask(3, "slow").await.0), before);
    assert_eq!(asked.deaths(), 0);
    asked.close().await;
}

#[tokio::test]
async fn workers_that_cannot_load_the_predictor_are_refused_with_the_reason() {
    for (load, reason) in
        [(REFUSED, "there is no such predictor"), (DEADLY, "worker 1 died (SIGSEGV) before it was ready")]
    {
        let refused = start(Settings { load: load.to_vec(), ..settings() }, which(2)).await;
        assert_eq!(refused.unwrap_err().to_string(), reason);
    }
    let program = Program { path: PathBuf::from("/nowhere/at/all"), arguments: Vec::new() };
    let count = Count::Exactly(NonZeroUsize::MIN);
    let refused = start(settings(), Which::Processes { program, count }).await;
    assert!(refused.unwrap_err().to_string().starts_with("failed to start a worker: No such file"));
}

#[tokio::test]
async fn workers_end_when_their_bridge_is_dropped_and_its_calls_with_them() {
    let asked = Asked::new(settings(), which(2)).await;
    let lives = asked.0.pool.lives();
    let (never, _watch) = asked.submit(1, 1, "never ends");
    drop(asked);
    assert!(matches!(never.await, Err(CallError::Bridge(BridgeError::LoopStopped))));
    let all_end = move || lives.iter().all(|life| life.await_end(Instant::now() + PATIENCE));
    let ended = tokio::task::spawn_blocking(all_end);
    assert!(ended.await.unwrap());
}

/// The load with the name of a file that is not there yet.
fn load_with(kind: &[u8]) -> (Vec<u8>, tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("there");
    ([kind, file.as_os_str().as_bytes()].concat(), directory, file)
}

#[tokio::test]
async fn rows_for_which_no_worker_can_be_started_fail_and_the_others_go_on() {
    let (load, _directory, file) = load_with(UNLESS);
    let asked = Asked::new(Settings { load, ..settings() }, which(2)).await;
    // Both are in flight in one worker, which dies.
    let (slow, _) = asked.submit(0, 1, "slow");
    let (killed, _) = asked.submit(2, 1, "killed twice");
    std::fs::write(&file, "").unwrap();
    slow.await.unwrap();
    assert!(matches!(killed.await, Err(CallError::Lost(_))));
    let Err(CallError::Predictor(failure)) = asked.ask(2, "killed twice").await.0 else { panic!() };
    assert_eq!((&*failure.class, failure.kind), (LOST, FailureKind::Permanent));
    assert!(failure.message.contains("no worker could be started that calls it alone"), "{failure}");
    are_answered(&asked.ask_all(&["fine"; 2]).await);
    let warnings = asked.0.warnings();
    assert!(
        warnings.iter().any(|text| text == "worker 3 cannot be started yet: it was removed"),
        "{warnings:?}"
    );
    // Once it can be started again, suspects are called.
    std::fs::remove_file(&file).unwrap();
    let again = std::time::Instant::now();
    while asked.ask(2, "fine").await.0.is_err() {
        assert!(again.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    asked.close().await;
}

#[tokio::test]
async fn a_worker_that_is_still_starting_ends_with_the_bridge() {
    let (load, _directory, file) = load_with(SLOW);
    let asked = Asked::new(Settings { load, ..settings() }, which(1)).await;
    std::fs::write(&file, "").unwrap();
    let (killed, _) = asked.submit(0, 1, "killed");
    killed.await.unwrap_err();
    while asked.pids().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let again = asked.clone();
    asked.close().await;
    assert!(again.pids().is_empty() && again.0.has_ended_by(Instant::now()));
}

#[tokio::test]
async fn as_many_workers_as_fit_are_started_and_told() {
    let count = Count::UpTo(NonZeroUsize::new(2).unwrap());
    let Which::Processes { program, .. } = which(1) else { unreachable!() };
    let asked = Asked::new(settings(), Which::Processes { program, count }).await;
    assert_eq!((asked.0.note(), asked.0.health().lanes.len()), ("2 workers, for 2 cores", 2));
    asked.close().await;
}
