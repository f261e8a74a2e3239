//! kill -9 and torn journals: no recorded answer is asked for again, and the end is that of an uninterrupted run.

use std::collections::{BTreeMap, BTreeSet};

use super::support::job::Job;
use rustix::process::Signal;
use serde_json::Value;

const ROWS: usize = 300;
const CONCURRENCY: usize = 8;

/// Every seventh row fails.
const SLOW: &str = "
async def predict(question):
    called(question)
    await asyncio.sleep(0.005)
    if int(question.split()[1].rstrip('?')) % 7 == 0:
        raise ValueError('odd')
    return question.upper()
";

fn job() -> Job {
    Job::new().questions(ROWS).predictor(SLOW).env("TAB_CONCURRENCY", "8")
}

/// The questions with this status in what `export` writes.
fn exported(job: &Job, status: &str) -> BTreeSet<String> {
    job.run(&["export", "answers.csv", "-o", "so_far.csv"]).expect(0);
    let records = job.records("so_far.csv").into_iter();
    records.filter(|record| record["status"] == status).map(|record| record["question"].clone()).collect()
}

fn questions(calls: &[Value]) -> Vec<String> {
    calls.iter().map(|call| call.as_str().unwrap().to_owned()).collect()
}

/// The answers without what no two runs share.
fn lasting(job: &Job) -> Vec<BTreeMap<String, String>> {
    let mut records = job.answers();
    for record in &mut records {
        assert!(record.remove("attempts").is_some() && record.remove("latency_ms").is_some());
    }
    records
}

#[test]
fn killed_again_and_again_no_recorded_answer_is_asked_for_twice() {
    let uninterrupted = job();
    uninterrupted.process().expect(3);

    let job = job();
    let mut sessions = 0;
    let mut answered = BTreeSet::new();
    // The calls and outcomes of the sessions before.
    let (mut made, mut recorded) = (0, 0);
    let mut running = job.start();
    while answered.len() < ROWS / 2 {
        running.wait_for_calls(job.calls().len() + 50);
        running.signal(Signal::KILL);
        assert_eq!(running.wait().code, -9);
        sessions += 1;

        let calls = job.calls().len();
        let (ok, failed) = (exported(&job, "ok"), exported(&job, "failed"));
        assert!(answered.is_subset(&ok), "an answer was lost");
        let outcomes = job.read("answers.csv.journal").matches("{\"outcome\"").count();
        let unrecorded = calls - made - (outcomes - recorded);
        assert!(unrecorded <= 3 * CONCURRENCY, "{unrecorded} calls of one session left no record");
        (made, recorded) = (calls, outcomes);
        assert!(ok.len() > answered.len() && ok.len() + failed.len() < ROWS, "killed too early or too late");
        answered = ok;
        running = job.spawn(&["resume", "answers.csv"]);
        running.wait_for_calls(calls + 1);
        // Since the kill, only what was not answered.
        for question in questions(&job.calls()[calls..]) {
            assert!(!answered.contains(&question), "`{question}` was answered and asked again");
        }
    }
    assert!(sessions > 1);
    let (calls, at_last) = (job.calls(), running.wait().expect(3));
    assert!(at_last.stderr.contains("may be billed twice"), "{}", at_last.stderr);
    for question in questions(&job.calls()[calls.len()..]) {
        assert!(!answered.contains(&question), "`{question}` was answered and asked again");
    }
    assert_eq!(lasting(&job), lasting(&uninterrupted));

    let report = job.report();
    let outcomes = job.read("answers.csv.journal").matches("{\"outcome\"").count();
    assert_eq!(report["attempts"]["total"], outcomes, "each outcome took one attempt");
    assert_eq!(report["rows"]["ok"].as_u64().unwrap() + report["rows"]["failed"].as_u64().unwrap(), 300);
    assert_eq!(report["rows"]["resumed"], answered.len());
}

#[test]
fn export_after_a_kill_writes_what_is_recorded_and_changes_nothing_else() {
    let job = job();
    let mut running = job.start();
    running.wait_for_calls(100);
    running.signal(Signal::KILL);
    running.wait();
    let (journal, calls) = (job.read("answers.csv.journal"), job.calls().len());
    job.run(&["export", "answers.csv"]).expect(0);
    let answers = job.answers();
    let ok: Vec<_> = answers.iter().filter(|record| record["status"] == "ok").collect();
    assert!(!ok.is_empty() && ok.len() < ROWS);
    assert!(ok.iter().all(|record| record["answer"] == record["question"].to_uppercase()));
    assert_eq!(answers.len(), ROWS);
    assert_eq!(job.calls().len(), calls);
    assert_eq!(job.read("answers.csv.journal"), journal);
}

#[test]
fn a_torn_tail_is_cut_by_resume_alone_and_costs_only_its_row() {
    let job = Job::new().questions(20).echo().env("TAB_CONCURRENCY", "1");
    job.process().expect(0);
    let answers = lasting(&job);
    let journal = job.read("answers.csv.journal");
    let torn = &journal[..journal.rfind("{\"outcome\"").unwrap() + 20];
    let job = job.file("answers.csv.journal", torn);

    job.run(&["export", "answers.csv", "-o", "so_far.csv"]).expect(0);
    assert_eq!(job.read("answers.csv.journal"), torn, "only the holder of the lock cuts");

    job.resume().expect(0).says("the journal's last line was torn");
    assert_eq!(questions(&job.calls()[20..]), ["Question 19?"]);
    assert_eq!(lasting(&job), answers);
}

#[test]
fn a_damaged_line_costs_only_its_row_loudly() {
    let job = Job::new().questions(20).echo().env("TAB_CONCURRENCY", "1");
    job.process().expect(0);
    let answers = lasting(&job);
    let journal = job.read("answers.csv.journal").replacen("Question 7?", "Question 9?", 1);
    let line = journal.lines().position(|line| line.contains("\"row\":7,")).unwrap() + 1;
    let job = job.file("answers.csv.journal", journal);
    job.resume().expect(0).says(&format!("line {line} of the journal is damaged"));
    assert_eq!(questions(&job.calls()[20..]), ["Question 7?"]);
    assert_eq!(lasting(&job), answers);
}

#[test]
fn a_process_that_the_predictor_forked_does_not_hold_the_journal_after_a_kill() {
    let forks = "
import signal
_, gone = os.pipe()
async def predict(question):
    called(question)
    if not os.path.exists('child'):
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        with open('child', 'w') as file:
            file.write(f'{child}.')
        await asyncio.sleep(60)
    return question
";
    let job = Job::new().questions(3).predictor(forks).args(["-c", "1"]);
    let mut running = job.start();
    running.wait_for("child", ".", 1);
    running.signal(Signal::KILL);
    assert_eq!(running.wait().code, -9);
    let resumed = job.resume();
    let child = job.read("child").trim_end_matches('.').parse().unwrap();
    let child = rustix::process::Pid::from_raw(child).unwrap();
    rustix::process::kill_process(child, Signal::KILL).expect("the forked process was still there");
    resumed.expect(0);
}

#[test]
fn calls_that_may_be_billed_twice_are_named_until_they_are_decided() {
    let waits = "
async def predict(question):
    called(question)
    while not os.path.exists('go'):
        await asyncio.sleep(0.005)
    return question
";
    let job = Job::new().questions(4).predictor(waits).args(["-c", "2"]);
    let mut running = job.start();
    running.wait_for_calls(2);
    running.signal(Signal::KILL);
    assert_eq!(running.wait().code, -9);
    // A session that calls nothing: what is asked for it is not there.
    let journal = job.read("answers.csv.journal");
    let header = journal.lines().next().unwrap();
    let later = header.replacen("\"started_at\":\"2", "\"started_at\":\"3", 1);
    let line = format!("{:08x} {}\n", crc32fast::hash(&later.as_bytes()[9..]), &later[9..]);
    std::fs::write(job.path("answers.csv.journal"), journal + &line).unwrap();
    std::fs::write(job.path("go"), "").unwrap();
    job.resume().expect(0).says("may be billed twice (row 0, 1");
}
