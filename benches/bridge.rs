//! What one call costs on each bridge, beside a hand-written asyncio script and the least that asyncio itself costs.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a bench prints, and fails by panicking")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_asyncio_bridge::bridge::Bridge;
use tokio_asyncio_bridge::bridge::into_future::IntoFutureBridge;
use tokio_asyncio_bridge::bridge::python::PythonBridge;
use tokio_asyncio_bridge::bridge::python::event_loop::LoopKind;
use tokio_asyncio_bridge::bridge::python::interpreter::{self, Interpreter};
use tokio_asyncio_bridge::bridge::python::predictor::{Model, ModelSettings, Request};
use tokio_asyncio_bridge::call::{Attempt, call_clock};
use tokio_asyncio_bridge::row::Value;
use tokio_asyncio_bridge::secret::Secrets;

use self::support::{Column, Design, compare, script};

const ROWS: usize = 20_000;
const IN_FLIGHT: usize = 100;
const SHUT_DOWN: Duration = Duration::from_secs(5);

fn main() {
    Interpreter::start(&interpreter::choose(None)).unwrap();
    let columns = ["asyncio", "uvloop"]
        .into_iter()
        .flat_map(|event_loop| ["at_once", "sleep_zero"].map(|predictor| Column { event_loop, predictor }));
    let designs: [Design; 4] = [
        ("asyncio: worker tasks (floor)", Box::new(|column| python("floor", column))),
        ("asyncio: Semaphore and timeout", Box::new(|column| python("script", column))),
        ("bridge: into_future", Box::new(|column| bridge(column, &into_future()))),
        ("bridge: python (production)", Box::new(|column| bridge(column, &production()))),
    ];
    let title = format!("microseconds a call, {ROWS} calls, {IN_FLIGHT} in flight");
    compare(&title, 1, &columns.collect::<Vec<_>>(), &designs);
}

fn python(design: &str, column: &Column) -> f64 {
    let rows = ROWS.to_string();
    script(&[design, &rows, column.predictor, column.event_loop]).parse::<f64>().unwrap() / ROWS as f64 * 1e6
}

/// Starts a bridge; and shuts it down.
struct Subject<B> {
    start: fn(LoopKind, Request) -> B,
    shut_down: fn(&B) -> bool,
}

fn production() -> Subject<PythonBridge> {
    Subject {
        start: |kind, request| PythonBridge::start(kind, request, Secrets::default()).unwrap(),
        shut_down: |bridge| bridge.shut_down(SHUT_DOWN),
    }
}

fn into_future() -> Subject<IntoFutureBridge> {
    Subject {
        start: |kind, request| IntoFutureBridge::start(kind, request, Secrets::default()).unwrap(),
        shut_down: |bridge| bridge.shut_down(SHUT_DOWN),
    }
}

/// Calls from as many Tokio tasks as there may be calls in flight, on one thread as in the program.
fn bridge<B: Bridge>(column: &Column, subject: &Subject<B>) -> f64 {
    let kind = if column.event_loop == "uvloop" { LoopKind::Uvloop } else { LoopKind::Asyncio };
    let request = Request {
        spec: format!("benches/script.py:{}", column.predictor),
        signature: String::new(),
        model: Model { explicit: false, provider: Box::new(|| Ok(ModelSettings::default())) },
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let bridge = Arc::new((subject.start)(kind, request));
        let (next, mut workers) = (Arc::new(AtomicUsize::new(0)), JoinSet::new());
        let started = Instant::now();
        for _ in 0..IN_FLIGHT {
            let (bridge, next) = (Arc::clone(&bridge), Arc::clone(&next));
            workers.spawn(async move {
                loop {
                    let row = next.fetch_add(1, Ordering::Relaxed);
                    if row >= ROWS {
                        return;
                    }
                    let arguments =
                        Arc::new(vec![("question".into(), Value::Text(format!("question {row}")))]);
                    let attempt = Attempt { row: row as u64, number: 1, arguments, clock: call_clock().0 };
                    timeout(Duration::from_secs(60), bridge.call(attempt)).await.unwrap().unwrap();
                }
            });
        }
        while let Some(worker) = workers.join_next().await {
            worker.unwrap();
        }
        let micros = started.elapsed().as_secs_f64() / ROWS as f64 * 1e6;
        assert!((subject.shut_down)(&bridge));
        micros
    })
}
