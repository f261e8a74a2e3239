//! How many calls are in flight, how long each may take, and which are retried.

use serde_json::json;

use super::support::job::Job;

/// A predictor that answers with the number of calls that were in flight beside it, itself included.
const COUNTING: &str = "
running = 0
async def predict(question):
    global running
    running += 1
    try:
        most = 0
        for _ in range(5):
            await asyncio.sleep(0.01)
            most = max(most, running)
        return {'most': most}
    finally:
        running -= 1";

fn most(job: &Job) -> u32 {
    job.column("most").iter().map(|text| text.parse().unwrap()).max().unwrap()
}

#[test]
fn calls_in_flight_never_exceed_the_concurrency_and_reach_it() {
    let job = Job::new().questions(60).predictor(COUNTING).args(["-c", "7"]);
    job.process().expect(0);
    assert_eq!(most(&job), 7);
    assert_eq!(job.report()["concurrency"]["achieved_max"], 7);
}

#[test]
fn sequential_makes_one_call_at_a_time() {
    let job = Job::new().questions(10).predictor(COUNTING).args(["--sequential", "-c", "8"]);
    job.process().expect(0);
    assert_eq!(most(&job), 1);
    let concurrency = job.report()["concurrency"].clone();
    assert_eq!([&concurrency["requested"], &concurrency["achieved_max"]], [1, 1]);
}

#[test]
fn the_later_of_sequential_and_concurrent_wins() {
    let job = Job::new().questions(10).predictor(COUNTING);
    job.process_with(&["--sequential", "--concurrent"]).expect(0);
    assert_eq!(most(&job), 10);
}

#[test]
fn hanging_rows_time_out_alone_and_nothing_is_left_running() {
    let job = Job::new().questions(200).args(["--timeout", "200ms", "--retries", "0"]).predictor(
        "import atexit
hanging = set()
@atexit.register
def left():
    called({'left running': len(hanging)})
async def predict(question, row_id):
    if row_id % 50 == 49:
        hanging.add(row_id)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            called({'cancelled': row_id})
            raise
        finally:
            hanging.discard(row_id)
    return question",
    );
    let done = job.process().expect(3).prints("4 rows: 4 timeout");
    assert!(done.took.as_secs_f64() < 30.0, "{:?}", done.took);
    let answers = job.answers();
    for (row, answer) in answers.iter().enumerate() {
        let expected = if row % 50 == 49 { "failed" } else { "ok" };
        assert_eq!(answer["status"], expected, "row {row}: {answer:?}");
    }
    assert_eq!(answers[49]["error"], "timeout: no answer within 200ms");
    let latency: f64 = answers[49]["latency_ms"].parse().unwrap();
    // The timeout runs from the hand-over, the latency from the call's start on the loop, a little later.
    assert!((100.0..5000.0).contains(&latency), "{latency}");
    let mut notes = job.calls();
    assert_eq!(notes.pop(), Some(json!({"left running": 0})));
    notes.sort_by_key(|note| note["cancelled"].as_u64());
    assert_eq!(notes, [49, 99, 149, 199].map(|row| json!({"cancelled": row})));
    let attempts = job.report()["attempts"].clone();
    assert_eq!([&attempts["timeouts"], &attempts["abandoned"]], [4, 0]);
}

#[test]
fn a_slow_first_attempt_is_timed_out_then_retried() {
    let job = Job::new().questions(3).args(["--timeout", "200ms", "--backoff", "1ms"]).predictor(
        "async def predict(question, attempt):
             called(attempt)
             if attempt == 1:
                 await asyncio.sleep(60)
             return question",
    );
    job.process().expect(0);
    assert_eq!(job.column("attempts"), ["2", "2", "2"]);
    assert_eq!(job.calls().len(), 6);
    let attempts = job.report()["attempts"].clone();
    assert_eq!([&attempts["timeouts"], &attempts["retries"], &attempts["first_try_ok"]], [3, 3, 0]);
}

#[test]
fn a_transient_failure_is_retried_as_often_as_allowed_and_no_more() {
    let job = Job::new().questions(1).args(["--retries", "3", "--backoff", "1ms"]).predictor(
        "async def predict(question, attempt):
             called(attempt)
             raise ConnectionError(f'lost {attempt}')",
    );
    job.process().expect(3);
    assert_eq!(job.calls(), [1, 2, 3, 4]);
    assert_eq!(job.column("attempts"), ["4"]);
    assert_eq!(job.column("error"), ["ConnectionError: lost 4"]);
}

#[test]
fn without_retries_a_transient_failure_is_final() {
    let job = Job::new().questions(1).args(["--retries", "0"]).predictor(
        "async def predict(question):
             called(question)
             raise ConnectionError('lost')",
    );
    job.process().expect(3);
    assert_eq!(job.calls().len(), 1);
}

#[test]
fn what_cannot_get_better_is_not_retried_and_what_may_is() {
    let raised = [
        ("TypeError()", "1"),
        ("NameError()", "1"),
        ("AttributeError()", "1"),
        ("ImportError()", "1"),
        ("KeyError()", "1"),
        ("NotImplementedError()", "1"),
        ("AssertionError()", "1"),
        ("ValueError()", "1"),
        ("Answered(404)", "1"),
        ("OSError()", "2"),
        ("RuntimeError()", "2"),
        ("TimeoutError()", "2"),
        ("json.JSONDecodeError('x', 'y', 0)", "2"),
        ("Answered(408)", "2"),
        ("Answered(409)", "2"),
        ("Answered(500)", "2"),
    ];
    let rows: String = raised.iter().map(|(error, _)| format!("\"{error}\"\n")).collect();
    let job = Job::new()
        .file("questions.csv", format!("question\n{rows}"))
        .predictor(
            "class Answered(Exception):
                 def __init__(self, status):
                     self.status_code = status
async def predict(question):
    raise eval(question)",
        )
        .args(["--retries", "1", "--backoff", "1ms"]);
    job.process().expect(3);
    let attempts = job.column("attempts");
    for ((error, expected), attempts) in raised.iter().zip(&attempts) {
        assert_eq!(attempts, expected, "{error}");
    }
}

#[test]
fn a_server_that_asks_to_wait_is_waited_for_and_uses_up_no_retry() {
    let job = Job::new().questions(1).args(["--retries", "0", "--backoff", "1ms"]).predictor(
        "class Limited(Exception):
             status_code = 429
             retry_after = 0.2
times = []
async def predict(question, attempt):
    times.append(time.monotonic())
    if attempt < 3:
        raise Limited('slow down')
    return {'answer': question, 'waited': min(b - a for a, b in zip(times, times[1:]))}",
    );
    job.process().expect(0);
    assert_eq!(job.column("attempts"), ["3"]);
    let waited: f64 = job.column("waited")[0].parse().unwrap();
    assert!(waited >= 0.2, "{waited}");
}

#[test]
fn a_row_waiting_for_its_retry_gives_its_slot_to_the_next() {
    let job = Job::new().questions(3).args(["-c", "1"]).predictor(
        "class Failed(Exception):
             status_code = 500
             retry_after = 1.0
async def predict(question, row_id, attempt):
    called([row_id, attempt])
    if row_id == 0 and attempt == 1:
        raise Failed()
    return question",
    );
    job.process().expect(0);
    assert_eq!(job.calls(), [json!([0, 1]), json!([1, 1]), json!([2, 1]), json!([0, 2])]);
}

#[test]
fn a_row_timeout_bounds_all_attempts_of_a_row_together() {
    let job = Job::new().questions(2).predictor(
        "async def predict(question, row_id):
             if row_id == 0:
                 called(row_id)
                 await asyncio.sleep(0.1)
                 raise ConnectionError('lost')
             return question",
    );
    let done =
        job.process_with(&["--row-timeout", "500ms", "--retries", "1000", "--backoff", "1ms"]).expect(3);
    assert!(done.took.as_secs_f64() < 30.0, "{:?}", done.took);
    assert_eq!(job.column("status"), ["failed", "ok"]);
    let calls = job.calls().len();
    assert!((2..=5).contains(&calls), "{calls}");
}

#[test]
fn a_plain_functions_clock_starts_on_its_thread() {
    // Starting 64 threads at once takes longer than the 10 ms that the timeout leaves.
    let job = Job::new().questions(400).args(["-c", "64", "--timeout", "100ms", "--retries", "0"]).predictor(
        "def predict(question):
             time.sleep(0.05)
             return question",
    );
    job.process().expect(0);
    assert_eq!(job.report()["attempts"]["timeouts"], 0);
}

#[test]
fn a_call_that_blocks_the_loop_does_not_count_as_concurrency() {
    let job = Job::new().questions(100).args(["-c", "50"]).predictor(
        "async def predict(question):
             time.sleep(0.01)
             return question",
    );
    job.process().expect(0);
    let concurrency = job.report()["concurrency"]["achieved_mean"].as_f64().unwrap();
    assert!((0.5..1.1).contains(&concurrency), "{concurrency}");
}
