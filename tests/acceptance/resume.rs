//! `resume` after a session that ended in order: which rows are called again, what is written, and which options hold.

use super::support::job::Job;
use rustix::process::Signal;

/// Fails on every fifth row; rows from 30 on wait for the file `gate`.
const FAILS_AND_WAITS: &str = "
async def predict(question):
    called(question)
    row = int(question.split()[1].rstrip('?'))
    while row >= 30 and not os.path.exists('gate'):
        await asyncio.sleep(0.005)
    if row % 5 == 0:
        raise ValueError('not yet')
    return f'Answer {row}'
";

fn numbered(name: &str, rows: std::ops::Range<usize>) -> Vec<String> {
    rows.map(|i| format!("{name} {i}")).collect()
}

/// A job of 40 rows that was interrupted: 6 rows failed, 10 unfinished, 24 answered.
fn interrupted() -> Job {
    let job = Job::new().questions(40).predictor(FAILS_AND_WAITS);
    let mut running = job.spawn(&[
        "process",
        "questions.csv",
        "-o",
        "answers.csv",
        "--predictor",
        "predictor.py:predict",
        "--retries",
        "0",
        "--grace",
        "100ms",
    ]);
    running.wait_for_calls(40);
    running.wait_for("answers.csv.journal", "\"outcome\"", 30);
    running.signal(Signal::INT);
    running.wait().expect(130);
    job
}

#[test]
fn only_failed_and_unfinished_rows_are_called_again_and_all_are_written_anew() {
    let job = interrupted();
    let status = job.column("status");
    assert_eq!(status.iter().filter(|status| *status == "failed").count(), 6);
    assert_eq!(status.iter().filter(|status| *status == "unfinished").count(), 10);
    std::fs::remove_file(job.path("answers.csv")).unwrap();

    // The bug is mended: no refusal, but said.
    let job = job.predictor(
        "async def predict(question):\n    called(question)\n    return question.replace('Question', 'Answer')[:-1]\n",
    );
    job.resume()
        .expect(0)
        .says("24 rows answered before; 16 to go (6 failed, 10 unfinished)")
        .says("the predictor's source has changed");
    let mut again: Vec<_> = job.calls()[40..].iter().map(|call| call.as_str().unwrap().to_owned()).collect();
    let row = |question: &String| question[9..question.len() - 1].parse::<usize>().unwrap();
    again.sort_by_key(row);
    let expected: Vec<_> = (0..30).step_by(5).chain(30..40).map(|i| format!("Question {i}?")).collect();
    assert_eq!(again, expected);
    assert_eq!(job.column("answer"), numbered("Answer", 0..40));
    assert!(job.column("status").iter().all(|status| status == "ok"));
}

#[test]
fn a_run_is_resumed_from_any_directory() {
    let job = interrupted();
    std::fs::write(job.path("gate"), "").unwrap();
    job.run_in("elsewhere", &["resume", "../answers.csv"]).expect(3);
    assert!(!job.column("status").contains(&"unfinished".to_owned()));
    assert!(!job.path("elsewhere/answers.csv").exists());
}

#[test]
fn the_report_adds_up_over_sessions() {
    let job = interrupted();
    let before = job.report();
    assert_eq!(before["rows"]["unfinished"], 10);
    std::fs::write(job.path("gate"), "").unwrap();
    job.resume().expect(3);
    let after = job.report();
    let rows = &after["rows"];
    assert_eq!(
        (&rows["total"], &rows["ok"], &rows["failed"], &rows["resumed"]),
        (&40.into(), &32.into(), &8.into(), &24.into())
    );
    // Rows cut off in the first session have no outcome there, but were called: every attempt counts, in both sessions.
    assert_eq!(after["attempts"]["total"], 30 + 10 + 16);
    assert_eq!(after["attempts"]["by_error"]["ValueError"], 6 + 8);
    assert_eq!(after["attempts"]["by_error"]["cancelled"], 10);
    let wall = |report: &serde_json::Value| report["wall_s"].as_f64().unwrap();
    assert!(wall(&after) > wall(&before));
}

#[test]
fn the_options_of_process_hold_again_unless_given_anew() {
    let job = Job::new()
        .file("questions.csv", "text\nyes\nno\n")
        .predictor("async def predict(words):\n    called(words)\n    raise ConnectionError('down')\n");
    job.process_with(&["--map", "words=text", "-c", "3", "--retries", "1", "--backoff", "1ms"]).expect(3);
    assert_eq!(job.calls().len(), 4);
    job.resume().expect(3);
    assert_eq!(job.calls().len(), 8, "`--map` and `--retries 1` hold again");
    assert_eq!(job.report()["concurrency"]["requested"], 3);
    job.resume_with(&["-c", "5", "--retries", "0"]).expect(3);
    assert_eq!(job.calls().len(), 10, "`--retries 0` was given anew");
    assert_eq!(job.report()["concurrency"]["requested"], 5);
    job.resume().expect(3);
    assert_eq!(job.calls().len(), 12, "the last session's options hold");
    job.resume_with(&["--sequential"]).expect(3);
    assert_eq!(job.report()["concurrency"]["requested"], 1);
}

#[test]
fn nothing_is_called_where_every_row_is_answered() {
    let job = Job::new().questions(5).echo();
    job.process().expect(0);
    let answers = job.read("answers.csv");
    job.resume().expect(0);
    assert_eq!(job.calls().len(), 5);
    assert_eq!(job.read("answers.csv"), answers);
}

#[test]
fn standard_input_is_kept_for_resume_and_removed_once_all_is_answered() {
    let job = Job::new().stdin("question\nWho?\nWhy?\n").predictor(
        "async def predict(question):\n    called(question)\n    if question == 'Why?' and not os.path.exists('gate'):\n        raise ValueError\n    return question\n",
    );
    job.run(&["process", "-", "--format", "csv", "-o", "answers.csv", "--predictor", "predictor.py:predict"])
        .expect(3);
    assert_eq!(job.read("answers.csv.input"), "question\nWho?\nWhy?\n");
    job.resume().expect(3);
    assert!(job.path("answers.csv.input").exists());
    std::fs::write(job.path("gate"), "").unwrap();
    job.resume().expect(0);
    assert_eq!(job.calls(), ["Who?", "Why?", "Why?", "Why?"]);
    assert!(!job.path("answers.csv.input").exists());
}

#[test]
fn standard_input_is_kept_until_the_rows_are_answered_that_were_not_selected_yet() {
    let job = Job::new().echo().stdin("question\nWho?\nWhy?\nWhere?\n");
    let process =
        ["process", "-", "--format", "csv", "-o", "answers.csv", "--predictor", "predictor.py:predict"];
    job.run(&[&process[..], &["-n", "1"]].concat()).expect(0);
    job.run(&["export", "answers.csv", "-o", "so_far.csv"]).expect(0);
    job.resume_with(&["--range", "1:2"]).expect(0);
    assert!(job.path("answers.csv.input").exists());
    job.resume_with(&["--range", "2:3"]).expect(0);
    assert_eq!((job.calls().len(), job.path("answers.csv.input").exists()), (3, false));
}

#[test]
fn a_job_set_aside_keeps_the_standard_input_that_belongs_to_it() {
    let first = "question\nWho?\nWhy?\n";
    let job = Job::new().stdin(first).predictor(
        "async def predict(question):\n    called(question)\n    if question == 'Why?' and not os.path.exists('gate'):\n        raise ValueError\n    return question\n",
    );
    let process =
        ["process", "-", "--format", "csv", "-o", "answers.csv", "--predictor", "predictor.py:predict"];
    job.run(&process).expect(3);
    let before = job.files();

    // Neither a check nor a refusal touches the earlier job.
    let job = job.stdin("question\nWhere?\nWhy?\n");
    job.run(&process).expect(1).says("`--force`");
    job.run(&[&process[..], &["--force", "--dry-run"]].concat()).expect(0);
    let job = job.stdin("other\nWhere?\n");
    job.run(&[&process[..], &["--force"]].concat()).expect(1).says("answers.csv.input");
    assert_eq!((job.files(), job.read("answers.csv.input")), (before, first.to_owned()));

    let job = job.stdin("question\nWhere?\nWhy?\n");
    job.run(&[&process[..], &["--force"]].concat()).expect(3).says("its input as `answers.csv.input.");
    assert_eq!(job.read("answers.csv.input"), "question\nWhere?\nWhy?\n");
    let aside = |kind: &str| {
        let mut files = job.files();
        files.retain(|name| name.starts_with(&format!("answers.csv.{kind}.20")));
        assert_eq!(files.len(), 1, "{files:?}");
        files.remove(0)
    };
    let (journal, input) = (aside("journal"), aside("input"));
    assert_eq!(journal.replace("journal", "input"), input);
    assert_eq!(job.read(&input), first);

    // Under their old names again, they are the earlier job.
    std::fs::rename(job.path(&journal), job.path("answers.csv.journal")).unwrap();
    std::fs::rename(job.path(&input), job.path("answers.csv.input")).unwrap();
    std::fs::write(job.path("gate"), "").unwrap();
    job.resume().expect(0);
    assert_eq!(job.column("answer"), ["Who?", "Why?"]);
}

#[test]
fn rows_that_fail_again_do_not_keep_resume_from_the_rows_after_them() {
    let job = Job::new().questions(200).env("TAB_CONCURRENCY", "4").predictor(
        "
async def predict(question):
    called(question)
    row = int(question.split()[1].rstrip('?'))
    while row >= 60 and not os.path.exists('gate'):
        await asyncio.sleep(0.005)
    if row % 2 == 1 and row < 60:
        raise ValueError('odd')
    return question
",
    );
    let mut running = job.start();
    running.wait_for_calls(64);
    running.signal(Signal::KILL);
    running.wait();
    std::fs::write(job.path("gate"), "").unwrap();
    job.resume().expect(3).says("(30 failed, ");
    let status = job.column("status");
    assert_eq!(status.iter().filter(|status| *status == "ok").count(), 170);
    job.resume_with(&["--max-failures", "20%"]).expect(3);
}

#[test]
fn limits_that_were_recorded_are_lifted_by_none() {
    let slow = "async def predict(question):\n    await asyncio.sleep(0.3)\n    return question\n";
    let job = Job::new().questions(3).predictor(slow);
    job.process_with(&["--timeout", "100ms", "--row-timeout", "150ms", "--deadline", "1m", "--retries", "0"])
        .expect(3);
    job.resume_with(&["--row-timeout", "none", "--deadline", "none"]).expect(3);
    job.resume_with(&["--timeout", "none"]).expect(0);
    assert_eq!(job.column("answer"), job.column("question"));
}
