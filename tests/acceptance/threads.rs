//! Plain functions when the system cannot start another thread. `predictors` tests how they run otherwise.

use std::collections::BTreeSet;

use super::support::job::Job;

/// For its first second no thread can be started: no address space holds such a stack.
const NO_THREADS: &str = "
import threading
threading.Timer(1.0, lambda: threading.stack_size(0)).start()
threading.stack_size(1 << 47)
";

/// Runs the predictor without threads at first: each row is called once, though some attempts fail.
fn pays_once(predictor: &str) {
    let job = Job::new().questions(40).predictor(&format!("{NO_THREADS}{predictor}"));
    let job = job.args(["-c", "4", "--timeout", "20s"]);
    job.process_with(&["--retries", "50", "--backoff", "100ms", "--backoff-max", "200ms"]).expect(0);
    assert_eq!(job.column("answer"), job.column("question"));
    let calls = job.calls();
    let rows: BTreeSet<_> = calls.iter().map(|call| call[0].as_str().unwrap()).collect();
    assert_eq!((calls.len(), rows.len()), (40, 40), "each row was called once");
    assert!(job.report()["attempts"]["total"].as_u64().unwrap() > 40, "some calls found no thread");
}

#[test]
fn a_call_for_which_no_thread_can_be_started_never_runs_and_its_retry_pays_once() {
    pays_once(
        "
def predict(question, attempt):
    called([question, attempt])
    return question
",
    );
}

#[test]
fn work_that_a_coroutine_hands_to_a_thread_never_runs_later_either() {
    pays_once(
        "
def work(question, attempt):
    called([question, attempt])
    return question
async def predict(question, attempt):
    return await asyncio.to_thread(work, question, attempt)
",
    );
}
