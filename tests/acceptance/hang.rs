//! Servers and rows that give no answer at all: which of them is an outage, and what either costs. The policies
//! themselves are tested on paused time.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::thread::sleep;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::support::aimock::{Aimock, Fixtures};
use super::support::job::Job;

/// Hangs for as long as the file `hang` is there, and calls begun then hang for good.
const HANGING: &str = "
async def predict(question, row_id):
    called(row_id)
    await asyncio.sleep(0.02)
    if os.path.exists('hang'):
        await asyncio.sleep(3600)
    return question
";

/// How often each row was called.
fn calls_a_row(job: &Job) -> BTreeMap<u64, usize> {
    job.calls().iter().fold(BTreeMap::new(), |mut counts, row| {
        *counts.entry(row.as_u64().unwrap()).or_default() += 1;
        counts
    })
}

#[test]
fn a_server_that_hangs_for_a_while_costs_few_calls_and_no_row() {
    let job = Job::new().questions(300).predictor(HANGING).args(["-c", "8", "--timeout", "400ms"]);
    let job = job.args(["--retries", "1", "--backoff", "50ms", "--progress", "json"]);
    let mut running = job.start();
    running.wait_for_calls(50);
    fs::write(job.path("hang"), "").unwrap();
    running.wait_for(".stderr", r#""limited_by":"outage""#, 1);
    // The outage itself, not a wait for something to happen.
    sleep(Duration::from_secs(3));
    fs::remove_file(job.path("hang")).unwrap();
    running.wait().expect(0).prints("by an outage");
    assert_eq!(job.column("answer"), job.column("question"));
    let calls = calls_a_row(&job);
    assert!(job.calls().len() <= 330, "{} calls for 300 rows", job.calls().len());
    assert!(calls.values().all(|calls| *calls <= 4), "{calls:?}");
    assert_eq!(job.report()["attempts"]["total"], job.calls().len());
}

#[test]
fn rows_that_hang_while_others_are_answered_fail_alone_and_hold_up_no_other() {
    for concurrency in ["4", "1"] {
        let job = Job::new().questions(120).args(["--timeout", "200ms", "-c", concurrency]).predictor(
            "async def predict(question, row_id):
                 called(row_id)
                 await asyncio.sleep(0.01)
                 if row_id % 20 == 7 or row_id >= 118:
                     await asyncio.sleep(3600)
                 return question",
        );
        job.process_with(&["--retries", "2", "--backoff", "20ms"]).expect(3).prints("8 rows: 8 timeout");
        let calls = calls_a_row(&job);
        let hung = |row: &u64| row % 20 == 7 || *row >= 118;
        assert!(calls.iter().all(|(row, calls)| *calls == if hung(row) { 3 } else { 1 }), "{calls:?}");
        assert_eq!(job.report()["limited_s"]["outage"], 0.0);
    }
}

#[test]
fn a_server_that_accepts_and_never_answers_ends_the_run_soon_naming_the_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}/v1", listener.local_addr().unwrap());
    let job = Job::new().questions(100);
    let process = ["process", "questions.csv", "-o", "answers.csv", "--model", "openai/gpt-4o-mini"];
    let options = ["--api-base", &base, "-c", "4", "--timeout", "1s"];
    let done = job.run(&[&process[..], &options].concat()).expect(5);
    assert!(done.took < Duration::from_secs(60), "{:?}", done.took);
    done.says("no call has been answered").says("no answer within 1s").says("hint: is `--timeout` too short");
    let report = job.report();
    assert_eq!([&report["rows"]["failed"], &report["rows"]["unfinished"]], [0, 100]);
    let timeouts = report["attempts"]["timeouts"].as_u64().unwrap();
    assert!((5..=20).contains(&timeouts), "{}", report["attempts"]);
}

#[test]
fn without_retries_rows_that_all_time_out_end_the_run_too() {
    let job = Job::new().questions(100).predictor(HANGING).file("hang", "");
    let done = job.process_with(&["--sequential", "--retries", "0", "--timeout", "300ms"]).expect(5);
    done.says("no answer within 300ms").says("`--timeout`");
    assert!(job.report()["rows"]["failed"].as_u64().unwrap() <= 2, "{}", job.report()["rows"]);
}

#[test]
fn a_deadline_in_an_outage_names_what_the_server_said_last() {
    let server = Aimock::start(&Fixtures::numbered(400));
    server.chaos(&json!({"latencyMs": 100}));
    let job = Job::new().questions(400);
    let base = server.base_url();
    let process = ["process", "questions.csv", "-o", "answers.csv", "--model", "openai/gpt-4o-mini"];
    let options = ["--api-base", &base, "-c", "4", "--deadline", "6s", "--progress", "json"];
    let mut running = job.spawn(&[&process[..], &options].concat());
    running.wait_for("answers.csv.journal", r#""ok""#, 10);
    server.chaos(&json!({"dropRate": 1.0}));
    running.wait_for(".stderr", r#""limited_by":"outage""#, 1);
    let said = "the deadline has passed; the last call failed: LMServerError: ";
    running.wait().expect(5).says(&format!("stopping: {said}")).prints(said.split(':').next().unwrap());
    let told = |report: &Value| assert!(report["stopped"].as_str().unwrap().starts_with(said), "{report}");
    told(&job.report());
    fs::remove_file(job.path("answers.csv.report.json")).unwrap();
    job.run(&["report", "answers.csv", "--json", "again.json"]).expect(0);
    told(&serde_json::from_str(&job.read("again.json")).unwrap());
}

#[test]
fn a_signal_in_an_outage_names_what_the_server_said_last() {
    let job = Job::new().questions(100).args(["-c", "4", "--progress", "json"]).predictor(
        "class Unavailable(Exception):
             status = 503
         async def predict(question):
             called(question)
             if os.path.exists('down'):
                 raise Unavailable('back\\nat noon')
             await asyncio.sleep(0.05)
             return question"
            .replace("\n         ", "\n")
            .as_str(),
    );
    let mut running = job.start();
    running.wait_for_calls(20);
    fs::write(job.path("down"), "").unwrap();
    running.wait_for(".stderr", r#""limited_by":"outage""#, 1);
    running.signal(Signal::INT);
    running
        .wait()
        .expect(130)
        .says("interrupted (SIGINT); the last call failed: Unavailable: back at noon")
        .prints("interrupted (SIGINT); the last call failed: Unavailable: back");
}

#[test]
fn a_run_that_ends_hanging_lasts_to_its_last_call_and_tells_of_those_cut_off() {
    let job = Job::new().questions(40).predictor(
        "async def predict(question, row_id):
             called(row_id)
             if row_id >= 20:
                 await asyncio.sleep(3600)
             return question",
    );
    let options = ["-c", "4", "--timeout", "60s", "--deadline", "2s", "--grace", "100ms"];
    job.process_with(&options).expect(5).prints("4 cancelled");
    let report = job.report();
    let wall = report["wall_s"].as_f64().unwrap();
    assert!(wall > 1.9, "{report}");
    assert_eq!(report["rows_per_s"], 20.0 / wall);
    assert!(report["concurrency"]["achieved_mean"].as_f64() > Some(2.0), "{report}");
    job.run(&["report", "answers.csv", "--json", "again.json"]).expect(0);
    let again: Value = serde_json::from_str(&job.read("again.json")).unwrap();
    assert_eq!((&again["wall_s"], &again["concurrency"]), (&report["wall_s"], &report["concurrency"]));
}
