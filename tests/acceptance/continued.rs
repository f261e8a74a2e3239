//! `process` on the answers of an earlier run: the same job goes on, another one is refused.

use std::collections::BTreeSet;
use std::fs;
use std::time::SystemTime;

use rustix::process::Signal;
use serde_json::Value;

use super::support::job::{Job, PICKY};

fn job(rows: usize, bad: &str) -> Job {
    Job::new().questions(rows).predictor(PICKY).file("bad", bad)
}

/// The questions asked so far, none twice.
fn asked_once(job: &Job) -> usize {
    let calls = job.calls();
    let distinct: BTreeSet<_> = calls.iter().map(ToString::to_string).collect();
    assert_eq!(distinct.len(), calls.len(), "no row is asked twice");
    calls.len()
}

fn journals(job: &Job) -> usize {
    job.files().iter().filter(|name| name.contains(".journal")).count()
}

#[test]
fn a_selection_grows_and_shrinks_rows_are_appended_and_each_is_asked_once() {
    let job = job(30, "");
    job.process_with(&["-n", "20"]).expect(0);
    assert_eq!((asked_once(&job), job.answers().len()), (20, 20));
    job.process_with(&["-n", "10"]).expect(0).says("nothing to do: 10 rows answered in `answers.csv`");
    job.process_with(&["-n", "20"]).expect(0).says("nothing to do: 20 rows");
    assert_eq!((asked_once(&job), job.answers().len()), (20, 20));
    job.process().expect(0).says("continuing: 20 rows answered before, 10 to go");
    fs::write(job.path("questions.csv"), job.read("questions.csv") + "30,Question 30?\n31,Question 31?\n")
        .unwrap();
    job.process().expect(0).says("continuing: 30 rows answered before, 2 to go");
    assert_eq!((asked_once(&job), job.answers().len(), journals(&job)), (32, 32, 1));
    let answers: Vec<_> = (0..32).map(|row| format!("QUESTION {row}?")).collect();
    assert_eq!(job.column("answer"), answers);
    assert_eq!(job.report()["rows"]["total"], 32);
    job.run(&["verify", "questions.csv", "answers.csv"]).expect(0);
}

#[test]
fn the_report_counts_the_rows_of_the_last_selection_and_the_attempts_of_all() {
    let job = job(30, "Question 5?|Question 15?");
    let counts = |report: &Value| {
        let rows = &report["rows"];
        let counts =
            ["total", "ok", "failed", "unfinished", "resumed", "skipped"].map(|name| rows[name].clone());
        assert_eq!(
            rows["failed"],
            rows["failed_by_class"].get("ValueError").cloned().unwrap_or_else(|| 0.into())
        );
        (counts, report["attempts"]["total"].clone())
    };
    let reports = || {
        let written = job.report();
        // From the journal alone, too.
        fs::remove_file(job.path("answers.csv.report.json")).unwrap();
        job.run(&["report", "answers.csv", "--json", "again.json"]).expect(0);
        let again = serde_json::from_str(&job.read("again.json")).unwrap();
        fs::remove_file(job.path("again.json")).unwrap();
        assert_eq!(counts(&written), counts(&again));
        counts(&written)
    };
    let expected = |rows: [u64; 6], attempts: u64| (rows.map(Value::from), Value::from(attempts));
    job.process_with(&["-n", "20"]).expect(3).prints("Answered 18 of 20 rows");
    // Of 5 and 15, which are asked again only where they are selected.
    fs::write(job.path("bad"), "Question 15?").unwrap();
    assert_eq!(reports(), expected([20, 18, 2, 0, 0, 10], 20));
    job.process_with(&["-n", "10"]).expect(0).prints("Answered 10 of 10 rows");
    assert_eq!(reports(), expected([10, 10, 0, 0, 9, 20], 21));
    job.process_with(&["-n", "20"]).expect(3).prints("Answered 19 of 20 rows");
    assert_eq!(reports(), expected([20, 19, 1, 0, 19, 10], 22));
    assert_eq!(job.answers().len(), 20);
}

#[test]
fn parts_that_lie_apart_make_one_job() {
    let job = job(30, "");
    job.process_with(&["--range", "20:25"]).expect(0);
    job.process_with(&["--range", "2:5"]).expect(0);
    let rows = job.report()["rows"].clone();
    assert_eq!([&rows["total"], &rows["ok"], &rows["unfinished"], &rows["skipped"]], [3, 3, 0, 27]);
    let ids: Vec<_> = (2..5).chain(20..25).map(|id| id.to_string()).collect();
    assert_eq!((job.column("id"), asked_once(&job)), (ids, 8));
    job.run(&["verify", "questions.csv", "answers.csv"]).expect(0);
    job.resume().expect(0);
    job.process().expect(0).says("continuing: 8 rows answered before, 22 to go");
    assert_eq!((asked_once(&job), job.answers().len(), journals(&job)), (30, 30, 1));
}

/// When each file of the job was written, and its length.
fn states(job: &Job) -> Vec<(String, SystemTime, u64)> {
    let state = |name: String| {
        let metadata = fs::metadata(job.path(&name)).unwrap();
        (name, metadata.modified().unwrap(), metadata.len())
    };
    job.files().into_iter().map(state).collect()
}

#[test]
fn where_nothing_is_left_no_interpreter_is_started_and_no_file_written() {
    let job = job(5, "");
    job.process().expect(0);
    let before = states(&job);
    // There is no such interpreter.
    let done = job.process_with(&["--python", "/gone/python"]).expect(0);
    done.says("nothing to do: 5 rows answered in `answers.csv`\nhint: `--force` starts anew");
    assert_eq!((states(&job), job.calls().len()), (before, 5));
    job.process_with(&["--force"]).expect(0);
    assert_eq!((job.calls().len(), journals(&job)), (10, 2));
}

#[test]
fn answers_that_are_gone_are_written_again_and_other_columns_too() {
    let job = job(3, "");
    job.process().expect(0);
    fs::remove_file(job.path("answers.csv")).unwrap();
    job.process().expect(0);
    assert_eq!((job.answers().len(), asked_once(&job)), (3, 3));
    job.process_with(&["--fields", "answer,finish_reason"]).expect(0);
    assert_eq!((job.column("finish_reason").len(), asked_once(&job)), (3, 3));
}

#[test]
fn answers_that_the_last_session_did_not_get_to_write_are_written_again() {
    let job = job(5, "");
    job.process_with(&["-n", "3"]).expect(0);
    let files = ["answers.csv", "answers.csv.report.json"];
    let earlier = files.map(|name| job.read(name));
    job.process().expect(0);
    // So a kill leaves them that comes when all outcomes are recorded.
    for (name, text) in files.into_iter().zip(earlier) {
        fs::write(job.path(name), text).unwrap();
    }
    job.process().expect(0).says("continuing: 5 rows answered before, 0 to go");
    assert_eq!((job.answers().len(), asked_once(&job)), (5, 5));
}

#[test]
fn failed_rows_are_asked_again_and_counted_unless_they_are_left() {
    let job = job(6, "Question 1?|Question 4?");
    job.process().expect(3);
    job.process_with(&["--skip-failed"])
        .expect(3)
        .says("4 rows answered in `answers.csv`, and 2 that failed stay");
    assert_eq!(job.calls().len(), 6);
    fs::write(job.path("questions.csv"), job.read("questions.csv") + "6,Question 6?\n").unwrap();
    let done = job.process_with(&["--skip-failed"]).expect(3);
    done.says("continuing: 4 rows answered before, 1 to go; 2 rows that failed stay as they are");
    assert_eq!(job.calls().len(), 7);
    fs::write(job.path("bad"), "Question 4?").unwrap();
    job.process().expect(3).says("continuing: 5 rows answered before, 2 to go (2 failed before)");
    assert_eq!(job.calls().len(), 9);
    job.process_with(&["-n", "3"]).expect(0).says("nothing to do: 3 rows");
}

#[test]
fn another_job_is_refused_by_name_and_force_or_allow_changed_go_on() {
    let job = job(4, "");
    job.process().expect(0);
    let journal = job.read("answers.csv.journal");
    for (option, text) in [
        (
            ["--signature", "question -> reply"],
            "`--signature` was `question -> answer` in the earlier run and is",
        ),
        (["--column", "id"], "`--column` was not given in the earlier run and is `id` now"),
    ] {
        let done = job.process_with(&option).expect(1).says(text);
        done.says("start anew with `--force`, or go on all the same with `--allow-changed`");
    }
    assert_eq!((job.calls().len(), job.read("answers.csv.journal")), (4, journal));
    fs::write(job.path("questions.csv"), job.read("questions.csv") + "4,Question 4?\n").unwrap();
    job.process_with(&["--signature", "question -> reply", "--allow-changed"]).expect(0);
    assert_eq!(asked_once(&job), 5);
}

#[test]
fn a_delimiter_that_cuts_the_same_bytes_elsewhere_is_refused() {
    let predictor = "async def predict(**row):\n    called(row)\n    return ' '.join(row.values())";
    let job = Job::new().predictor(predictor).file("questions.csv", "a;b,c\n1;2,3\n4;5,6\n");
    job.process_with(&["-n", "1"]).expect(0);
    let given = ["--delimiter", ";"];
    job.process_with(&given).expect(1).says("`--delimiter` was `,` in the earlier run and is `;` now");
    job.process().expect(0);
    assert_eq!((job.column("answer"), asked_once(&job)), (vec!["1;2 3".into(), "4;5 6".into()], 2));
}

#[test]
fn rows_that_changed_or_are_gone_are_refused_by_line() {
    let job = job(6, "");
    job.process().expect(0);
    let whole = job.read("questions.csv");
    fs::write(job.path("questions.csv"), whole.replace("Question 3?", "Other?")).unwrap();
    job.process().expect(1).says("1 of 6 recorded rows no longer match (line 5)\n");
    fs::write(job.path("questions.csv"), &whole[..whole.find("4,").unwrap()]).unwrap();
    job.process().expect(1).says("2 of 6 recorded rows no longer match; the file ends before row 4, 5\n");
    assert_eq!(job.calls().len(), 6);
    job.process_with(&["--allow-changed"]).expect(0);
    assert_eq!((job.answers().len(), asked_once(&job)), (4, 6));
}

#[test]
fn a_journal_without_any_answer_blocks_nothing() {
    let job = Job::new().questions(4).predictor("async def predict(question):\n    raise KeyError('no')");
    job.process_with(&["--signature", "question -> reply"]).expect(3);
    let job = job.predictor(PICKY).file("bad", "");
    job.process().expect(0);
    assert_eq!((asked_once(&job), job.answers().len()), (4, 4));
}

#[test]
fn what_a_kill_left_is_continued_by_process() {
    let slow = "
async def predict(question):
    called(question)
    await asyncio.sleep(0.05)
    return question.upper()
";
    let job = Job::new().questions(200).predictor(slow).args(["-c", "4"]);
    let mut run = job.start();
    run.wait_for_calls(40);
    run.signal(Signal::KILL);
    run.wait();
    let before = job.calls().len();
    assert!((40..200).contains(&before), "{before} calls had been made and rows were open");
    job.run_alone(&["export", "answers.csv", "-o", "so-far.csv"]).expect(0);
    let recorded = job.column_of("so-far.csv", "status").iter().filter(|status| *status == "ok").count();
    assert!(recorded > 0);
    job.process()
        .expect(0)
        .says(&format!("continuing: {recorded} rows answered before, {} to go", 200 - recorded));
    assert_eq!(job.calls().len(), before + 200 - recorded, "what was recorded is not asked again");
    let answers: Vec<_> = (0..200).map(|row| format!("QUESTION {row}?")).collect();
    assert_eq!(job.column("answer"), answers);
}

#[test]
fn standard_input_is_continued_too() {
    let job = job(3, "");
    let process =
        ["process", "-", "--format", "csv", "-o", "answers.csv", "--predictor", "predictor.py:predict"];
    let rows = job.read("questions.csv");
    let job = job.stdin(rows.clone());
    job.run(&process).expect(0);
    let job = job.stdin(rows + "3,Question 3?\n");
    job.run(&process).expect(0).says("continuing: 3 rows answered before, 1 to go");
    assert_eq!((asked_once(&job), job.answers().len(), journals(&job)), (4, 4, 1));
    let before = states(&job);
    let again = job.run(&[&process[..], &["--python", "/gone/python"]].concat()).expect(0);
    again.says("nothing to do: 4 rows answered in `answers.csv`");
    assert_eq!(states(&job), before);
}
