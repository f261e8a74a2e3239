//! The program killed at each of its changes to its files in turn, and disks whose sync fails. Nothing recorded is
//! lost.

use std::collections::BTreeSet;
use std::fs;

use tokio_asyncio_bridge::journal::{Recovered, Status};

use super::support::job::Job;

const ECHO: &str = "
async def predict(question):
    called(question)
    return question.upper()
";

/// Three of six rows answered, two never started, and the tail of one torn.
fn torn() -> (Job, String) {
    let job = Job::new().questions(6).predictor(ECHO).args(["-c", "1"]);
    job.process().expect(0);
    let journal = job.read("answers.csv.journal");
    let fourth = journal.match_indices("{\"outcome\"").nth(3).unwrap().0;
    let journal = journal[..fourth + 40].to_owned();
    (job, journal)
}

fn answered(job: &Job) -> BTreeSet<u64> {
    let recovered = Recovered::read(&job.path("answers.csv.journal"), |_| {}).unwrap();
    assert_eq!(recovered.damaged, []);
    let ok = |row: &u64| recovered.index.status(*row) == Some(Status::Ok);
    recovered.index.selection().rows().filter(ok).collect()
}

/// Whether no file is left that was half written.
fn nothing_is_left(job: &Job) -> bool {
    !job.files().iter().any(|name| name.starts_with(".tmp"))
}

/// Questions called since, sorted.
fn called_since(job: &Job, before: usize) -> Vec<String> {
    let mut calls: Vec<_> =
        job.calls()[before..].iter().map(|call| call.as_str().unwrap().to_owned()).collect();
    calls.sort_unstable();
    calls
}

#[test]
fn a_resume_killed_at_any_change_it_makes_loses_nothing_and_is_resumed() {
    let (mut job, journal) = torn();
    let mut cut = false;
    for nth in 1.. {
        fs::write(job.path("answers.csv.journal"), &journal).unwrap();
        let before = job.calls().len();
        job = job.killed_at_change(nth);
        let code = job.resume().code;
        assert!(nothing_is_left(&job), "change {nth}");
        let recorded = answered(&job);
        assert!(recorded.is_superset(&BTreeSet::from([0, 1, 2])), "change {nth} lost an answer");
        cut |=
            code == -9 && fs::metadata(job.path("answers.csv.journal")).unwrap().len() < journal.len() as u64;

        job = job.without_faults();
        let between = job.calls().len();
        job.resume().expect(0);
        assert_eq!(
            job.column("answer"),
            job.column("question").iter().map(|q| q.to_uppercase()).collect::<Vec<_>>()
        );
        assert_eq!(called_since(&job, between).len(), 6 - recorded.len(), "change {nth}");
        let questions = called_since(&job, before);
        assert!(questions.iter().all(|question| question.as_str() >= "Question 3?"), "{nth}: {questions:?}");
        if code == 0 {
            assert!(cut, "none of {nth} kills came right after the cut");
            assert!(nth > 10, "{nth}");
            return;
        }
        assert_eq!(code, -9);
    }
}

/// The journals set aside by `--allow-changed`.
fn aside(job: &Job) -> Vec<String> {
    job.files().into_iter().filter(|name| name.starts_with("answers.csv.journal.")).collect()
}

#[test]
fn a_rewriting_killed_at_any_change_leaves_the_old_journal_or_the_new_one_whole() {
    let (mut job, journal) = torn();
    // The first row gone, two in each other's place, one new: of the three answers two stand.
    let edited = "id,question\n2,Question 2?\n1,Question 1?\n3,Question 3?\n9,New?\n";
    let job_file = job.path("questions.csv");
    fs::write(&job_file, edited).unwrap();
    let (mut old, mut new) = (0, 0);
    for nth in 1.. {
        fs::write(job.path("answers.csv.journal"), &journal).unwrap();
        for name in aside(&job) {
            fs::remove_file(job.path(&name)).unwrap();
        }
        let before = job.calls().len();
        job = job.killed_at_change(nth);
        let code = job.resume_with(&["--allow-changed"]).code;
        assert!(nothing_is_left(&job), "change {nth}");
        let torn_off = journal.rfind('\n').unwrap() + 1;
        let stands = job.read("answers.csv.journal");
        if stands.starts_with(&journal[..torn_off]) {
            old += 1;
            assert_eq!(answered(&job), BTreeSet::from([0, 1, 2]), "change {nth}");
        } else {
            new += 1;
            assert!(answered(&job).is_superset(&BTreeSet::from([0, 1])), "change {nth}");
        }
        assert!(aside(&job).iter().all(|name| job.read(name) == journal[..torn_off]), "change {nth}");

        job = job.without_faults();
        job.resume_with(&["--allow-changed"]).expect(0);
        assert_eq!(job.column("answer"), ["QUESTION 2?", "QUESTION 1?", "QUESTION 3?", "NEW?"]);
        let called: BTreeSet<String> = called_since(&job, before).into_iter().collect();
        assert_eq!(called, BTreeSet::from(["New?".to_owned(), "Question 3?".to_owned()]), "change {nth}");
        if code == 0 {
            assert!(old > 2 && new > 2, "{old} kills before the new journal stood, {new} after");
            return;
        }
        assert_eq!(code, -9);
    }
}

/// Answers of 20 ms; the last row breaks the disk.
const BREAKING: &str = "
async def predict(question, row_id):
    called(question)
    await asyncio.sleep(0.02)
    if row_id == int(open('breaks').read()):
        open('broken', 'w')
    return question.upper()
";
const ROWS: usize = 60;
const CALLS: usize = 4;

#[test]
fn after_a_failed_sync_the_run_stops_at_once_and_claims_nothing() {
    for breaks in [10, ROWS - 1] {
        let job = Job::new().questions(ROWS).predictor(BREAKING).args(["-c", "4"]);
        let job = job.file("breaks", breaks.to_string()).disk_may_break();
        let done = job.process().expect(1).says("failed to sync").says("hint: check the disk");
        assert_eq!(done.stdout, "");
        assert_eq!(job.files().iter().filter(|name| name.starts_with("answers.csv")).count(), 1);
        assert!(job.calls().len() <= breaks + 3 * CALLS, "{} calls", job.calls().len());
        let journal = job.read("answers.csv.journal");
        assert!(!journal.contains("{\"end\"") || journal.contains("\"hurried\":true"));

        fs::remove_file(job.path("broken")).unwrap();
        let recorded = answered(&job).len();
        let before = job.calls().len();
        let job = job.without_faults().file("breaks", "-1");
        job.resume().expect(0);
        assert_eq!(job.calls().len() - before, ROWS - recorded);
        assert!(job.column("status").iter().all(|status| status == "ok"));
    }
}
