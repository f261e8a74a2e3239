//! Measures what one call costs on each bridge, next to a hand-written asyncio script and to asyncio's own minimum.
//!
//! `cargo bench --bench bridge -- uvloop sleep_zero 100` measures only the lines that contain all these words.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a bench prints, and panics"
)]

mod support;

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_asyncio_bridge::bridge::into_future::IntoFutureBridge;
use tokio_asyncio_bridge::bridge::python::PythonBridge;
use tokio_asyncio_bridge::bridge::python::event_loop::LoopKind;
use tokio_asyncio_bridge::bridge::python::interpreter::{self, Interpreter};
use tokio_asyncio_bridge::bridge::python::predictor::Request;
use tokio_asyncio_bridge::bridge::{Attempt, Bridge, Secrets, call_clock};
use tokio_asyncio_bridge::row::Value;

use self::support::{Cost, Design, chosen, compare, script};

/// The program's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SHUT_DOWN: Duration = Duration::from_secs(5);

/// The conditions under which all designs are measured.
struct Condition {
    /// `asyncio` or `uvloop`.
    event_loop: &'static str,
    /// A function of `benches/script.py`.
    predictor: &'static str,
    in_flight: usize,
}

impl Condition {
    /// Enough calls for a few tenths of a second of the slowest design.
    fn rows(&self) -> usize {
        match (self.predictor, self.in_flight) {
            ("sleep_50_ms", in_flight) => in_flight * 5,
            (_, 1) => 5_000,
            (_, in_flight) => (in_flight * 5).max(20_000),
        }
    }
}

impl Display for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:7} {:11} {:>6}", self.event_loop, self.predictor, self.in_flight)
    }
}

fn main() {
    Interpreter::start(&interpreter::choose(None)).unwrap();
    let conditions = ["asyncio", "uvloop"].into_iter().flat_map(|event_loop| {
        ["at_once", "sleep_zero", "sleep_50_ms"].into_iter().flat_map(move |predictor| {
            [1, 10, 100, 1_000, 10_000].map(|in_flight| Condition { event_loop, predictor, in_flight })
        })
    });
    let designs: [Design<Condition>; 5] = [
        ("floor", Box::new(|condition| python("floor", condition))),
        ("floor + timeout", Box::new(|condition| python("floor_timeout", condition))),
        ("Semaphore script", Box::new(|condition| python("script", condition))),
        ("into_future", Box::new(|condition| bridge(condition, into_future))),
        ("python (production)", Box::new(|condition| bridge(condition, production))),
    ];
    compare("the bridge alone", 0, &chosen(conditions), &designs);
}

fn python(design: &str, condition: &Condition) -> Cost {
    let Condition { event_loop, predictor, in_flight } = condition;
    let rows = condition.rows();
    let (wall, cpu) = script(&[design, &rows.to_string(), &in_flight.to_string(), predictor, event_loop]);
    Cost::of(wall, cpu, rows)
}

/// Starts a bridge.
type Start = fn(LoopKind, Request) -> Arc<dyn Bridge>;

fn production(kind: LoopKind, request: Request) -> Arc<dyn Bridge> {
    Arc::new(PythonBridge::start(kind, request, Secrets::default()).unwrap())
}

fn into_future(kind: LoopKind, request: Request) -> Arc<dyn Bridge> {
    Arc::new(IntoFutureBridge::start(kind, request, Secrets::default()).unwrap())
}

/// Makes calls from as many Tokio tasks as there may be calls in flight, each with a timeout. As in the program, there
/// is one thread, and the arguments are kept until the call has ended.
fn bridge(condition: &Condition, start: Start) -> Cost {
    let kind = if condition.event_loop == "uvloop" { LoopKind::Uvloop } else { LoopKind::Asyncio };
    let request = Request::of_spec(format!("benches/script.py:{}", condition.predictor), condition.in_flight);
    let rows = condition.rows();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let bridge = start(kind, request);
        let (next, mut workers) = (Arc::new(AtomicUsize::new(0)), JoinSet::new());
        let name: Arc<str> = "question".into();
        let (started, cpu) = (Instant::now(), processor_s());
        for _ in 0..condition.in_flight {
            let (bridge, next, name) = (Arc::clone(&bridge), Arc::clone(&next), Arc::clone(&name));
            workers.spawn(async move {
                loop {
                    let row = next.fetch_add(1, Ordering::Relaxed);
                    if row >= rows {
                        return;
                    }
                    let question = Value::Text(format!("question {row}"));
                    let arguments = Arc::new(vec![(Arc::clone(&name), question)]);
                    let (clock, watch) = call_clock(started);
                    let given = Arc::clone(&arguments);
                    let attempt = Attempt { row: row as u64, number: 1, arguments: given, clock };
                    timeout(Duration::from_secs(60), bridge.submit(attempt)).await.unwrap().unwrap();
                    drop((watch, arguments));
                }
            });
        }
        while let Some(worker) = workers.join_next().await {
            worker.unwrap();
        }
        let cost = Cost::of(started.elapsed().as_secs_f64(), processor_s() - cpu, rows);
        assert!(bridge.close(SHUT_DOWN));
        cost
    })
}

/// Processor time of all threads of this process so far.
fn processor_s() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
