//! Measures the resident memory of calls in flight that wait, each case in a process of its own.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a bench prints, and fails by panicking")]

#[path = "support/script.rs"]
mod script;

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};
use tokio_asyncio_bridge::bridge::into_future::IntoFutureBridge;
use tokio_asyncio_bridge::bridge::python::PythonBridge;
use tokio_asyncio_bridge::bridge::python::event_loop::LoopKind;
use tokio_asyncio_bridge::bridge::python::interpreter::{self, Interpreter};
use tokio_asyncio_bridge::bridge::python::predictor::Request;
use tokio_asyncio_bridge::bridge::{Attempt, Bridge, Secrets, call_clock};
use tokio_asyncio_bridge::row::Value;

const IN_FLIGHT: [usize; 3] = [1_000, 10_000, 100_000];

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, held, design, in_flight] = &arguments[..]
        && held == "held"
    {
        println!("{}", held_by(design, in_flight.parse().unwrap()));
        return;
    }
    println!(
        "\nbytes a call in flight, timeout included\n\n{:24}{}",
        "",
        IN_FLIGHT.map(|n| format!("{n:>10}")).concat()
    );
    let script = IN_FLIGHT.map(|in_flight| script::script(&[&in_flight.to_string()]).0);
    print("asyncio task", script);
    for design in ["into_future", "python"] {
        print(design, IN_FLIGHT.map(|in_flight| in_a_process(design, in_flight)));
    }
}

fn print(design: &str, bytes: [f64; 3]) {
    println!("{design:24}{}", bytes.map(|bytes| format!("{bytes:>10.0}")).concat());
}

fn in_a_process(design: &str, in_flight: usize) -> f64 {
    let this = std::env::current_exe().unwrap();
    let output = Command::new(this).args(["held", design, &in_flight.to_string()]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().parse().unwrap()
}

fn held_by(design: &str, in_flight: usize) -> f64 {
    Interpreter::start(&interpreter::choose(None)).unwrap();
    let request = Request::of_spec("benches/script.py:hold".to_owned(), in_flight);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        if design == "python" {
            held(PythonBridge::start(LoopKind::Asyncio, request, Secrets::default()).unwrap(), in_flight)
                .await
        } else {
            held(IntoFutureBridge::start(LoopKind::Asyncio, request, Secrets::default()).unwrap(), in_flight)
                .await
        }
    })
}

/// Resident bytes a call, once all calls have begun.
async fn held<B: Bridge>(bridge: B, in_flight: usize) -> f64 {
    let (bridge, name) = (Arc::new(bridge), Arc::<str>::from("question"));
    let before = resident();
    let mut watches = Vec::with_capacity(in_flight);
    for row in 0..in_flight {
        let (clock, watch) = call_clock(Instant::now());
        let arguments = Arc::new(vec![(Arc::clone(&name), Value::Text(format!("question {row}")))]);
        let attempt = Attempt { row: row as u64, number: 1, arguments, clock };
        let bridge = Arc::clone(&bridge);
        tokio::spawn(async move { timeout(Duration::from_secs(7200), bridge.submit(attempt)).await });
        watches.push(watch);
    }
    while watches.iter().any(|watch| watch.begun().is_none()) {
        sleep(Duration::from_millis(10)).await;
    }
    (resident() - before) / in_flight as f64
}

/// Resident bytes of this process, from the second field of `statm` in pages (`proc_pid_statm(5)`).
fn resident() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 4096.0
}
