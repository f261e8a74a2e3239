//! `compare` that is stopped: what was finished is shown and written, and the exit code tells the reason.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::compare::{compare, exported, spawn};
use super::support::job::{Done, Job};

/// 6 rows at 1 and 3 calls, 3 runs each: 3 calls warm up, and from call `FROM` on the predictor does as `HOW` says.
fn ending(from: usize, how: &str) -> Job {
    Job::new().questions(6).env("FROM", &from.to_string()).env("HOW", how).predictor(
        "
made = 0
async def predict(question):
    global made
    made += 1
    called(question)
    how = os.environ['HOW']
    if made == int(os.environ['FROM']) and how == 'interrupt':
        os.kill(os.getpid(), 2)
        await asyncio.sleep(0.2)
    elif made >= int(os.environ['FROM']):
        if how == 'fail':
            raise ValueError('odd')
        if how == 'block':
            time.sleep(60)
        if how != 'interrupt':
            await asyncio.sleep(60)
    await asyncio.sleep(0.01)
    return question
",
    )
}

/// The options of a comparison that is stopped.
const STOPPED: [&str; 5] = ["-c", "3", "--export-markdown", "compare.md", "--grace=100ms"];

/// The second call of run 2 of the sequential mode: its run 1, and twice the concurrent one, are finished.
const IN_RUN_2: usize = 3 + 3 * 6 + 2;

/// Run 2 of the sequential mode was stopped, and all that was finished is shown and written.
fn expect_finished_runs(job: &Job, done: &Done, reason: &str) {
    let exported = exported(job);
    let runs = |mode: usize| exported["modes"][mode]["wall_s"].as_array().unwrap().len();
    assert_eq!((runs(0), runs(1)), (1, 2), "{exported}");
    assert_eq!(exported["stopped"]["at"], "in run 2 of 3: sequential");
    assert!(exported["stopped"]["reason"].as_str().unwrap().starts_with(reason), "{}", exported["stopped"]);
    assert!(exported["speedup"]["mean"].as_f64() > Some(0.0) && exported["speedup"]["ci95"].is_null());
    let markdown = job.read("compare.md");
    for text in [&done.stdout, &markdown] {
        assert!(text.contains("1 of sequential, 2 of concurrent -c 3"), "{text}");
        let text = text.replace("\n  ", " ");
        assert!(text.contains(&format!("stopped in run 2 of 3: sequential: {reason}")), "{text}");
    }
}

#[test]
fn what_was_finished_before_a_signal_is_shown_and_written() {
    for (signal, code, reason) in
        [(Signal::INT, 130, "interrupted (SIGINT)"), (Signal::TERM, 143, "terminated (SIGTERM)")]
    {
        let job = ending(IN_RUN_2, "hang");
        let mut running = spawn(&job, &STOPPED);
        running.wait_for_calls(IN_RUN_2);
        running.signal(signal);
        let done = running.wait().expect(code);
        expect_finished_runs(&job, &done, reason);
        assert_eq!(exported(&job)["stopped"]["rows"], 1);
        assert!(done.stdout.contains("left out: its 1"), "{}", done.stdout);
    }
}

#[test]
fn a_second_signal_ends_it_at_once_and_what_was_finished_is_shown_all_the_same() {
    let job = ending(IN_RUN_2, "hang");
    let mut running = spawn(&job, &["-c", "3", "--export-markdown", "compare.md"]);
    running.wait_for_calls(IN_RUN_2);
    running.signal(Signal::INT);
    running.wait_for(".stderr", "stopping: waiting up to ", 1);
    running.signal(Signal::INT);
    let done = running.wait().expect(130);
    expect_finished_runs(&job, &done, "interrupted (SIGINT)");
    assert_eq!(exported(&job)["stopped"]["rows"], Value::Null);
}

#[test]
fn a_guard_or_a_broken_predictor_leaves_what_was_finished() {
    for (how, code, reason) in [("fail", 4, "1 of 2 finished rows failed"), ("block", 1, "the event loop")] {
        let job = ending(IN_RUN_2, how);
        let done = compare(
            &job,
            &[&STOPPED[..], &["--max-failures=1", "--timeout=2s", "--stuck-after=500ms"]].concat(),
        )
        .expect(code);
        expect_finished_runs(&job, &done, reason);
    }
}

#[test]
fn a_comparison_stopped_before_its_first_run_says_so_and_leaves_no_older_figures() {
    // Figures of a comparison that had been finished.
    let older = ending(100, "hang");
    compare(&older, &["-c", "3", "--runs", "1"]).expect(0);
    let job = ending(5, "hang").file("compare.json", older.read("compare.json"));
    let mut running = spawn(&job, &STOPPED);
    running.wait_for_calls(5);
    running.signal(Signal::INT);
    let done = running.wait().expect(130);
    let exported = exported(&job);
    assert_eq!((&exported["modes"], &exported["speedup"]), (&json!([]), &Value::Null));
    assert_eq!(exported["modes_without_runs"], json!(["sequential", "concurrent -c 3"]));
    assert!(done.stdout.contains("no run was finished"), "{}", done.stdout);
    assert!(job.read("compare.md").contains("no run was finished"));
}

#[test]
fn a_signal_in_the_last_call_of_a_run_ends_the_comparison_after_it() {
    // The run's rows all have their outcomes: it counts, and there is no further one.
    let job = ending(3 + 6, "interrupt");
    compare(&job, &["-c", "3"]).expect(130);
    assert_eq!(job.calls().len(), 3 + 6);
    assert_eq!(exported(&job)["stopped"]["at"], "after run 1 of 3: sequential");
    assert_eq!(exported(&job)["modes"][0]["wall_s"].as_array().unwrap().len(), 1);
    // In the last call of all it changes nothing.
    let job = ending(3 + 12, "interrupt");
    compare(&job, &["-c", "3", "--runs", "1"]).expect(0);
    assert_eq!(exported(&job)["stopped"], Value::Null);
}

#[test]
fn what_comes_between_two_runs_ends_the_comparison_before_the_next_one() {
    // The answers of the first run are read back when it is over.
    let pause = Duration::from_secs(2);
    for (job, options, code) in [
        (ending(100, "hang").interrupted_at_rewind(), &["-c", "3"][..], 130),
        (ending(100, "hang").waits_at_rewind(pause), &["-c", "3", "--deadline", "2s"], 5),
    ] {
        compare(&job, options).expect(code).says("stopping: ");
        assert_eq!(job.calls().len(), 3 + 6);
        assert_eq!(exported(&job)["stopped"]["at"], "after run 1 of 3: sequential");
        assert_eq!(exported(&job)["modes"][0]["wall_s"].as_array().unwrap().len(), 1);
    }
}

#[test]
fn a_deadline_that_has_passed_before_the_first_row_makes_no_call() {
    let job = ending(100, "hang");
    compare(&job, &["-c", "3", "--deadline", "1ns"]).expect(5);
    assert_eq!((job.calls().len(), &exported(&job)["stopped"]["at"]), (0, &json!("in the warm-up")));
    job.process_with(&["--deadline", "1ns"]).expect(5);
    assert_eq!(job.calls().len(), 0);
}
