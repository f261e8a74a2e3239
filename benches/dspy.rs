//! Measures DSPy over HTTP: the program against the usual ways of calling DSPy, and against the sum of DSPy's own
//! parts. The server is scripted and answers at once or after a delay.
//!
//! It needs what `make test` sets up: `.venv` and `tests/node_modules`. Words on the command line choose what is
//! measured: `parts`, or a number of calls in flight.
#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]
#![allow(clippy::print_stdout, reason = "its figures")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

/// How often each way is measured, in turn with the others.
const ROUNDS: usize = 3;
const PEERS: [&str; 4] = ["parallel", "gather", "gather_tuned", "ours"];

/// Wall time of all rows, and processor time of one call.
#[derive(Clone, Copy)]
struct Cost {
    wall_s: f64,
    cpu_ms: f64,
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let wanted = |name: &str| words.is_empty() || words.iter().any(|word| word == name);
    let server = Server::start();
    if wanted("parts") {
        parts(&server);
    }
    for (rows, in_flight, latency_ms) in [(1_000, 64, 0), (2_000, 256, 500), (2_000, 512, 500)] {
        if wanted(&in_flight.to_string()) {
            speed(&server, rows, in_flight, latency_ms);
        }
    }
}

/// Compares the processor time of a call with that of DSPy without HTTP plus that of its HTTP engine alone.
fn parts(server: &Server) {
    let [floor, engine, ours] = medians(server, &["floor", "engine", "ours"], 1_000, 64)[..] else { return };
    let sum = floor.cpu_ms + engine.cpu_ms;
    println!("processor time a call, 64 in flight, ms (median of {ROUNDS}, measured in turn)");
    println!("  DSPy without HTTP {:.2} + its engine alone {:.2} = {sum:.2}", floor.cpu_ms, engine.cpu_ms);
    println!("  ours {:.2}, times that sum: {:.2}\n", ours.cpu_ms, ours.cpu_ms / sum);
}

/// Compares all ways of calling DSPy by rows a second.
fn speed(server: &Server, rows: usize, in_flight: usize, latency_ms: u64) {
    server.delay(latency_ms);
    let ideal_s = (rows as f64 / in_flight as f64).ceil() * latency_ms as f64 / 1e3;
    println!(
        "{rows} rows, {in_flight} in flight, {latency_ms} ms at the server (median of {ROUNDS}, in turn)"
    );
    let costs = medians(server, &PEERS, rows, in_flight);
    for (name, cost) in PEERS.iter().zip(&costs) {
        // No way can be faster than the server.
        let (at_most, ideal) = if latency_ms > 0 {
            let at_most = format!(" (at most {:.2})", costs[0].wall_s / ideal_s);
            (at_most, format!(", wall {:.2} of ideal", cost.wall_s / ideal_s))
        } else {
            Default::default()
        };
        println!(
            "  {name:13}{:7.0} rows/s, times parallel: {:.2}{at_most}{ideal}; processor {:.2} ms a call",
            rows as f64 / cost.wall_s,
            costs[0].wall_s / cost.wall_s,
            cost.cpu_ms
        );
    }
    println!();
    server.delay(0);
}

/// Medians by mode.
fn medians(server: &Server, modes: &[&str], rows: usize, in_flight: usize) -> Vec<Cost> {
    let mut costs = vec![Vec::new(); modes.len()];
    for _ in 0..ROUNDS {
        for (mode, costs) in modes.iter().zip(&mut costs) {
            costs.push(server.measure(mode, rows, in_flight));
        }
    }
    let median = |costs: &[Cost], figure: fn(&Cost) -> f64| {
        let mut figures: Vec<f64> = costs.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        figures[figures.len() / 2]
    };
    let cost = |costs: &Vec<Cost>| Cost {
        wall_s: median(costs, |cost| cost.wall_s),
        cpu_ms: median(costs, |cost| cost.cpu_ms),
    };
    costs.iter().map(cost).collect()
}

/// A server that gives every question the same answer.
struct Server {
    child: Child,
    address: String,
    _fixtures: tempfile::NamedTempFile,
}

impl Server {
    fn start() -> Self {
        let content =
            "[[ ## reasoning ## ]]\nBy heart.\n\n[[ ## answer ## ]]\nAnswer\n\n[[ ## completed ## ]]";
        let fixture = json!({"match": {"userMessage": "Question"}, "response": {"content": content}});
        let mut fixtures = tempfile::Builder::new().suffix(".json").tempfile().unwrap();
        fixtures.write_all(json!({"fixtures": [fixture]}).to_string().as_bytes()).unwrap();
        let mut child = Command::new("node")
            .args(["tests/node_modules/@copilotkit/aimock/dist/cli.js", "--port", "0", "--fixtures"])
            .arg(fixtures.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let address = lines.find_map(|line| Some(line.split_once("listening on http://")?.1.to_owned()));
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address: address.unwrap(), _fixtures: fixtures }
    }

    fn delay(&self, latency_ms: u64) {
        let body = json!({"latencyMs": latency_ms}).to_string();
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let head = format!(
            "POST /__aimock/chaos HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
    }

    fn measure(&self, mode: &str, rows: usize, in_flight: usize) -> Cost {
        let output = Command::new(".venv/bin/python")
            .args(["benches/dspy_peers.py", mode, &format!("http://{}/v1", self.address)])
            .args([rows.to_string(), in_flight.to_string()])
            .env("PROGRAM", env!("CARGO_BIN_EXE_tokio-asyncio-bridge"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{mode}: {}", String::from_utf8_lossy(&output.stderr));
        let cost: Value = serde_json::from_slice(&output.stdout).unwrap();
        let seconds = |name: &str| cost[name].as_f64().unwrap();
        Cost { wall_s: seconds("wall_s"), cpu_ms: seconds("cpu_s") * 1e3 / rows as f64 }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}
