//! Calls of a bridge, made without the engine. `tests/bridge_contract.rs` and `tests/two_jobs.rs` use them.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_asyncio_bridge::bridge::python::predictor::Request;
use tokio_asyncio_bridge::bridge::{Attempt, CallWatch, Reply, call_clock};
use tokio_asyncio_bridge::row::Value;

/// A request for a predictor in a file, for up to 16 calls at once.
pub(crate) fn request(file: &Path, name: &str) -> Request {
    Request::of_spec(format!("{}:{name}", file.display()), 16)
}

/// The first attempt of a row, and what tells how far it is.
pub(crate) fn attempt(row: u64, question: &str) -> (Attempt, CallWatch) {
    let (clock, watch) = call_clock(Instant::now());
    let arguments = Arc::new(vec![("question".into(), Value::Text(question.to_owned()))]);
    (Attempt { row, number: 1, arguments, clock }, watch)
}

/// Waits until all these calls run.
pub(crate) async fn begun(calls: &[CallWatch]) {
    let until = Instant::now() + Duration::from_secs(10);
    while calls.iter().any(|call| call.begun().is_none()) {
        assert!(Instant::now() < until, "a call does not begin");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The text of an answer's first field.
pub(crate) fn text(reply: Reply) -> String {
    match reply.unwrap().fields.into_iter().next().unwrap() {
        (_, Value::Text(text)) => text,
        (name, Value::Json(json)) => panic!("field {name} is {json}"),
    }
}
