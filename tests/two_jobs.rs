//! Several jobs in one process: each has its own answers, secrets and end, and leaves nothing behind.
//!
//! What they share is the process's, so each test has a process of its own.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod calls;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use tempfile::TempDir;
use tokio_asyncio_bridge::bridge::into_future::IntoFutureBridge;
use tokio_asyncio_bridge::bridge::python::PythonBridge;
use tokio_asyncio_bridge::bridge::python::event_loop::LoopKind;
use tokio_asyncio_bridge::bridge::python::interpreter::{Interpreter, InterpreterError, choose};
use tokio_asyncio_bridge::bridge::python::predictor::{LoadError, Request};
use tokio_asyncio_bridge::bridge::{Bridge, Reply, Secrets};
use tokio_asyncio_bridge::error::{BridgeError, CallError};

use self::calls::{attempt, begun};

const SOON: Duration = Duration::from_secs(10);
/// Names the test that a process is for.
const TEST: &str = "TWO_JOBS_TEST";

/// Runs a test of this file in a process of its own.
fn alone(name: &str, test: impl Future<Output = ()>) {
    if std::env::var_os(TEST).is_some_and(|running| *running == *name) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
        return;
    }
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(TEST, name)
        .output()
        .unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&child.stdout), String::from_utf8_lossy(&child.stderr));
    assert!(child.status.success() && stdout.contains("1 passed"), "{}\n{stdout}\n{stderr}", child.status);
}

macro_rules! alone {
    ($(async fn $name:ident() $body:block)+) => {$(
        #[test]
        fn $name() {
            alone(stringify!($name), async $body);
        }
    )+};
}

/// What Python has printed.
#[derive(Clone, Default)]
struct Printed(Arc<Mutex<Vec<u8>>>);

impl Printed {
    fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
    }
}

fn interpreter() -> (Interpreter, Printed) {
    let interpreter = Interpreter::start(&choose(None)).unwrap();
    let printed = Printed::default();
    let all = printed.clone();
    interpreter.show_prints_by(Box::new(move |bytes| all.0.lock().unwrap().extend_from_slice(bytes)));
    (interpreter, printed)
}

fn request(directory: &TempDir) -> Request {
    calls::request(&directory.path().join("predictor.py"), "predict")
}

/// A job's directory, with a file `predictor.py`.
fn directory(predictor: &str) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("predictor.py"), predictor).unwrap();
    directory
}

fn secrets(value: &str) -> Secrets {
    let mut secrets = Secrets::default();
    secrets.add(value);
    secrets
}

fn start(kind: LoopKind, directory: &TempDir, secrets: Secrets) -> Result<Arc<dyn Bridge>, LoadError> {
    Ok(Arc::new(PythonBridge::start(kind, request(directory), secrets)?))
}

async fn ask(bridge: &Arc<dyn Bridge>, question: &str) -> Reply {
    bridge.submit(attempt(0, question).0).await
}

async fn text(bridge: &Arc<dyn Bridge>, question: &str) -> String {
    calls::text(ask(bridge, question).await)
}

/// What an expression of Python gives, as `str` shows it.
fn python(expression: &str) -> String {
    let code = format!("str((lambda gc, os, sys: {expression})(*map(__import__, ('gc', 'os', 'sys'))))");
    let code = std::ffi::CString::new(code).unwrap();
    Python::attach(|py| py.eval(&code, None, None).unwrap().extract().unwrap())
}

/// Waits until the expression is `expected`: what a job leaves is taken away by a thread.
#[track_caller]
fn becomes(expression: &str, expected: &str) {
    let until = Instant::now() + SOON;
    loop {
        python("gc.collect()");
        let is = python(expression);
        if is == expected {
            return;
        }
        assert!(Instant::now() < until, "`{expression}` is {is}, and not {expected}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Objects of ours that are alive, and event loops.
const OURS: &str = "sorted(type(o).__name__ for o in gc.get_objects() if type(o).__name__ in \
                    ('Worker', 'Pool', 'Wake', 'Ticker', 'Task', '_UnixSelectorEventLoop', 'Loop'))";
/// What of the jobs the interpreter holds.
const HELD: &str = "[[*sys.modules['_tokio_asyncio_bridge.' + m].__dict__[name]] for m, name in \
                    (('forks', '_kept'), ('forks', '_loops'), ('brought', '_jobs'), ('host', '_at_end'))]";
const NOTHING_HELD: &str = "[[], [], [], []]";

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

/// Waits until there are no more threads than so many.
#[track_caller]
fn threads_become(expected: usize) {
    let until = Instant::now() + SOON;
    while threads() > expected {
        assert!(Instant::now() < until, "{} threads, and not {expected}", threads());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Resident memory in MB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.strip_suffix("kB"));
    kilobytes.unwrap().trim().parse::<u64>().unwrap() / 1024
}

/// A predictor that prints its questions, and answers with its job's name.
fn telling(name: &str) -> String {
    format!(
        "import logging, sys, weakref
class Predictor:
    async def __call__(self, question):
        print('{name} prints', question, flush=True)
        logging.warning('{name} logs %s', question)
        return '{name}: ' + question
predict = Predictor()
sys.{name} = weakref.ref(predict)
"
    )
}

/// Two jobs at once, and the first ends while the second goes on.
async fn side_by_side(one: Arc<dyn Bridge>, other: Arc<dyn Bridge>, printed: &Printed) {
    for row in 0..20 {
        let question = format!("{row} of secret-of-one and secret-of-other");
        let (first, second) = tokio::join!(text(&one, &question), text(&other, &question));
        assert_eq!((first, second), (format!("one: {question}"), format!("other: {question}")));
    }
    let seen = printed.take();
    for said in
        ["one prints 7 of *** and ***\n", "other prints 7 of *** and ***\n", "one logs 7 of *** and ***\n"]
    {
        assert!(seen.contains(said), "{said}: {seen}");
    }
    assert!(!seen.contains("secret-of"), "{seen}");
    assert!(one.close(SOON) && one.close(SOON));
    drop(one);
    becomes("sys.one() is None", "True");
    let question = "secret-of-one and secret-of-other";
    assert_eq!(text(&other, question).await, format!("other: {question}"));
    let seen = printed.take();
    assert!(seen.contains("other prints secret-of-one and ***\n"), "{seen}");
}

alone! {
    async fn two_jobs_have_their_own_answers_and_ends_and_each_others_secrets_are_masked() {
        let (interpreter, printed) = interpreter();
        let (one, other) = (directory(&telling("one")), directory(&telling("other")));
        let before = threads();
        let paths = python("sys.path");
        for (first, second) in [(LoopKind::Asyncio, LoopKind::Uvloop), (LoopKind::Uvloop, LoopKind::Asyncio)] {
            let start_one = start(first, &one, secrets("secret-of-one")).unwrap();
            let start_other = start(second, &other, secrets("secret-of-other")).unwrap();
            side_by_side(start_one, Arc::clone(&start_other), &printed).await;
            assert!(!interpreter.run_exit_functions(SOON), "a job is alive");
            assert_eq!(text(&start_other, "q").await, "other: q");
            assert!(start_other.close(SOON));
            drop(start_other);
            becomes("sys.other() is None", "True");
        }
        let textbook: Arc<dyn Bridge> = Arc::new(
            IntoFutureBridge::start(LoopKind::Asyncio, request(&one), secrets("secret-of-one")).unwrap(),
        );
        let production = start(LoopKind::Asyncio, &other, secrets("secret-of-other")).unwrap();
        side_by_side(textbook, Arc::clone(&production), &printed).await;
        drop(production);
        becomes("sys.other() is None", "True");
        becomes(OURS, "[]");
        becomes(HELD, NOTHING_HELD);
        assert_eq!(python("sys.path"), paths);
        assert_eq!(python("[name for name in sys.modules if name.startswith('predictor')]"), "[]");
        // Tokio's own remains, for the workers of `into_future`.
        threads_become(before + 4);
    }

    async fn exit_functions_run_once_and_mask_the_secrets_of_jobs_that_have_ended() {
        let (interpreter, printed) = interpreter();
        let exiting = |name: &str| {
            let directory = directory(&format!(
                "import atexit
@atexit.register
def leave():
    import late
    print('{name} exits with', late.SECRET, flush=True)
async def predict(question): return question"
            ));
            std::fs::write(directory.path().join("late.py"), "SECRET = 'secret-of-one'").unwrap();
            directory
        };
        let (one, other) = (exiting("one"), exiting("other"));
        let bridges = [(&one, "secret-of-one"), (&other, "secret-of-other")]
            .map(|(directory, secret)| start(LoopKind::Asyncio, directory, secrets(secret)).unwrap());
        for bridge in bridges {
            assert!(!interpreter.run_exit_functions(SOON));
            assert!(bridge.close(SOON));
        }
        let run = || interpreter.run_exit_functions(SOON);
        let done = std::thread::scope(|scope| [scope.spawn(run), scope.spawn(run)].map(|run| run.join().unwrap()));
        assert_eq!((done, run()), ([true, true], true));
        assert_eq!(printed.take(), "other exits with ***\none exits with ***\n");
        let late = start(LoopKind::Asyncio, &one, Secrets::default());
        assert_eq!(late.err().unwrap().0, "RuntimeError: Python has ended in this process");
    }

    async fn exit_functions_that_hang_are_waited_for_no_longer_than_asked() {
        let (interpreter, _printed) = interpreter();
        let hanging = directory("import atexit, time\natexit.register(time.sleep, 60)\nasync def predict(question): pass");
        let bridge = start(LoopKind::Asyncio, &hanging, Secrets::default()).unwrap();
        assert!(bridge.close(SOON));
        for _ in 0..2 {
            let before = Instant::now();
            assert!(!interpreter.run_exit_functions(Duration::from_millis(100)));
            assert!(before.elapsed() < Duration::from_secs(5));
        }
    }

    async fn another_python_is_refused_with_both_names_and_the_same_one_is_not() {
        let running = Interpreter::start(&choose(None)).unwrap().executable;
        let environment = tempfile::tempdir().unwrap();
        let link = |from: &Path, to: PathBuf| {
            std::os::unix::fs::symlink(from, &to).unwrap();
            to
        };
        let same = link(running.parent().unwrap(), environment.path().join("same")).join("python");
        assert_eq!(Interpreter::start(&same).unwrap().executable, running);
        let another = link(&running.canonicalize().unwrap(), environment.path().join("python"));
        let error = Interpreter::start(&another).unwrap_err();
        assert!(matches!(&error, InterpreterError::Another { running: named, .. } if *named == running), "{error}");
        let text = error.to_string();
        assert!(text.contains(another.to_str().unwrap()) && text.contains(running.to_str().unwrap()), "{text}");
    }

    async fn two_hundred_jobs_in_turn_leave_neither_memory_nor_threads_nor_hooks() {
        let (_interpreter, _printed) = interpreter();
        let large = directory(
            "import contextvars, weakref
class Predictor:
    def __init__(self):
        self.held, self.me = bytes(b'x') * 1_000_000, self
    async def __call__(self, question):
        return question
predict = Predictor()
contextvars.ContextVar('held').set(bytes(b'y') * 1_000_000)
",
        );
        python("[setattr(sys, 'hooks', []), setattr(os, 'register_at_fork', lambda **hooks: sys.hooks.append(hooks))]");
        let (mut before, mut at_first) = (0, 0);
        for job in 0..200 {
            let kind = if job % 2 == 0 { LoopKind::Asyncio } else { LoopKind::Uvloop };
            let bridge = start(kind, &large, Secrets::default()).unwrap();
            assert_eq!(text(&bridge, "q").await, "q");
            // Half of them are dropped without more ado.
            assert!(job % 4 < 2 || bridge.close(SOON));
            drop(bridge);
            becomes("len(sys.modules['_tokio_asyncio_bridge.brought']._jobs)", "0");
            if job == 20 {
                threads_become(16);
                (before, at_first) = (resident(), threads());
            }
        }
        becomes(OURS, "[]");
        becomes(HELD, NOTHING_HELD);
        assert_eq!(python("sys.hooks"), "[]");
        assert!(resident() < before + 40, "{} MB, {before} MB after twenty jobs", resident());
        threads_become(at_first);
    }

    async fn a_bridge_that_is_dropped_ends_its_calls_and_its_thread() {
        let (_interpreter, _printed) = interpreter();
        let slow = directory(
            "import asyncio, sys, weakref
class Predictor:
    async def __call__(self, question):
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                if question == 'q': raise
predict = Predictor()
sys.slow = weakref.ref(predict)
",
        );
        let before = threads();
        for (kind, question) in [
            (LoopKind::Asyncio, "q"),
            (LoopKind::Uvloop, "q"),
            (LoopKind::Asyncio, "stubborn"),
            (LoopKind::Uvloop, "stubborn"),
        ] {
            let bridge = start(kind, &slow, Secrets::default()).unwrap();
            let (attempts, watches): (Vec<_>, Vec<_>) = (0..8).map(|row| attempt(row, question)).unzip();
            let calls: Vec<_> = attempts.into_iter().map(|attempt| bridge.submit(attempt)).collect();
            begun(&watches).await;
            let dropping = Instant::now();
            drop(bridge);
            assert!(dropping.elapsed() < Duration::from_millis(500));
            for call in calls {
                let reply = tokio::time::timeout(SOON, call).await.expect("a call hangs");
                assert!(matches!(reply, Err(CallError::Bridge(BridgeError::LoopStopped))), "{reply:?}");
            }
            becomes("sys.slow() is None", "True");
            becomes(OURS, "[]");
            becomes(HELD, NOTHING_HELD);
        }
        threads_become(before + 2);
    }

    async fn a_job_is_refused_that_would_get_another_jobs_module_and_gets_its_own_after_that_has_ended() {
        let (_interpreter, _printed) = interpreter();
        let with_module = |name: &str| {
            let directory = directory("import shared\nasync def predict(question): return shared.NAME");
            std::fs::write(directory.path().join("shared.py"), format!("NAME = '{name}'")).unwrap();
            directory
        };
        let (one, other) = (with_module("one"), with_module("other"));
        let first = start(LoopKind::Asyncio, &one, Secrets::default()).unwrap();
        let again = start(LoopKind::Asyncio, &one, Secrets::default()).unwrap();
        let refused = start(LoopKind::Asyncio, &other, Secrets::default()).err().unwrap().0;
        let shared = one.path().join("shared.py");
        assert!(refused.contains("`shared`") && refused.contains(shared.to_str().unwrap()), "{refused}");
        drop(first);
        assert_eq!(text(&again, "q").await, "one");
        assert_eq!(python("'shared' in sys.modules"), "True");
        drop(again);
        becomes("'shared' in sys.modules", "False");
        let second = start(LoopKind::Asyncio, &other, Secrets::default()).unwrap();
        assert_eq!(text(&second, "q").await, "other");
    }

    async fn a_job_has_its_own_settings_of_dspy() {
        let (_interpreter, _printed) = interpreter();
        let with = |configure: &str| {
            directory(&format!(
                "import dspy
from dspy.utils import DummyLM
{configure}
class Told(dspy.Module):
    async def aforward(self, question): return dspy.Prediction(answer=dspy.settings.lm.name)
def lm(name):
    made = DummyLM([])
    made.name = name
    return made
predict = Told()
"
            ))
        };
        let configured = |name: &str| {
            with(&format!("made = DummyLM([])\nmade.name = '{name}'\ndspy.configure(lm=made)"))
        };
        let (one, other, none) = (configured("one"), configured("other"), with(""));
        let refused = |directory: &TempDir| {
            let error = start(LoopKind::Asyncio, directory, Secrets::default()).err().unwrap().0;
            assert!(error.contains("no model was configured"), "{error}");
        };
        let first = start(LoopKind::Asyncio, &one, Secrets::default()).unwrap();
        refused(&none);
        let second = start(LoopKind::Uvloop, &other, Secrets::default()).unwrap();
        assert_eq!((text(&first, "q").await, text(&second, "q").await), ("one".to_owned(), "other".to_owned()));
        drop(first);
        assert_eq!(text(&second, "q").await, "other");
        drop(second);
        // The first job's import of DSPy has registered exit functions: it is taken out when the next one comes.
        becomes("len(sys.modules['_tokio_asyncio_bridge.brought']._jobs)", "1");
        refused(&none);
    }
}
