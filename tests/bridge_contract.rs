//! One contract, four bridges: production, the same at the other end of a connection (`remote`), textbook
//! (`into_future`) and scripted.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod calls;

use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use tokio::io::duplex;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinSet;
use tokio_asyncio_bridge::bridge::into_future::IntoFutureBridge;
use tokio_asyncio_bridge::bridge::python::PythonBridge;
use tokio_asyncio_bridge::bridge::python::event_loop::LoopKind;
use tokio_asyncio_bridge::bridge::python::interpreter::{self, Interpreter};
use tokio_asyncio_bridge::bridge::python::predictor::{LoadError, Request};
use tokio_asyncio_bridge::bridge::remote::{Host, Remote, Started, StreamTransport, serve};
use tokio_asyncio_bridge::bridge::scripted::{Script, ScriptedBridge};
use tokio_asyncio_bridge::bridge::{Attempt, Bridge, Call, Description, Health, Secrets};
use tokio_asyncio_bridge::error::{BridgeError, CallError};
use tokio_asyncio_bridge::outcome::Answer;

use self::calls::{attempt, begun, text};

/// What the predictor of a test does.
#[derive(Clone, Copy)]
enum Behaviour {
    /// Returns its question.
    Echo,
    /// Takes the question's seconds.
    Sleep,
    /// Fails for some questions.
    Mixed,
}

/// A bridge under test.
trait Subject: Bridge + Sized {
    fn make(behaviour: Behaviour, event_loop: LoopKind) -> Self;
    fn end(&self) {
        assert!(self.close(Duration::from_secs(10)), "the bridge did not close in time");
    }
    /// Seconds that only this subject's calls sleep on this loop, so that what they count is told apart; `None` without
    /// Python.
    fn seconds(_: LoopKind) -> Option<&'static str> {
        None
    }
}

fn request(name: &str) -> Request {
    calls::request(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/predictors/contract.py"), name)
}

fn name_of(behaviour: Behaviour) -> &'static str {
    match behaviour {
        Behaviour::Echo => "echo",
        Behaviour::Sleep => "sleeper",
        Behaviour::Mixed => "mixed",
    }
}

fn python() {
    Interpreter::start(&interpreter::choose(None)).unwrap();
}

/// What the predictor modules of this process have counted under a name.
fn seen(name: &str) -> usize {
    Python::attach(|py| {
        let locals = pyo3::types::PyDict::new(py);
        locals.set_item("name", name).unwrap();
        let sum =
            c"sum(m.seen[name] for m in list(__import__('sys').modules.values()) if hasattr(m, 'sleeper'))";
        py.eval(sum, Some(&locals), None).unwrap().extract().unwrap()
    })
}

impl Subject for PythonBridge {
    fn make(behaviour: Behaviour, event_loop: LoopKind) -> Self {
        python();
        Self::start(event_loop, request(name_of(behaviour)), Secrets::default()).unwrap()
    }
    fn seconds(event_loop: LoopKind) -> Option<&'static str> {
        Some(if event_loop == LoopKind::Uvloop { "31" } else { "32" })
    }
}

/// The production bridge at the other end of a connection.
struct RemoteBridge(Remote);

/// Where the calling ends are served: a test may block its own runtime.
static CONNECTIONS: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap());

impl RemoteBridge {
    fn start(event_loop: LoopKind, request: Request, secrets: Secrets) -> Result<Self, LoadError> {
        let (here, there) = duplex(64 << 10);
        let start = move || {
            let bridge =
                PythonBridge::start(event_loop, request, secrets).map_err(|error| error.to_string())?;
            Ok(Started { bridge: Arc::new(bridge), facts: Vec::new() })
        };
        thread::spawn(move || {
            let worker = Builder::new_current_thread().enable_all().build().unwrap();
            worker.block_on(serve(StreamTransport(there), move |_, _| start(), || ()))
        });
        let host = Host { model: Box::new(|| Err("there is none".to_owned())), printed: Box::new(|_| {}) };
        let home = Handle::current();
        let connecting =
            move || CONNECTIONS.block_on(Remote::connect(StreamTransport(here), b"", host, &home));
        let connected = thread::spawn(connecting).join().unwrap();
        connected.map(Self).map_err(|error| LoadError(error.to_string()))
    }
}

impl Bridge for RemoteBridge {
    fn describe(&self) -> &Description {
        self.0.describe()
    }
    fn submit(&self, attempt: Attempt) -> Call {
        self.0.submit(attempt)
    }
    fn health(&self) -> Health {
        self.0.health()
    }
    fn close(&self, within: Duration) -> bool {
        self.0.close(within)
    }
}

impl Subject for RemoteBridge {
    fn make(behaviour: Behaviour, event_loop: LoopKind) -> Self {
        python();
        Self::start(event_loop, request(name_of(behaviour)), Secrets::default()).unwrap()
    }
    fn seconds(event_loop: LoopKind) -> Option<&'static str> {
        Some(if event_loop == LoopKind::Uvloop { "35" } else { "36" })
    }
}

impl Subject for IntoFutureBridge {
    fn make(behaviour: Behaviour, event_loop: LoopKind) -> Self {
        python();
        Self::start(event_loop, request(name_of(behaviour)), Secrets::default()).unwrap()
    }
    fn seconds(event_loop: LoopKind) -> Option<&'static str> {
        Some(if event_loop == LoopKind::Uvloop { "33" } else { "34" })
    }
}

impl Subject for ScriptedBridge {
    fn make(behaviour: Behaviour, _: LoopKind) -> Self {
        Self::new(match behaviour {
            Behaviour::Echo => Script::default(),
            Behaviour::Sleep => Script { hang: 1.0, ..Script::default() },
            Behaviour::Mixed => Script { permanent: 0.5, ..Script::default() },
        })
    }
}

async fn ask(bridge: &impl Bridge, row: u64, question: &str) -> Result<Answer, CallError> {
    bridge.submit(attempt(row, question).0).await
}

/// So many calls at once.
fn ask_all<B: Bridge + 'static>(
    bridge: &Arc<B>,
    calls: u64,
    question: &'static str,
) -> JoinSet<Result<Answer, CallError>> {
    let ask = |row| {
        let bridge = Arc::clone(bridge);
        async move { ask(&*bridge, row, question).await }
    };
    (0..calls).map(ask).collect()
}

const SOON: Duration = Duration::from_secs(5);

async fn returns_the_value_and_marks_the_clock<B: Subject>(event_loop: LoopKind) {
    let bridge = B::make(Behaviour::Echo, event_loop);
    let (attempt, watch) = attempt(0, "What is the capital of France? é 中 \"quoted\"");
    assert_eq!(text(bridge.submit(attempt).await), "What is the capital of France? é 中 \"quoted\"");
    assert!(watch.begun().unwrap() <= watch.ended().unwrap());
    tokio::time::timeout(SOON, watch.over()).await.expect("something of the call is left");
    bridge.end();
}

async fn a_timeout_cancels_and_leaves_nothing_running<B: Subject>(event_loop: LoopKind) {
    let bridge = B::make(Behaviour::Sleep, event_loop);
    for row in 0..50 {
        let (attempt, watch) = attempt(row, B::seconds(event_loop).unwrap_or_default());
        let call = tokio::time::timeout(Duration::from_millis(20), bridge.submit(attempt));
        assert!(call.await.is_err(), "the call ended by itself");
        tokio::time::timeout(SOON, watch.over()).await.expect("the cancelled call is still running");
    }
    if let Some(seconds) = B::seconds(event_loop) {
        let (started, cancelled) =
            (seen(&format!("started {seconds}")), seen(&format!("cancelled {seconds}")));
        assert!(
            started > 0 && started == cancelled,
            "{started} tasks started, {cancelled} saw CancelledError"
        );
    }
    bridge.end();
}

async fn a_dropped_call_is_cancelled<B: Subject>(event_loop: LoopKind) {
    let bridge = B::make(Behaviour::Sleep, event_loop);
    let (attempt, watch) = attempt(0, "30");
    // Handed over at once, without being polled; then dropped.
    drop(bridge.submit(attempt));
    tokio::time::timeout(SOON, watch.over()).await.expect("the dropped call is still running");
    bridge.end();
}

async fn ten_thousand_calls_each_get_their_own_answer<B: Subject>(event_loop: LoopKind) {
    let bridge = Arc::new(B::make(Behaviour::Echo, event_loop));
    let mut calls = JoinSet::new();
    for row in 0..10_000 {
        let bridge = Arc::clone(&bridge);
        calls.spawn(async move { (row, text(ask(&*bridge, row, &format!("question {row}")).await)) });
    }
    let mut answered = 0;
    while let Some(done) = calls.join_next().await {
        let (row, answer) = done.unwrap();
        assert_eq!(answer, format!("question {row}"));
        answered += 1;
    }
    assert_eq!(answered, 10_000);
    bridge.end();
}

async fn a_failure_in_one_call_harms_no_other<B: Subject>(event_loop: LoopKind) {
    let bridge = Arc::new(B::make(Behaviour::Mixed, event_loop));
    let hostile = [
        "value error",
        "exit",
        "interrupt",
        "cancel",
        "generator exit",
        "stop",
        "cancel itself",
        "unprintable",
        "no answer",
    ];
    let mut calls = JoinSet::new();
    for row in 0..400_u64 {
        let bridge = Arc::clone(&bridge);
        let question =
            hostile.get((row % 20) as usize).map_or_else(|| format!("question {row}"), |h| (*h).to_owned());
        calls.spawn(async move {
            let reply = ask(&*bridge, row, &question).await;
            (question, reply)
        });
    }
    let (mut answered, mut failed) = (0, 0);
    while let Some(done) = tokio::time::timeout(SOON, calls.join_next()).await.expect("a call hangs") {
        let (question, reply) = done.unwrap();
        match reply {
            Ok(answer) => {
                assert_eq!(text(Ok(answer)), question);
                answered += 1;
            }
            Err(CallError::Predictor(_) | CallError::Output(_)) => failed += 1,
            Err(other) => panic!("{question}: {other:?}"),
        }
    }
    assert!(answered > 0 && failed > 0 && answered + failed == 400, "{answered} answered, {failed} failed");
    // The loop still serves.
    assert!(ask(&*bridge, 7, "question 7").await.is_ok() || B::seconds(event_loop).is_none());
    bridge.end();
}

async fn describes_itself_with_data_that_another_process_can_read<B: Subject>(event_loop: LoopKind) {
    let bridge = B::make(Behaviour::Echo, event_loop);
    let description = bridge.describe();
    assert!(description.parameters.iter().any(|parameter| parameter.name == "question"), "{description:?}");
    assert!(!description.bridge.is_empty() && !description.event_loop.is_empty(), "{description:?}");
    let read: Description = serde_json::from_str(&serde_json::to_string(description).unwrap()).unwrap();
    assert_eq!(read, *description);
    ask(&bridge, 0, "asked with what it describes").await.unwrap();
    bridge.end();
}

async fn its_health_tells_the_calls_that_are_left<B: Subject>(event_loop: LoopKind) {
    let bridge = B::make(Behaviour::Sleep, event_loop);
    let calls = || bridge.health().lanes.iter().map(|lane| lane.calls).sum::<u64>();
    let (attempts, watches): (Vec<_>, Vec<_>) = (0..5).map(|row| attempt(row, "30")).unzip();
    let made: Vec<_> = attempts.into_iter().map(|attempt| bridge.submit(attempt)).collect();
    assert_eq!(calls(), 5);
    let health = bridge.health();
    let read: Health = serde_json::from_str(&serde_json::to_string(&health).unwrap()).unwrap();
    assert_eq!(read, health);
    drop(made);
    for watch in watches {
        tokio::time::timeout(SOON, watch.over()).await.expect("the dropped call is still running");
        assert_eq!((watch.stalled_now(), watch.excused()), (Duration::ZERO, Duration::ZERO));
    }
    let none_is_left = async {
        while calls() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, none_is_left).await.expect("a call is counted for ever");
    bridge.end();
}

/// Calls that hang end as soon as their bridge does, whether it is closed or dropped.
async fn calls_end_with_their_bridge<B: Subject>(event_loop: LoopKind) {
    for closes in [true, false] {
        let bridge = B::make(Behaviour::Sleep, event_loop);
        let (attempts, watches): (Vec<_>, Vec<_>) = (0..100).map(|row| attempt(row, "30")).unzip();
        let mut calls: JoinSet<_> = attempts.into_iter().map(|attempt| bridge.submit(attempt)).collect();
        begun(&watches).await;
        let before = Instant::now();
        if closes {
            bridge.end();
            let late = ask(&bridge, 100, "0").await;
            assert!(matches!(late, Err(CallError::Bridge(BridgeError::LoopStopped))), "{late:?}");
        }
        drop(bridge);
        assert!(before.elapsed() < SOON);
        while let Some(done) = tokio::time::timeout(SOON, calls.join_next()).await.expect("a call hangs") {
            assert!(matches!(done.unwrap(), Err(CallError::Bridge(BridgeError::LoopStopped))));
        }
    }
}

macro_rules! contract {
    ($($module:ident: $subject:ty, $event_loop:ident;)+) => {$(
        mod $module {
            use super::*;

            #[tokio::test]
            async fn returns_the_value_and_marks_the_clock() {
                super::returns_the_value_and_marks_the_clock::<$subject>(LoopKind::$event_loop).await;
            }
            #[tokio::test]
            async fn a_timeout_cancels_and_leaves_nothing_running() {
                super::a_timeout_cancels_and_leaves_nothing_running::<$subject>(LoopKind::$event_loop).await;
            }
            #[tokio::test]
            async fn a_dropped_call_is_cancelled() {
                super::a_dropped_call_is_cancelled::<$subject>(LoopKind::$event_loop).await;
            }
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn ten_thousand_calls_each_get_their_own_answer() {
                super::ten_thousand_calls_each_get_their_own_answer::<$subject>(LoopKind::$event_loop).await;
            }
            #[tokio::test]
            async fn describes_itself_with_data_that_another_process_can_read() {
                super::describes_itself_with_data_that_another_process_can_read::<$subject>(LoopKind::$event_loop).await;
            }
            #[tokio::test]
            async fn its_health_tells_the_calls_that_are_left() {
                super::its_health_tells_the_calls_that_are_left::<$subject>(LoopKind::$event_loop).await;
            }
            #[tokio::test]
            async fn calls_end_with_their_bridge() {
                super::calls_end_with_their_bridge::<$subject>(LoopKind::$event_loop).await;
            }
            #[tokio::test]
            async fn a_failure_in_one_call_harms_no_other() {
                super::a_failure_in_one_call_harms_no_other::<$subject>(LoopKind::$event_loop).await;
            }
        }
    )+};
}

contract! {
    production_on_uvloop: PythonBridge, Uvloop;
    production_on_asyncio: PythonBridge, Asyncio;
    remote_on_uvloop: RemoteBridge, Uvloop;
    remote_on_asyncio: RemoteBridge, Asyncio;
    into_future_on_uvloop: IntoFutureBridge, Uvloop;
    into_future_on_asyncio: IntoFutureBridge, Asyncio;
    scripted: ScriptedBridge, Auto;
}

/// What only Python bridges can show.
macro_rules! python_contract {
    ($($module:ident: $subject:ty, $event_loop:ident;)+) => {$(
        mod $module {
            use super::*;

            fn start(name: &str) -> $subject {
                python();
                <$subject>::start(LoopKind::$event_loop, request(name), Secrets::default()).unwrap()
            }

            #[tokio::test]
            async fn every_call_has_its_own_copy_of_the_context_the_predictor_was_loaded_in() {
                let bridge = start("isolated");
                let (one, other) = tokio::join!(ask(&bridge, 0, "one"), ask(&bridge, 1, "other"));
                assert_eq!(text(one), "set at import, one");
                assert_eq!(text(other), "set at import, other");
                bridge.end();
            }

            #[tokio::test]
            async fn asyncio_timeout_works_inside_a_predictor() {
                let bridge = start("timed");
                match ask(&bridge, 0, "q").await {
                    Err(CallError::Predictor(error)) => assert_eq!(&*error.class, "TimeoutError"),
                    other => panic!("{other:?}"),
                }
                bridge.end();
            }

            #[tokio::test]
            async fn a_call_that_ignores_cancellation_keeps_its_clock_until_it_ends() {
                let bridge = start("stubborn");
                let (attempt, watch) = attempt(0, "8");
                assert!(tokio::time::timeout(Duration::from_millis(60), bridge.submit(attempt)).await.is_err());
                assert!(tokio::time::timeout(Duration::from_millis(100), watch.over()).await.is_err(), "it ended at once");
                tokio::time::timeout(SOON, watch.over()).await.expect("it never ended");
                bridge.end();
            }

            #[tokio::test]
            async fn chunks_of_an_async_generator_are_joined_and_the_first_is_timed() {
                let bridge = start("streamed");
                let answer = ask(&bridge, 0, "Par is !").await.unwrap();
                // A loop may count from the beginning of its turn.
                assert!(answer.first_chunk.unwrap() >= Duration::from_millis(5));
                assert_eq!(text(Ok(answer)), "Paris!");
                bridge.end();
            }

            #[tokio::test]
            async fn plain_functions_run_on_as_many_threads_as_there_are_calls() {
                let bridge = Arc::new(start("threaded"));
                let mut calls = JoinSet::new();
                for row in 0..50 {
                    let bridge = Arc::clone(&bridge);
                    calls.spawn(async move { text(ask(&*bridge, row, "q").await) });
                }
                // The predictor's barrier lets nobody through before all 50 are there.
                while let Some(done) = tokio::time::timeout(SOON, calls.join_next()).await.expect("the pool is capped") {
                    assert!(done.unwrap().ends_with(" q"));
                }
                bridge.end();
            }

            #[tokio::test]
            async fn calls_that_wait_are_all_begun_after_quick_ones() {
                let bridge = Arc::new(start("together"));
                ask_all(&bridge, 16, "at once").join_all().await;
                let slow = ask_all(&bridge, 8, "8").join_all();
                tokio::time::timeout(SOON, slow).await.expect("some never began");
                bridge.end();
            }

            #[tokio::test]
            async fn calls_that_wait_are_all_begun_beside_quick_ones() {
                let bridge = Arc::new(start("together"));
                let mut quick = ask_all(&bridge, 8, "next turn");
                let ask_on = async {
                    while let Some(done) = quick.join_next().await {
                        done.unwrap().unwrap();
                        let bridge = Arc::clone(&bridge);
                        quick.spawn(async move { ask(&*bridge, 0, "next turn").await });
                    }
                };
                let slow = async {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    ask_all(&bridge, 100, "100").join_all().await
                };
                tokio::select! {
                    _ = tokio::time::timeout(SOON, ask_on) => panic!("some never began"),
                    answers = slow => assert!(answers.into_iter().all(|answer| text(answer) == "100")),
                }
                bridge.end();
            }

            #[tokio::test]
            async fn a_lone_surrogate_is_kept_escaped_and_an_object_is_an_output_error() {
                let bridge = start("mixed");
                assert_eq!(text(ask(&bridge, 0, "surrogate").await), "paid \\ud800 for");
                match ask(&bridge, 0, "no answer").await {
                    Err(CallError::Output(message)) => assert!(message.contains("of type object"), "{message}"),
                    other => panic!("{other:?}"),
                }
                match ask(&bridge, 0, "unprintable").await {
                    Err(CallError::Predictor(error)) => assert_eq!(&*error.class, "Unprintable"),
                    other => panic!("{other:?}"),
                }
                bridge.end();
            }
        }
    )+};
}

python_contract! {
    production_python_on_uvloop: PythonBridge, Uvloop;
    production_python_on_asyncio: PythonBridge, Asyncio;
    remote_python_on_uvloop: RemoteBridge, Uvloop;
    remote_python_on_asyncio: RemoteBridge, Asyncio;
    into_future_python_on_uvloop: IntoFutureBridge, Uvloop;
    into_future_python_on_asyncio: IntoFutureBridge, Asyncio;
}

/// On `into_future` each call has a task of its own, which is then cancelled.
#[tokio::test]
async fn a_predictor_that_cancels_all_tasks_there_are_keeps_no_call_from_being_made() {
    python();
    for kind in [LoopKind::Asyncio, LoopKind::Uvloop] {
        let bridge = PythonBridge::start(kind, request("reckless"), Secrets::default()).unwrap();
        let bridge = Arc::new(bridge);
        for _ in 0..50 {
            let mut calls = ask_all(&bridge, 1, "cancel all");
            for row in 1..8 {
                let bridge = Arc::clone(&bridge);
                calls.spawn(async move { ask(&*bridge, row, "q").await });
            }
            let calls = tokio::time::timeout(SOON, calls.join_all()).await.expect("a call hangs");
            assert!(calls.iter().all(Result::is_ok), "none of them waits for anything");
            let alone = tokio::time::timeout(SOON, ask(&*bridge, 8, "q"));
            assert_eq!(text(alone.await.expect("a call hangs")), "q");
        }
        bridge.end();
    }
}
