//! Measures what the engine itself costs a row, on the scripted bridge without Python: permits, clocks, timers, events.
#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use divan::counter::ItemsCount;
use tokio::sync::mpsc::channel;
use tokio::time::Instant;
use tokio_asyncio_bridge::bridge::scripted::{Script, ScriptedBridge};
use tokio_asyncio_bridge::engine::{Clock, Engine, EngineSettings, Rates, RequestsACall, RetryPolicy, Since};
use tokio_asyncio_bridge::row::{Row, RowHash, Value};

const ROWS: u64 = 10_000;

fn main() {
    divan::main();
}

/// Takes rows to their outcomes on one thread, as the program does, with `concurrency` calls in flight.
#[divan::bench(args = [1, 10, 100, 1_000, 10_000])]
fn rows(bencher: divan::Bencher<'_, '_>, concurrency: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let settings = EngineSettings {
        concurrency,
        timeout: Duration::from_secs(60),
        clock: Clock::Handover,
        row_timeout: None,
        stuck_after: Duration::from_secs(10),
        rates: Rates::default(),
        requests: RequestsACall::ONE,
        retry: RetryPolicy { retries: 3, base: Duration::from_secs(1), cap: Duration::from_secs(60) },
        seed: 0,
    };
    let name: Arc<str> = "question".into();
    bencher.counter(ItemsCount::new(ROWS)).bench_local(|| {
        runtime.block_on(async {
            let engine = Arc::new(Engine::new(Arc::new(ScriptedBridge::new(Script::default())), settings));
            let (events, mut inbox) = channel(1024);
            let mut batch = Vec::new();
            let since = Since { read: Instant::now(), first_call: Instant::now() };
            let (mut next, mut done) = (0, 0);
            while done < ROWS {
                while next < ROWS && next - done < 2 * concurrency as u64 {
                    let arguments = Arc::new(vec![(Arc::clone(&name), Value::Text(String::new()))]);
                    let row = Row { id: next, line: next + 2, hash: RowHash(next), arguments: Ok(arguments) };
                    tokio::spawn(Arc::clone(&engine).run(row, since, events.clone()));
                    next += 1;
                }
                let ended = inbox.recv_many(&mut batch, 1024).await;
                batch.clear();
                done += ended as u64;
            }
        });
    });
}
